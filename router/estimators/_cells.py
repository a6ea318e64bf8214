"""Categories as cells around centroids: what `clusters` tells queries apart by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from experts.protocols import Vectors
from router.estimators._evidence import Floats, Ints
from router.estimators._sparse import tally


@dataclass(frozen=True, slots=True)
class Clustering:
    """All cells of all clusterings, one below the other: clustering t owns the rows edges[t] to edges[t + 1]."""

    centroids: Vectors
    edges: Ints

    def cosines(self, vectors: Vectors) -> Vectors:
        """Of every query with every centroid, shape (n, cells)."""
        return vectors @ self.centroids.T

    def cells_of(self, vectors: Vectors) -> NDArray[np.int64]:
        """The cell of every query in every clustering, as rows of `centroids`. Shape (n, clusterings)."""
        return self.cells_in(self.cosines(vectors))

    def cells_in(self, cosine: Vectors) -> NDArray[np.int64]:
        """The same from the cosines."""
        out = np.empty((len(cosine), len(self.edges) - 1), np.int64)
        for column, (start, end) in enumerate(pairwise(self.edges.tolist())):
            out[:, column] = cosine[:, start:end].argmax(1)
        return out + self.edges[:-1]

    @staticmethod
    def closeness(cosine: Vectors) -> Floats:
        """Mean cosine with the three nearest centroids, shape (n,)."""
        count = min(3, cosine.shape[1])
        return np.partition(cosine, cosine.shape[1] - count, axis=1)[:, -count:].mean(1).astype(np.float64)

    def sizes(self) -> list[int]:
        """How many cells each clustering has."""
        return [int(b - a) for a, b in zip(self.edges[:-1], self.edges[1:], strict=True)]

    def only(self, which: Sequence[int]) -> Clustering:
        parts = [self.centroids[self.edges[t] : self.edges[t + 1]] for t in which]
        return Clustering(np.concatenate(parts), np.cumsum([0, *(len(part) for part in parts)]))


def by_task(vectors: Vectors, tasks: Sequence[str]) -> Clustering | None:
    """One clustering, a cell a task, each with the direction of its rows' mean; None where there is but one task."""
    names, cell = np.unique(np.asarray(tasks, dtype=np.str_), return_inverse=True)
    if len(names) < 2:
        return None
    sums, _ = tally(cell.astype(np.int64), vectors, len(names))
    length = np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    return Clustering(np.ascontiguousarray(sums / length, np.float32), np.array([0, len(names)]))


def usual_closeness(closeness: Floats) -> tuple[float, float]:
    """The middle of what rows have, and what all but a twentieth of them have."""
    usual, edge = np.quantile(closeness, (0.5, 0.05))
    return float(usual), float(edge)
