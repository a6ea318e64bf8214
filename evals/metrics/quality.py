"""Quality of routers on the same queries, with its noise: macro over tasks and micro, bootstrap, paired tests.

Tables have shape (n, r): one row a query, one column a router, NaN where the outcome is not known. All intervals and
tests are paired: every router is resampled with the same queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEVEL = 0.95
CHUNK = 200


class Interval(NamedTuple):
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Means:
    """Shape (r,), or (resamples, r)."""

    macro: Floats
    micro: Floats


@dataclass(frozen=True, slots=True)
class Versus:
    """A router against another one, query by query. `difference` (macro) with its bootstrap interval; `p` of a
    two-sided sign-flip test of no difference; `wins` and `losses` are queries."""

    difference: float
    ci95: Interval
    wins: int
    losses: int
    ties: int
    p: float


def groups(tasks: Sequence[str]) -> list[NDArray[np.int64]]:
    """The rows of each task, in order of the tasks' names."""
    _, codes = np.unique(np.asarray(tasks, dtype=object).astype(str), return_inverse=True)
    return [np.flatnonzero(codes == code) for code in range(int(codes.max(initial=-1)) + 1)]


def means(table: NDArray[Any], tasks: Sequence[str]) -> Means:
    """Macro (the mean of the tasks' means) and micro (the mean over queries) of every column."""
    values = np.asarray(table, np.float64)
    parts = [_mean(values[rows]) for rows in groups(tasks)]
    return Means(_mean(np.array(parts)), _mean(values))


def bootstrap(table: NDArray[Any], tasks: Sequence[str], *, resamples: int = 1000, seed: int = 0) -> Means:
    """Means of resampled queries, drawn with replacement within each task. Shapes (resamples, r)."""
    values = np.asarray(table, np.float64)
    seen = np.isfinite(values)
    filled = np.where(seen, values, 0.0)
    rng = np.random.default_rng(seed)
    shape = (resamples, values.shape[1])
    macro, known = np.zeros(shape), np.zeros(shape)
    total, count = np.zeros(shape), np.zeros(shape)
    for rows in groups(tasks):
        share = np.full(len(rows), 1 / len(rows))
        for start in range(0, resamples, CHUNK):
            part = slice(start, min(start + CHUNK, resamples))
            weight = rng.multinomial(len(rows), share, size=part.stop - part.start).astype(np.float64)
            sums, counts = weight @ filled[rows], weight @ seen[rows].astype(np.float64)
            total[part] += sums
            count[part] += counts
            macro[part] += np.where(counts > 0, sums / np.maximum(counts, 1), 0)
            known[part] += counts > 0
    return Means(macro / np.maximum(known, 1), total / np.maximum(count, 1))


def interval(draws: Floats) -> Interval:
    """The central LEVEL of draws of one number."""
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


def versus(
    ours: NDArray[Any], theirs: NDArray[Any], tasks: Sequence[str], *, resamples: int = 1000, seed: int = 0
) -> Versus:
    """Two routers' results (n,) on the same queries; queries where either is unknown are left out."""
    gap = np.asarray(ours, np.float64) - np.asarray(theirs, np.float64)
    draws = bootstrap(gap[:, None], tasks, resamples=resamples, seed=seed)
    difference = float(means(gap[:, None], tasks).macro[0])
    known = gap[np.isfinite(gap)]
    wins, losses = int((known > 1e-9).sum()), int((known < -1e-9).sum())
    p = sign_flip(gap, tasks, flips=max(resamples, 1000), seed=seed)
    return Versus(difference, interval(draws.macro[:, 0]), wins, losses, len(known) - wins - losses, p)


def sign_flip(gap: NDArray[Any], tasks: Sequence[str], *, flips: int = 1000, seed: int = 0) -> float:
    """Two-sided p of the macro mean of paired differences under random signs; only differences can change it."""
    weighted = np.zeros(len(gap))
    parts = [rows[np.isfinite(gap[rows])] for rows in groups(tasks)]
    parts = [rows for rows in parts if len(rows)]
    for rows in parts:
        weighted[rows] = gap[rows] / (len(rows) * len(parts))
    differing = weighted[np.abs(weighted) > 1e-15]
    if not len(differing):
        return 1.0
    rng = np.random.default_rng(seed)
    extreme, bound = 0, abs(differing.sum()) - 1e-12
    for start in range(0, flips, CHUNK):
        signs = rng.integers(0, 2, size=(min(CHUNK, flips - start), len(differing)), dtype=np.int8) * 2.0 - 1.0
        extreme += int((np.abs(signs @ differing) >= bound).sum())
    return (extreme + 1) / (flips + 1)


def _mean(values: Floats) -> Floats:
    """Means of the columns over what is known, NaN where nothing is."""
    seen = np.isfinite(values)
    count = seen.sum(0)
    return np.where(count > 0, np.where(seen, values, 0).sum(0) / np.maximum(count, 1), np.nan)
