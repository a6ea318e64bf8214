"""Whether passages are worth their price: "none" is one of the options, and it is free.

Fitted on outcomes with and without passages: the score of a query under either is the mean over measured queries, each
weighed by exp((cosine - 1) / width), shrunk to the overall mean; the width is the one that predicts left-out queries
best. Passages are looked up where the gain exceeds the price of their tokens.

A search costs no tokens and a few milliseconds, and tells more than the query does: whether there is anything about it.
So where what was found for the measured queries predicts their left-out scores better (`sighted`), every query is
searched, and what is found decides whether it goes into the prompt: the weights above have another factor,
exp(-|z - z'|^2 / (2 spread^2)), z what each way of searching says of the best passage, standardised.

The arithmetic is ExpertRAG's (arXiv 2504.08744): cost = cost of the gate + P(retrieve) x cost of retrieval + k x cost
of an expert, beside the same with P = 1 (always) and P = 0 (never), neither of which has a gate. The gate costs no
tokens but time; retrieval costs time, and tokens in the prompts of all k experts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import orjson
from numpy.typing import NDArray

from experts.errors import ConfigError
from experts.language import Passage
from experts.protocols import Encoder, Vectors
from router.texts import Vector, encode_prompts

WIDTHS = (0.01, 0.02, 0.04, 0.08, 0.16)
SPREADS = (0.3, 0.6, 1.2)
MOST_SEEN = 2_000
"""Measured queries that a gate compares with by what was found, at most."""
PRIOR = 0.05
"""Weight of the overall mean: that of a query which is a little away."""

Floats = NDArray[np.float32]


class Verdict(NamedTuple):
    """`without` and `using`: expected scores without and with passages, None where not known. `price`: the gain that
    the passages' expected tokens, and the time of a search, must bring. `share`: how often this gate retrieves, on
    what it was fitted on.
    """

    retrieve: bool
    reason: str
    without: float | None = None
    using: float | None = None
    price: float = 0.0
    share: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Sight:
    """What was found for measured queries. `ways`: of searching; `center`, `scale`: of what they say; `points`
    (n, ways), standardised; `vectors` (n, d); `scores` (n, 2)."""

    ways: tuple[str, ...]
    center: Floats
    scale: Floats
    points: Floats
    vectors: Vectors
    scores: Floats
    width: float = inf
    spread: float = SPREADS[0]

    def point(self, passage: Passage | None) -> Floats:
        """(ways,): a way that says nothing of it, and no passage at all, stand at the least that was seen."""
        raw = _says(self.ways, passage.ways if passage is not None else {})
        return np.where(np.isnan(raw), self.points.min(0), (raw - self.center) / self.scale).astype(np.float32)

    def expected(self, vector: Vector, passage: Passage | None) -> tuple[float, float]:
        """Scores without and with passages."""
        far = _apart(self.point(passage)[None, :], self.points, self.spread)
        without, using = _expected(vector[None, :], self.vectors, self.scores, self.width, far)[0].tolist()
        return without, using


@dataclass(frozen=True, slots=True, eq=False)
class Gate:
    """`vectors` (n, d) and `scores` (n, 2), without and with passages; n = 0 where nothing was measured.

    `price`: of a thousand tokens. `tokens`: expected tokens of the passages. `sight`: what is found decides.
    """

    mode: str
    price: float
    tokens: float
    confidence: float
    vectors: Vectors
    scores: Floats
    width: float = WIDTHS[0]
    share: float | None = None
    sight: Sight | None = None

    @property
    def fitted(self) -> bool:
        return len(self.scores) > 0

    def foreseen(self, vector: Vector | None) -> tuple[float, float] | None:
        """Expected scores without and with passages; None where nothing was measured, or nothing is to be weighed."""
        if self.mode != "auto" or not self.fitted or vector is None:
            return None
        without, using = _expected(vector[None, :], self.vectors, self.scores, self.width)[0].tolist()
        return without, using

    def decide(self, vector: Vector | None, quality: float | None, waiting: float = 0.0) -> Verdict:
        """`vector`: the query's; `quality`: what the estimator expects of the chosen expert without passages;
        `waiting`: the gain that the time of a search must bring."""
        price = self.price * self.tokens / 1000 + waiting
        if self.mode != "auto":
            return Verdict(self.mode == "always", f"the route's gate is {self.mode}", price=price)
        known = self.foreseen(vector)
        if known is not None:
            without, using = known
            gains = using - without > price
            why = f"expected gain {using - without:+.3f}, price {price:.3f}"
            return Verdict(gains, why, round(without, 4), round(using, 4), price, self.share)
        if quality is None:
            return Verdict(True, "nothing is known of the answer without passages", price=price)
        sure = quality >= self.confidence
        why = f"expected quality {quality:.3f}, passages below {self.confidence:g}"
        return Verdict(not sure, why, without=round(quality, 4), price=price)

    def weigh(self, vector: Vector, passage: Passage | None) -> Verdict:
        """Whether what was found is worth its price; `passage`: the best one. Only of a gate with a `sight`."""
        assert self.sight is not None
        price = self.price * self.tokens / 1000
        without, using = self.sight.expected(vector, passage)
        why = f"by what was found, expected gain {using - without:+.3f}, price {price:.3f}"
        return Verdict(using - without > price, why, round(without, 4), round(using, 4), price, self.share)


def fit_gate(
    mode: str, price: float, tokens: float, confidence: float, outcomes: Path | None, encoder: Encoder | None
) -> Gate:
    """Blocking: embeds the outcomes. Raises ConfigError for a file that cannot be read, naming the line."""
    none = np.zeros((0, encoder.dimensions if encoder else 1), np.float32)
    empty = Gate(mode, price, tokens, confidence, none, np.zeros((0, 2), np.float32))
    if mode != "auto" or outcomes is None or encoder is None:
        return empty
    texts, scores = read_outcomes(outcomes)
    vectors = encode_prompts(encoder, [[text] for text in texts])
    width = min(WIDTHS, key=lambda width: _left_out_error(vectors, scores, width))
    left_out = _expected(vectors, vectors, scores, width, left_out=True)
    share = float(np.mean(left_out[:, 1] - left_out[:, 0] > price * tokens / 1000))
    return Gate(mode, price, tokens, confidence, vectors, scores, width, round(share, 4))


def sighted(gate: Gate, best: Sequence[Passage | None]) -> Gate:
    """The gate with a sight, where that predicts left-out scores better. `best`: the best passage that was found for
    each measured query, in their order; only those of which a way of searching says something are compared with."""
    rows = np.array([row for row, one in enumerate(best) if one is not None and one.ways], np.int64)
    if len(rows) < max(2, len(gate.scores) / 2):
        return gate
    if len(rows) > MOST_SEEN:
        rows = rows[np.linspace(0, len(rows) - 1, MOST_SEEN).astype(np.int64)]
    picked: list[int] = rows.tolist()
    said = [passage.ways for row in picked if (passage := best[row]) is not None]
    ways = tuple(sorted({way for one in said for way in one}))
    raw = np.stack([_says(ways, one) for one in said])
    center, scale = np.nanmean(raw, 0), np.maximum(np.nanstd(raw, 0), 1e-6)
    points = (raw - center) / scale
    points = np.where(np.isnan(points), np.nanmin(points, 0), points).astype(np.float32)
    vectors, scores = gate.vectors[rows], gate.scores[rows]
    apart = {spread: _apart(points, points, spread) for spread in SPREADS}
    tried = [(_left_out_error(vectors, scores, width, apart[spread]), width, spread)
             for width in (*WIDTHS, inf) for spread in SPREADS]  # fmt: skip
    error, width, spread = min(tried)
    if error >= _left_out_error(vectors, scores, gate.width):
        return gate
    left_out = _expected(vectors, vectors, scores, width, apart[spread], left_out=True)
    share = float(np.mean(left_out[:, 1] - left_out[:, 0] > gate.price * gate.tokens / 1000))
    sight = Sight(ways, center, scale, points, vectors, scores, width, spread)
    return replace(gate, sight=sight, share=round(share, 4))


def read_outcomes(path: Path) -> tuple[list[str], Floats]:
    """Queries, and their scores without and with passages, (n, 2). Raises ConfigError."""
    texts: list[str] = []
    scores: list[tuple[float, float]] = []
    try:
        lines = path.read_bytes().splitlines()
    except OSError as fault:
        raise ConfigError(f"{path}: the gate's outcomes cannot be read: {fault.strerror}") from fault
    for number, line in enumerate(lines, 1):
        try:
            row = cast(dict[str, Any], orjson.loads(line))
            texts.append(str(row["query"]))
            scores.append((float(row["without"]), float(row["with"])))
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as fault:
            raise ConfigError(f"{path}:{number}: expected `query`, `without` and `with`, got {line[:80]!r}") from fault
    if not texts:
        raise ConfigError(f"{path}: expected outcomes of answers with and without passages, found none")
    return texts, np.array(scores, np.float32)


def _says(ways: Sequence[str], said: Mapping[str, float]) -> Floats:
    return np.array([said.get(way, np.nan) for way in ways], np.float32)


def _apart(asked: Floats, known: Floats, spread: float) -> Floats:
    """Shape (len(asked), len(known)): minus the squared distance, by 2 spread^2."""
    square = (asked**2).sum(1)[:, None] + (known**2).sum(1)[None, :] - 2 * asked @ known.T
    return -np.maximum(square, 0.0) / (2 * spread**2)


def _expected(
    asked: Vectors, known: Vectors, scores: Floats, width: float, apart: Floats | float = 0.0, *, left_out: bool = False
) -> Floats:
    """Shape (len(asked), 2). `apart`: the exponent of a further factor; `left_out`: no row may use itself."""
    weights = np.exp((np.minimum(asked @ known.T, 1.0) - 1.0) / width + apart)
    if left_out:
        np.fill_diagonal(weights, 0.0)
    total = weights.sum(1, keepdims=True)
    return ((weights @ scores + PRIOR * scores.mean(0)) / (total + PRIOR)).astype(np.float32)


def _left_out_error(vectors: Vectors, scores: Floats, width: float, apart: Floats | float = 0.0) -> float:
    return float(((_expected(vectors, vectors, scores, width, apart, left_out=True) - scores) ** 2).mean())


def arithmetic(
    verdict: Verdict, usd: float, prompt: float, passages: float, prices: Sequence[float], gate_ms: float,
    search_ms: float, *, sighted: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """What never, always and this gate are expected to cost: prompt tokens and USD of all k experts that the plan
    seats, and milliseconds before the first of them is asked.

    `usd`: of their calls without passages, of a cascade's of all its steps; `prompt`, `passages`: tokens; `prices`: USD
    per million prompt tokens, one an expert; `sighted`: every query is searched, and what is found decides.
    """
    share = verdict.share if verdict.share is not None else float(verdict.retrieve)
    shares = {"never": 0.0, "always": 1.0, "gate": share}
    waits = {"never": 0.0, "always": search_ms, "gate": gate_ms + (1.0 if sighted else share) * search_ms}
    more = sum(prices) * passages / 1e6
    return {
        "retrieval_share": share,
        "experts": len(prices),
        "prompt_tokens": {name: round(len(prices) * (prompt + p * passages), 1) for name, p in shares.items()},
        "cost_usd": {name: round(usd + p * more, 9) for name, p in shares.items()},
        "ms": {name: round(value, 2) for name, value in waits.items()},
    }
