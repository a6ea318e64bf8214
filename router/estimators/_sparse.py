"""Weighted sums over a few rows of a table each, through scipy's sparse matrices: nothing loops in Python."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from router.estimators._evidence import Floats, Ints
from router.plan import Matrix


def gather(near: Ints, weights: NDArray[Any], table: NDArray[Any]) -> Floats:
    """Row i is the sum over k of weights[i, k] * table[near[i, k]]. Shapes (n, k), (n, k), (m, e) -> (n, e)."""
    return np.asarray(_sparse(near, weights, len(table)) @ table, np.float64)


def scatter(near: Ints, weights: NDArray[Any], table: NDArray[Any], size: int) -> Floats:
    """Row c is the sum of weights[i, k] * table[i] over all near[i, k] == c. Shape (size, e)."""
    return np.asarray(_sparse(near, weights, size).T @ table, np.float64)


def tally(cell: Ints, scores: Matrix, size: int) -> tuple[Floats, Floats]:
    """Sums and counts of the scores (n, e) by cell (n,), shape (size, e); a missing score counts nothing."""
    seen = np.isfinite(scores)
    one = np.ones((len(cell), 1))
    filled = np.where(seen, scores, 0).astype(np.float64)
    return scatter(cell[:, None], one, filled, size), scatter(cell[:, None], one, seen.astype(np.float64), size)


def _sparse(near: Ints, weights: NDArray[Any], width: int) -> Any:
    from scipy.sparse import csr_matrix

    rows, count = near.shape
    starts = np.full(rows + 1, count, np.int64).cumsum() - count
    entries: Any = (weights.ravel(), near.ravel(), starts)
    return csr_matrix(entries, shape=(rows, width))
