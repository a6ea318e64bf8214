"""`clusters`: which category a query belongs to, and how each expert did in that category.

Source: Composition of Experts (arXiv 2412.01868): the best expert of a query is too jittery a label to learn, so a
query is first given a category, and a table says how good each expert is in it. Categories are k-means cells of the
query vectors, as in the Avengers (arXiv 2505.19797), or given ones. A single clustering depends on its seed and on the
number of cells; here several of both are averaged, the numbers of cells being those with the least held-out error, and
every cell is shrunk toward the experts' means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from experts.language import Card
from experts.protocols import Vectors
from router.estimators import _files
from router.estimators._cells import Clustering, by_task, usual_closeness
from router.estimators._evidence import (
    Floats,
    Ints,
    effects,
    estimates,
    joined,
    joining,
    known_rows,
    merged,
    vectors_of,
)  # fmt: skip
from router.estimators._shrink import Shrinkage, best_shrinkage, cells, contrast_error
from router.estimators._sparse import tally
from router.outcomes import Outcomes
from router.plan import Estimates, Matrix, Queries
from router.protocols import Parts

FOLDS = 5
FEWEST = 3
"""Rows up to which nothing can be said of how alike they are: a query is compared with the three nearest."""


class Options(BaseModel):
    """`categories`: `cells` of k-means, or the `tasks` of the outcomes (labels are read when fitting only: a query
    belongs to the task whose mean vector is nearest). `sizes`: numbers of cells tried; `keep`: how many of them, by
    held-out error, are averaged; `seeds`: how many clusterings of each; `rows_per_cell`: sizes that would leave fewer
    rows to a cell are not tried; `settled`: rows from which the cells stay as they are: with fewer, all rows are kept
    and clustered anew when they have doubled."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    categories: Literal["cells", "tasks"] = "cells"
    sizes: tuple[int, ...] = (8, 16, 24, 32, 48, 64)
    keep: int = Field(default=4, ge=1)
    seeds: int = Field(default=3, ge=1)
    iterations: int = Field(default=12, ge=1)
    rows_per_cell: int = Field(default=12, ge=1)
    settled: int = Field(default=2000, ge=0)


class Clusters:
    uses_vectors = True

    def __init__(self, options: Options, seed: int) -> None:
        self._options = options
        self._seed = seed
        self._experts: tuple[str, ...] = ()
        self._effects = effects(Outcomes.empty(()))
        self._clustering: Clustering | None = None
        self._sums = self._counts = np.zeros((0, 0))
        self._shrink = Shrinkage()
        self._closeness = (1.0, 0.0)
        self._kept = Outcomes.empty(())
        self._clustered = 0
        self._table = self._settled()

    def fit(self, cards: Sequence[Card], outcomes: Outcomes) -> None:
        rows = known_rows(outcomes.for_experts([card.name for card in cards]))
        self._learn(rows, np.arange(len(rows), dtype=np.int64) % FOLDS)

    def crossfit(self, cards: Sequence[Card], outcomes: Outcomes, folds: Ints) -> Floats:
        """Fits, and returns quality (n, e) of the outcomes' own rows, each estimated without rows of its fold.

        Every row must hold a score. Cells come from all rows' vectors; no row's score reaches its own estimate.
        """
        rows = outcomes.for_experts([card.name for card in cards])
        self._learn(rows, folds)
        if self._clustering is None:
            return np.broadcast_to(self._effects.mean, rows.scores.shape).astype(np.float64)
        cell = self._clustering.cells_of(vectors_of(rows, "clusters"))
        total = np.zeros(rows.scores.shape)
        for column in range(cell.shape[1]):
            sums, counts = self._without_own_fold(cell[:, column], rows.scores, folds)
            total += cells(sums, counts, self._effects.mean, self._shrink)[0]
        return total / cell.shape[1]

    def update(self, outcomes: Outcomes) -> None:
        rows = known_rows(outcomes.for_experts(self._experts))
        if not len(rows):
            return
        if self._clustered < self._options.settled:
            self._kept = joined(self._kept, rows)
            if self._clustering is None or len(self._kept) >= 2 * self._clustered:
                self._learn(self._kept, np.arange(len(self._kept), dtype=np.int64) % FOLDS)
                return
        sums, counts = self._tally(rows)
        self._sums, self._counts = self._sums + sums, self._counts + counts
        self._effects = merged(self._effects, effects(rows))
        self._table = self._settled()

    def add(self, card: Card, outcomes: Outcomes) -> None:
        rows, self._effects = joining(self._effects, self._experts, card.name, outcomes, self.estimate)
        self._experts = (*self._experts, card.name)
        if self._clustered < self._options.settled:
            wider = self._kept.for_experts(self._experts)
            self._kept = joined(wider, known_rows(outcomes.for_experts([card.name])).for_experts(self._experts))
        sums, counts = self._tally(rows)
        self._sums, self._counts = np.hstack([self._sums, sums]), np.hstack([self._counts, counts])
        self._table = self._settled()

    def estimate(self, queries: Queries) -> Estimates:
        return self.placed(queries)[0]

    def placed(self, queries: Queries) -> tuple[Estimates, Floats]:
        """The estimates; and how much each query is like those with outcomes, shape (n,): 1 within their usual
        closeness to the cells (to the rows, where these are too few for cells), and falling to 0 far outside."""
        if self._clustering is None:
            shape = (len(queries), len(self._experts))
            found = estimates(
                self._experts, np.broadcast_to(self._effects.mean, shape), np.broadcast_to(self._effects.error, shape),
                self._effects, ("too few outcomes for categories",),
            )  # fmt: skip
            return found, self._near_rows(queries)
        cosine = self._clustering.cosines(vectors_of(queries, "clusters"))
        cell = self._clustering.cells_in(cosine)
        mean = self._table[cell[:, 0]]
        for column in range(1, cell.shape[1]):
            mean += self._table[cell[:, column]]
        mean /= np.float32(cell.shape[1])
        quality, squares, known = np.split(mean, 3, axis=1)
        spread = np.maximum(quality * (1 - quality), np.float32(0.02)) / (known + np.float32(self._shrink.specialty))
        spread += np.maximum(squares - quality**2, 0)
        note = f"{cell.shape[1]} clusterings; cells " + ", ".join(map(str, self._clustering.sizes()))
        found = estimates(self._experts, quality, np.sqrt(spread), self._effects, (note,))
        return found, self._familiar(Clustering.closeness(cosine))

    def _familiar(self, closeness: Floats) -> Floats:
        usual, edge = self._closeness
        far = edge - 1.25 * (usual - edge)
        return np.minimum(np.maximum((closeness - far) / max(edge - far, 1e-6), 0), 1)

    def _near_rows(self, queries: Queries) -> Floats:
        """Without cells, how much each query is like the rows themselves; not at all where there is next to none."""
        if len(self._kept) <= FEWEST:
            return np.zeros(len(queries))
        rows = vectors_of(self._kept, "clusters")
        return self._familiar(Clustering.closeness(vectors_of(queries, "clusters") @ rows.T))

    def save(self, folder: Path) -> None:
        arrays = _files.arrays_of(self._effects) | {"sums": self._sums, "counts": self._counts}
        if self._clustering is not None:
            arrays |= {"centroids": self._clustering.centroids, "edges": self._clustering.edges}
        arrays |= {f"kept_{key}": array for key, array in _files.table_arrays(self._kept).items()}
        state = {"experts": self._experts, "ids": self._kept.ids, "clustered": self._clustered,
                 "shrink": asdict(self._shrink), "closeness": self._closeness}  # fmt: skip
        _files.write(folder, "clusters", state, arrays)

    def load(self, folder: Path) -> None:
        state, arrays = _files.read(folder, "clusters")
        self._experts, self._shrink = tuple(state["experts"]), Shrinkage(**state["shrink"])
        self._sums, self._counts = arrays["sums"], arrays["counts"]
        usual, edge = state["closeness"]
        self._closeness = (usual, edge)
        prefix = "kept_"
        kept = {key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)}
        self._kept, self._clustered = _files.table_of(state, kept), int(state["clustered"])
        self._effects = _files.effects_of(arrays)
        self._clustering = Clustering(arrays["centroids"], arrays["edges"]) if "centroids" in arrays else None
        self._table = self._settled()

    def _learn(self, rows: Outcomes, folds: Ints) -> None:
        self._experts, self._effects, self._clustering = rows.experts, effects(rows), None
        self._clustered = len(rows)
        self._kept = rows if len(rows) < self._options.settled else Outcomes.empty(rows.experts)
        self._sums = self._counts = np.zeros((0, len(rows.experts)))
        every = self._categories(rows) if len(rows) else None
        if every is None:
            if len(rows) > FEWEST:
                vectors = vectors_of(rows, "clusters")
                cosine = vectors @ vectors.T
                np.fill_diagonal(cosine, -1)
                self._closeness = usual_closeness(Clustering.closeness(cosine))
            return
        self._clustering = self._choose(every, rows, folds)
        self._sums, self._counts = self._tally(rows)
        cosine = self._clustering.cosines(vectors_of(rows, "clusters"))
        self._closeness = usual_closeness(Clustering.closeness(cosine))
        self._table = self._settled()

    def _settled(self) -> Matrix:
        """Of every cell the shrunken quality of every expert, its square, and how many rows say so: (cells, 3 e)."""
        quality = cells(self._sums, self._counts, self._effects.mean, self._shrink)[0]
        return np.hstack([quality, quality**2, self._counts]).astype(np.float32)

    def _categories(self, rows: Outcomes) -> Clustering | None:
        """What rows may be told apart by; None where that is nothing."""
        vectors = vectors_of(rows, "clusters")
        if self._options.categories == "tasks":
            return by_task(vectors, rows.tasks)
        sizes = [size for size in self._options.sizes if size * self._options.rows_per_cell <= len(rows)]
        return self._cluster(vectors, sizes) if sizes else None

    def _cluster(self, vectors: Vectors, sizes: Sequence[int]) -> Clustering:
        import faiss

        found: list[Vectors] = []
        for size in sizes:
            for turn in range(self._options.seeds):
                means = faiss.Kmeans(
                    vectors.shape[1], size, niter=self._options.iterations, seed=self._seed + turn + 1,
                    spherical=True, min_points_per_centroid=1,
                )  # fmt: skip
                means.train(vectors)  # pyright: ignore
                found.append(np.asarray(means.centroids, np.float32).reshape(size, -1).copy())
        return Clustering(np.concatenate(found), np.cumsum([0, *(len(part) for part in found)]))

    def _choose(self, every: Clustering, rows: Outcomes, folds: Ints) -> Clustering:
        """The clusterings of the `keep` sizes with the least held-out error, and the shrinkage that goes with them."""
        cell = every.cells_of(vectors_of(rows, "clusters"))
        scores, prior = rows.scores.astype(np.float64), self._effects.mean
        held = [self._without_own_fold(cell[:, t], rows.scores, folds) for t in range(cell.shape[1])]
        middle = held[len(held) // 2]
        self._shrink = best_shrinkage(*middle, scores, prior)
        sizes = every.sizes()
        errors: dict[int, float] = {}
        for size in dict.fromkeys(sizes):
            alike = [pair for pair, its in zip(held, sizes, strict=True) if its == size]
            tables = [cells(sums, counts, prior, self._shrink)[0] for sums, counts in alike]
            errors[size] = contrast_error(np.mean(tables, axis=0), scores)
        kept = sorted(errors, key=lambda size: errors[size])[: self._options.keep]
        return every.only([t for t, size in enumerate(sizes) if size in kept])

    def _without_own_fold(self, cell: Ints, scores: NDArray[np.float32], folds: Ints) -> tuple[Floats, Floats]:
        """Sums and counts of each row's cell over the other folds' rows. Shape (n, e) each."""
        low = int(cell.min())
        local, size = cell - low, int(cell.max()) - low + 1
        parts = int(folds.max()) + 1
        sums, counts = tally(folds * size + local, scores, parts * size)
        shape = (parts, size, scores.shape[1])
        by_fold, counted = sums.reshape(shape), counts.reshape(shape)
        return (by_fold.sum(0) - by_fold)[folds, local], (counted.sum(0) - counted)[folds, local]

    def _tally(self, rows: Outcomes) -> tuple[Floats, Floats]:
        size = 0 if self._clustering is None else len(self._clustering.centroids)
        if self._clustering is None or not len(rows):
            nothing = np.zeros((size, rows.scores.shape[1]))
            return nothing, nothing
        cell = self._clustering.cells_of(vectors_of(rows, "clusters"))
        pairs = [tally(cell[:, t], rows.scores, size) for t in range(cell.shape[1])]
        return np.sum([sums for sums, _ in pairs], axis=0), np.sum([counts for _, counts in pairs], axis=0)


def build(options: Options, parts: Parts) -> Clusters:
    return Clusters(options, parts.seed)
