"""What the estimators share: the table of outcomes they learn from, and each expert's effects."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
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

    The mean is a two-way additive fit, so that an expert that was asked only hard questions is not held to be weak.
    It is shrunk toward the mean of all experts with the weight of two outcomes.
    """

    mean: Floats
    error: Floats
    count: Floats
    tokens: Floats
    latency_ms: Floats

    @property
    def best(self) -> int:
        """The best single expert on the evidence, -1 where there is none."""
        if not self.count.any():
            return -1
        return int(np.argmax(np.where(self.count > 0, self.mean - 0.5 * self.error, -np.inf)))


PRIOR_WEIGHT = 2.0


def effects(outcomes: Outcomes) -> Effects:
    scores = outcomes.scores.astype(np.float64)
    seen = np.isfinite(scores)
    filled = np.where(seen, scores, 0.0)
    count = seen.sum(0).astype(np.float64)
    rows = np.maximum(seen.sum(1), 1)
    total = filled.sum() / max(count.sum(), 1.0) if count.any() else UNKNOWN_QUALITY
    column = np.where(count > 0, filled.sum(0) / np.maximum(count, 1), total)
    if count.any() and not seen[:, count > 0].all():
        column = _additive(filled, seen, column, rows, count, total)
    mean = (count * column + PRIOR_WEIGHT * total) / (count + PRIOR_WEIGHT)
    spread = np.clip(mean * (1 - mean), 0.02, None)
    error = np.where(count > 0, np.sqrt(spread / (count + PRIOR_WEIGHT)), UNKNOWN_SPREAD)
    return Effects(np.clip(mean, 0, 1), error, count, column_means(outcomes.tokens), column_means(outcomes.latency_ms))


def _additive(
    filled: Floats, seen: NDArray[np.bool_], column: Floats, rows: Ints, count: Floats, total: float
) -> Floats:
    """Two-way effects where cells are missing: alternate row and column means, rows shrunk by one outcome."""
    for _ in range(20):
        row = (filled - np.where(seen, column, 0)).sum(1) / (rows + 1.0)
        column = np.where(count > 0, (filled - np.where(seen, row[:, None], 0)).sum(0) / np.maximum(count, 1), total)
    return column


def column_means(table: Matrix) -> Floats:
    """Means of the columns over what is known, NaN where nothing is. Shape (e,)."""
    seen = np.isfinite(table)
    count = seen.sum(0)
    sums = np.where(seen, table, 0).sum(0, dtype=np.float64)
    return np.where(count > 0, sums / np.maximum(count, 1), np.nan)


def merged(old: Effects, new: Effects) -> Effects:
    """The same experts' effects on both evidences, weighted by their counts."""
    total = np.maximum(old.count + new.count, 1e-9)
    share = np.where(old.count + new.count > 0, new.count / total, 0.0)

    def mix(a: Floats, b: Floats) -> Floats:
        return np.where(np.isnan(a), b, np.where(np.isnan(b), a, a + share * (b - a)))

    error = old.error * np.sqrt((old.count + 1) / (old.count + new.count + 1))
    return Effects(
        mix(old.mean, new.mean), error, old.count + new.count, mix(old.tokens, new.tokens),
        mix(old.latency_ms, new.latency_ms),
    )  # fmt: skip


def beside(old: Effects, new: Effects) -> Effects:
    """Other experts' effects, as more columns."""
    names = ("mean", "error", "count", "tokens", "latency_ms")
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
        first.experts, **tables, vectors=vectors,
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


def fold_of(texts: Sequence[str], folds: int) -> Ints:
    """A fold for every row by a hash of its text: equal texts are never on both sides of a split."""
    return np.array(
        [int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest()) % folds for text in texts], np.int64
    )


def batches(rows: int, size: int) -> Iterator[slice]:
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))


def estimates(
    experts: Sequence[str], quality: Floats | Matrix, uncertainty: Floats | Matrix, known: Effects,
    notes: Sequence[str] = (), tokens: Floats | None = None, default: int | None = None,
) -> Estimates:  # fmt: skip
    """Estimates from (n, e) arrays, quality cut to 0..1, tokens and latency from the experts' means."""
    shape = quality.shape

    def table(values: Floats) -> Matrix:
        return np.ascontiguousarray(np.broadcast_to(values, shape), np.float32)

    return Estimates(
        tuple(experts), np.clip(quality, 0, 1).astype(np.float32),
        np.ascontiguousarray(np.broadcast_to(uncertainty, shape), np.float32),
        table(known.tokens if tokens is None else tokens), table(known.latency_ms),
        known.best if default is None else default, tuple(notes),
    )  # fmt: skip
