"""What the estimators share: the table of outcomes they learn from, and each expert's effects."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experts.errors import ConfigError
from experts.protocols import Vectors
from router.outcomes import Outcomes
from router.plan import Estimates, Matrix, Queries

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

UNKNOWN_QUALITY = 0.5
UNKNOWN_SPREAD = 0.29
"""Mean and standard deviation of a quality of which nothing is known: uniform on 0 to 1."""


@dataclass(frozen=True, slots=True)
class Effects:
    """Per expert: mean score, standard error of it, mean tokens and latency, and how many outcomes. Shape (e,).

    `raw` is what was measured, `mean` what is believed: see `effects`.
    """

    mean: Floats
    error: Floats
    count: Floats
    tokens: Floats
    latency_ms: Floats
    raw: Floats

    @property
    def best(self) -> int:
        """The best single expert on the evidence, -1 where there is none: the highest mean less its standard error,
        so that an expert with few outcomes does not replace one with many on a lucky start."""
        if not self.count.any():
            return -1
        return int(np.argmax(np.where(self.count > 0, self.mean - self.error, -np.inf)))


PRIOR_WEIGHT = 10.0
"""How many outcomes the mean of all is worth where the noise of an expert's own is guessed: three of three right are no
proof of a sure hand."""
LEAST_SPREAD = 0.03
"""Standard deviation of the experts' true means that is always held possible."""
ROW_WEIGHT = 0.1
"""How many outcomes the prior of a row's difficulty is worth, next to none: see `_two_way`."""


def effects(outcomes: Outcomes) -> Effects:
    """Means of the experts, compared on the rows that they share and shrunk toward each other.

    Where cells are missing the means are those of a two-way additive fit, so that an expert that was asked only hard
    questions is not held to be weak. Each is then shrunk toward the mean of all by its evidence (empirical Bayes;
    Efron and Morris 1973, with the experts' spread by the moments of DerSimonian and Laird 1986).
    """
    scores = outcomes.scores.astype(np.float64)
    seen = np.isfinite(scores)
    filled = np.where(seen, scores, 0.0)
    count = seen.sum(0).astype(np.float64)
    total = filled.sum() / count.sum() if count.any() else UNKNOWN_QUALITY
    known = count > 0
    raw = np.where(known, filled.sum(0) / np.maximum(count, 1), total)
    if known.any() and not seen[:, known].all():
        raw[known] = _two_way(filled[:, known], seen[:, known])
    mean, error = _believed(raw, count)
    return Effects(mean, error, count, column_means(outcomes.tokens), column_means(outcomes.latency_ms), raw)


CONFIDENCE = 1.645
"""Standard errors of a one-sided bound of 95 %."""


def successor(known: Effects, default: int) -> int:
    """Whom to fall back on after more evidence: the one before, unless another is ahead beyond doubt. -1: nobody."""
    best = known.best
    if default < 0 or best < 0:
        return best
    doubt = CONFIDENCE * float(np.hypot(known.error[best], known.error[default]))
    return best if known.mean[best] - known.mean[default] > doubt else default


def _two_way(filled: Floats, seen: NDArray[np.bool_]) -> Floats:
    """Column effects of least squares on `column + row` where cells are missing, the rows solved for in closed form.

    Rows are hardly shrunk (ROW_WEIGHT): what is asked of whom may depend on how hard it is, and only differences
    within a row are free of that. A row with a single score weighs little, and decides only where nothing else does.
    """
    here = seen.astype(np.float64)
    weight = 1 / (here.sum(1) + ROW_WEIGHT)
    normal = np.diag(here.sum(0)) - here.T @ (weight[:, None] * here)
    target: Floats = filled.sum(0) - here.T @ (weight * filled.sum(1))
    return np.asarray(np.linalg.solve(normal, target), np.float64)


def _believed(raw: Floats, count: Floats) -> tuple[Floats, Floats]:
    """Posterior means and standard deviations of the experts' means, shape (e,) each."""
    known = count > 0
    if not known.any():
        return raw.copy(), np.full_like(raw, UNKNOWN_SPREAD)
    noise = _noise(raw, count, float(np.average(raw[known], weights=count[known])))
    centre, spread = _population(raw[known], noise[known])
    trust = np.where(known, spread / (spread + noise), 0.0)
    error = np.where(known, np.sqrt(trust * noise), UNKNOWN_SPREAD)
    return np.clip(centre + trust * (raw - centre), 0, 1), error


def _noise(raw: Floats, count: Floats, centre: float) -> Floats:
    """The variance of each raw mean, as of right-or-wrong scores."""
    guess = np.clip((count * raw + PRIOR_WEIGHT * centre) / (count + PRIOR_WEIGHT), 0, 1)
    return np.clip(guess * (1 - guess), 0.02, None) / np.maximum(count, 1)


def _population(raw: Floats, noise: Floats) -> tuple[float, float]:
    """Mean and variance of the true means that raw ones with this noise came from."""
    if len(raw) < 2:
        return float(raw[0]), UNKNOWN_SPREAD**2
    weight = 1 / (noise + LEAST_SPREAD**2)
    centre = float(np.average(raw, weights=weight))
    scatter = float(np.average((raw - centre) ** 2, weights=weight)) * len(raw) / (len(raw) - 1)
    spread = max(scatter - float(np.average(noise, weights=weight)), LEAST_SPREAD**2)
    return float(np.average(raw, weights=1 / (noise + spread))), spread


def column_means(table: Matrix) -> Floats:
    """Means of the columns over what is known, NaN where nothing is. Shape (e,)."""
    seen = np.isfinite(table)
    count = seen.sum(0)
    sums = np.where(seen, table, 0).sum(0, dtype=np.float64)
    return np.where(count > 0, sums / np.maximum(count, 1), np.nan)


def merged(old: Effects, new: Effects) -> Effects:
    """The same experts' effects on both evidences, weighted by their counts."""
    count = old.count + new.count
    share = new.count / np.maximum(count, 1e-9)

    def mix(a: Floats, b: Floats) -> Floats:
        return np.where(np.isnan(a), b, np.where(np.isnan(b), a, a + share * (b - a)))

    raw = mix(old.raw, new.raw)
    mean, error = _believed(raw, count)
    return Effects(mean, error, count, mix(old.tokens, new.tokens), mix(old.latency_ms, new.latency_ms), raw)


LUCK = 2.0
"""How many experts' scores the estimate of a row's difficulty is worth beside the scores measured on that row."""


def joining(
    old: Effects, experts: Sequence[str], newcomer: str, outcomes: Outcomes,
    estimate: Callable[[Queries], Estimates],
) -> tuple[Outcomes, Effects]:  # fmt: skip
    """The newcomer's column of the outcomes with the luck of each row taken off, and all effects with its own added.

    What a newcomer is asked first is chosen, not drawn, and little. So its scores are compared with the others' on the
    same rows: where they did better or worse than their estimates, the row was easier or harder than it looks, for the
    newcomer too (a control variate). What then sets it apart is shrunk toward the mean of the experts that are known,
    by its evidence; their own effects stay as they are.
    """
    own = outcomes.for_experts([newcomer])
    keep = np.isfinite(own.scores[:, 0])
    own = own.take(np.flatnonzero(keep))
    known = old.count > 0
    if not len(own) or not known.any():
        alone = effects(own)
        return own, beside(old, alone)
    others = outcomes.for_experts(experts).scores[keep].astype(np.float64)
    seen = np.isfinite(others)
    guess = estimate(Queries(own.texts, own.vectors)).quality.astype(np.float64)
    luck = np.where(seen, others - guess, 0).sum(1) / (seen.sum(1) + LUCK)
    scores = own.scores[:, 0] - luck
    level = (guess[:, known] - old.mean[known]).mean(1)
    count = np.array([float(len(own))])
    raw = np.array([float((scores - level).mean())])
    centre, spread = _population(old.raw[known], _noise(old.raw, old.count, float(old.raw[known].mean()))[known])
    if known.sum() < 2:
        spread = UNKNOWN_SPREAD**2
    noise = _noise(raw, count, centre)
    trust = spread / (spread + noise)
    mean, error = np.clip(centre + trust * (raw - centre), 0, 1), np.sqrt(trust * noise)
    own = replace(own, scores=scores[:, None].astype(np.float32))
    return own, beside(old, Effects(mean, error, count, column_means(own.tokens), column_means(own.latency_ms), raw))


def beside(old: Effects, new: Effects) -> Effects:
    """Other experts' effects, as more entries."""
    names = ("mean", "error", "count", "tokens", "latency_ms", "raw")
    return Effects(**{name: np.concatenate([getattr(old, name), getattr(new, name)]) for name in names})


def known_rows(outcomes: Outcomes) -> Outcomes:
    """Only the rows that hold at least one score."""
    keep = np.isfinite(outcomes.scores).any(1)
    return outcomes if keep.all() else outcomes.take(np.flatnonzero(keep))


def joined(first: Outcomes, second: Outcomes) -> Outcomes:
    """Both tables' rows; the second's columns are put in the first's order. A row of a known id is filled in."""
    second = second.for_experts(first.experts)
    if not len(second):
        return first
    position = {name: row for row, name in enumerate(first.ids)}
    known = [(position[name], row) for row, name in enumerate(second.ids) if name in position]
    if known:
        first = _filled_in(first, second, known)
        second = second.take([row for row, name in enumerate(second.ids) if name not in position])
    tables = {name: np.concatenate([getattr(first, name), getattr(second, name)]) for name in _TABLES}
    vectors = None
    if first.vectors is not None and second.vectors is not None:
        vectors = np.concatenate([first.vectors, second.vectors])
    elif not len(first):
        vectors = second.vectors
    return Outcomes(
        first.ids + second.ids, first.tasks + second.tasks, first.splits + second.splits, first.texts + second.texts,
        first.experts, **tables, vectors=vectors, digests=first.digests + second.digests,
        skills=first.words + second.words,
    )  # fmt: skip


_TABLES = ("scores", "tokens", "cost_usd", "latency_ms")


def _filled_in(first: Outcomes, second: Outcomes, known: Sequence[tuple[int, int]]) -> Outcomes:
    to, of = np.array(known, np.int64).T
    tables: dict[str, Any] = {}
    for name in _TABLES:
        table = getattr(first, name).copy()
        fresh = getattr(second, name)[of]
        table[to] = np.where(np.isfinite(fresh), fresh, table[to])
        tables[name] = table
    return replace(first, **tables)


def vectors_of(queries: Queries | Outcomes, name: str) -> Vectors:
    """The vectors, C-contiguous float32. Raises ConfigError where there are none."""
    if queries.vectors is None:
        raise ConfigError(f"estimator {name!r}: expected query vectors, got none; the route needs an encoder")
    return np.ascontiguousarray(queries.vectors, np.float32)


def fold_of(keys: Sequence[str], folds: int) -> Ints:
    """A fold for every row by a hash of its key: equal texts are never on both sides of a split."""
    return np.array([int.from_bytes(_digest(key)) % folds for key in keys], np.int64)


def _digest(key: str) -> bytes:
    return hashlib.blake2b(key.encode(errors="surrogatepass"), digest_size=4).digest()


def batches(rows: int, size: int) -> Iterator[slice]:
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))


def estimates(
    experts: Sequence[str], quality: Floats | Matrix, uncertainty: Floats | Matrix, known: Effects,
    notes: Sequence[str] = (), tokens: Floats | None = None, default: int | None = None,
) -> Estimates:  # fmt: skip
    """Estimates from (n, e) arrays, quality cut to 0..1, tokens and latency from the experts' means."""
    shape = quality.shape

    def table(values: Floats | Matrix) -> Matrix:
        out = np.empty(shape, np.float32)
        out[...] = values
        return out

    bounded = np.minimum(np.maximum(quality, 0), 1).astype(np.float32)
    return Estimates(
        tuple(experts), bounded, table(uncertainty), table(known.tokens if tokens is None else tokens),
        table(known.latency_ms), known.best if default is None else default, tuple(notes),
    )  # fmt: skip
