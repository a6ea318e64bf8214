"""Fitting what compositions need, on outcomes with recorded answers: the weights of votes, and a cascade's judge.

Estimates of the rows that are fitted on come from estimators that were fitted without them (cross-fitting): what an
estimator says of its own rows is surer than what it will say of others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from experts.language import Card
from router.confidence import Evidence, score
from router.outcomes import CHARS_PER_TOKEN, Outcomes
from router.plan import Estimates, Queries
from router.protocols import Estimator
from router.recorded import Recorded
from router.situation import situation
from router.voting import Floats, Ints
from router.voting_fit import FEWEST, fit
from router.worth import Composing, Scorer

FOLDS = 4
SEATS = 3
"""Experts in a cascade, as its composer has by default."""
MARGIN = 0.005
"""A cascade is to be this much better than the best single expert on the fit split: it will lose some of it."""
FREE = 1e-12
"""A cost of the best single expert from which on shares of it can be told."""


def cross_fitted(outcomes: Outcomes, make: Callable[[Outcomes], Estimator]) -> Estimates:
    """Estimates of every row, by estimators fitted without it. Rows of equal text are in the same fold."""
    fold = np.array([int.from_bytes(blake2b(text.encode(errors="surrogatepass"), digest_size=4).digest()) % FOLDS
                     for text in outcomes.texts])  # fmt: skip
    shape = outcomes.scores.shape
    tables = {name: np.full(shape, np.nan, np.float32) for name in ("quality", "uncertainty", "tokens", "latency_ms")}
    found = None
    for part in sorted(set(fold.tolist())):
        rows, rest = np.flatnonzero(fold == part), np.flatnonzero(fold != part)
        given = outcomes.take(rows)
        found = make(outcomes.take(rest)).estimate(Queries(given.texts, given.vectors))
        for name, table in tables.items():
            table[rows] = getattr(found, name)
    if found is None:
        return Estimates(outcomes.experts, tables["quality"], tables["uncertainty"], tables["tokens"],
                         tables["latency_ms"])  # fmt: skip
    return replace(
        found, quality=tables["quality"], uncertainty=tables["uncertainty"], tokens=tables["tokens"],
        latency_ms=tables["latency_ms"], suitability=None, skills=(), margins=(),
    )  # fmt: skip


def fit_composing(
    cards: Sequence[Card], outcomes: Outcomes, recorded: Recorded, estimates: Estimates, flawed: NDArray[np.bool_],
    *, seed: int = 0,
) -> Composing:  # fmt: skip
    """Everything that compositions of these experts need. `estimates` are `cross_fitted`; `flawed` (n, e): the answer
    shows by itself that it is wrong (`router.confidence.flaw`). Rows, and columns, as those of `outcomes`."""
    quality, scores = estimates.quality.astype(np.float64), outcomes.scores.astype(np.float64)
    voting = fit(recorded.kinds, recorded.groups, quality, scores, outcomes.experts, outcomes.tasks, seed=seed)
    if len(outcomes) < FEWEST or np.isfinite(scores).all(1).sum() < FEWEST:
        return Composing(voting)
    weights = judge_weights(quality, outcomes.tokens, flawed, scores)
    expected = expected_cost(cards, outcomes, estimates)
    whole = np.flatnonzero(np.isfinite(scores).all(1))
    turn = cascade_order(quality[whole], quality[whole].argmax(1), expected[whole])
    sure = surety(quality, outcomes.tokens, flawed, weights)[whole]
    return Composing(voting, _threshold(weights, sure, turn, scores[whole], expected[whole], outcomes.tasks, whole))


def expected_cost(cards: Sequence[Card], outcomes: Outcomes, estimates: Estimates) -> Floats:
    """What each call is expected to cost, (n, e), as a decision sees it."""
    n, e = outcomes.scores.shape
    prompt = np.array([len(text) / CHARS_PER_TOKEN for text in outcomes.texts], np.float32)
    limit, load = np.full(n, np.nan, np.float32), np.zeros(e, np.float32)
    everybody = np.ones((n, e), np.bool_)
    state = situation(cards, estimates, prompt=prompt, limit=limit, load=load, allowed=everybody)
    return state.cost_usd.astype(np.float64)


def judge_weights(quality: Floats, tokens: Any, flawed: NDArray[np.bool_], scores: Floats) -> dict[str, float]:
    """Weights for `router.confidence.score`: logistic regression of every measured score on the evidence."""
    from scipy import optimize

    seen = np.isfinite(scores)
    said = np.nan_to_num(np.asarray(tokens, np.float64))
    target: Floats = scores[seen]
    weak_ones = flawed[seen].astype(np.float64)
    table: Floats = np.stack([np.ones(len(target)), quality[seen], said[seen] / 1000, weak_ones], 1)

    def loss(theta: Floats) -> tuple[float, Floats]:
        logit = table @ theta
        gap = 1 / (1 + np.exp(-logit)) - target
        return (float((np.logaddexp(0, logit) - target * logit).mean() + 1e-4 * (theta @ theta)),
                table.T @ gap / len(gap) + 2e-4 * theta)  # fmt: skip

    minimize: Any = cast(Any, optimize).minimize
    theta: list[float] = np.asarray(minimize(loss, np.zeros(4), jac=True, method="L-BFGS-B").x, np.float64).tolist()
    bias, prior, length, weak = theta
    return {"bias": bias, "prior": prior, "tokens": length / 1000, "weak": weak}


def surety(quality: Floats, tokens: Any, flawed: NDArray[np.bool_], weights: Mapping[str, float]) -> Floats:
    """What a cascade's judge makes of every recorded answer, (n, e)."""
    said = np.nan_to_num(np.asarray(tokens, np.float64))
    cells = zip(quality.ravel().tolist(), said.ravel().tolist(), flawed.ravel().tolist(), strict=True)
    found = [score(Evidence(None, None, prior, length, weak), weights) for prior, length, weak in cells]
    return np.array(found).reshape(quality.shape)


def cascade_order(quality: Floats, first: Ints, cost: Floats, seats: int = SEATS) -> Ints:
    """Who is asked after whom, (n, k) columns: a policy's first choice and the next best, the cheapest first."""
    ahead = quality.copy()
    ahead[np.arange(len(quality)), first] = np.inf
    chosen = np.argsort(-ahead, axis=1, kind="stable")[:, :seats]
    by_cost = np.argsort(np.take_along_axis(cost, chosen, 1), axis=1, kind="stable")
    return np.take_along_axis(chosen, by_cost, 1)


def cascaded(sure: Floats, turn: Ints, threshold: float, flawed: NDArray[np.bool_] | None = None) -> Ints:
    """How many of `turn` were asked, (n,), until an answer was sure enough; the last one always is."""
    enough = np.take_along_axis(sure, turn, 1) >= threshold
    if flawed is not None:
        enough &= ~np.take_along_axis(flawed, turn, 1)
    enough[:, -1] = True
    return enough.argmax(1) + 1


def groups_of(labels: Sequence[str]) -> list[Ints]:
    """The rows of each label, in order of the labels."""
    return [np.flatnonzero([each == name for each in labels]) for name in sorted(set(labels))]


def _threshold(
    weights: Mapping[str, float], sure: Floats, turn: Ints, scores: Floats, cost: Floats, tasks: Sequence[str],
    whole: Ints,
) -> Scorer:  # fmt: skip
    """The cheapest threshold with which the mean over tasks beats the best single expert's by MARGIN; where none does,
    that of the highest mean."""
    parts = groups_of([tasks[int(row)] for row in whole])

    def macro(values: Floats) -> float:
        return float(np.mean([values[part].mean() for part in parts]))

    best = max(range(scores.shape[1]), key=lambda column: macro(scores[:, column]))
    aim, alone = macro(scores[:, best]) + MARGIN, macro(cost[:, best])
    rows = np.arange(len(scores))
    tried: list[tuple[bool, float, float]] = []
    curve: list[tuple[float, float, float]] = []
    paid_up_to: Floats = np.cumsum(np.take_along_axis(cost, turn, 1), axis=1)
    for threshold in np.linspace(0.02, 0.98, 49).round(2).tolist():
        asked = cascaded(sure, turn, threshold)
        got = macro(scores[rows, turn[rows, asked - 1]])
        paid = macro(paid_up_to[rows, asked - 1])
        tried.append((got < aim, paid if got >= aim else -got, threshold))
        if alone > FREE:
            curve.append((threshold, round(paid / alone, 4), round(got, 4)))
    threshold = min(tried)[2]
    first = turn[:, 0]
    kept, right = sure[rows, first] >= threshold, scores[rows, first]
    return Scorer(
        {name: round(value, 8) for name, value in weights.items()}, threshold,
        round(float((kept * right).sum() / max(right.sum(), 1e-9)), 4),
        round(float((kept * (1 - right)).sum() / max((1 - right).sum(), 1e-9)), 4), tuple(curve),
    )  # fmt: skip
