"""`neighbours`: the scores of the most similar queries seen so far, weighted by similarity.

Source: routing toward successful neighbours with a Gaussian kernel (RoMA, arXiv 2511.07419), lifted from experts
inside a model to whole models. The neighbours are found by faiss (exact inner product); their scores are shrunk
toward each expert's mean, so that a query far from everything seen falls back on the best single expert.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from experts.language import Card
from experts.protocols import Vectors
from router.estimators import _files
from router.estimators._evidence import (
    Floats,
    Ints,
    effects,
    estimates,
    joined,
    known_rows,
    vectors_of,
)  # fmt: skip
from router.estimators._shrink import Shrinkage, best_shrinkage, cells
from router.estimators._sparse import gather
from router.outcomes import Outcomes
from router.plan import Estimates, Queries
from router.protocols import Parts


class Options(BaseModel):
    """`neighbours`: how many are asked; `bandwidth`: the cosine distance at which a neighbour counts e^-1/2."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    neighbours: int = Field(default=100, ge=1)
    bandwidth: float = Field(default=0.35, gt=0)
    probe: int = Field(default=2000, ge=10)


class Found(NamedTuple):
    """Rows of the table and their kernel weights, shape (n, k); weight 0 where there is no such neighbour."""

    rows: Ints
    weights: Floats


class Neighbours:
    uses_vectors = True

    def __init__(self, options: Options, seed: int) -> None:
        self._options = options
        self._seed = seed
        self._shrink = Shrinkage()
        self._index: Any = None
        self._learn(Outcomes.empty(()))

    def fit(self, cards: Sequence[Card], outcomes: Outcomes) -> None:
        self._learn(known_rows(outcomes.for_experts([card.name for card in cards])))
        self._shrink = self._choose_shrinkage()

    def crossfit(self, cards: Sequence[Card], outcomes: Outcomes, folds: Ints) -> Floats:
        """Fits, and returns quality (n, e) of the outcomes' own rows, each estimated without rows of its fold.

        Every row must hold a score.
        """
        self.fit(cards, outcomes)
        found = self._search(vectors_of(outcomes, "neighbours"), folds)
        return self._quality(found)[0]

    def update(self, outcomes: Outcomes) -> None:
        self._learn(joined(self._seen, known_rows(outcomes.for_experts(self._seen.experts))))

    def add(self, card: Card, outcomes: Outcomes) -> None:
        wider = self._seen.for_experts((*self._seen.experts, card.name))
        self._learn(joined(wider, known_rows(outcomes.for_experts(wider.experts))))

    def estimate(self, queries: Queries) -> Estimates:
        if not len(self._seen):
            shape = (len(queries), len(self._seen.experts))
            return estimates(
                self._seen.experts, np.broadcast_to(self._effects.mean, shape),
                np.broadcast_to(self._effects.error, shape), self._effects, ("no outcomes",),
            )  # fmt: skip
        quality, evidence = self._quality(self._search(vectors_of(queries, "neighbours"), None))
        spread = np.clip(quality * (1 - quality), 0.02, None)
        error = np.sqrt(spread / (evidence + self._shrink.specialty))
        note = f"up to {self._options.neighbours} neighbours among {len(self._seen)} outcomes"
        return estimates(self._seen.experts, quality, error, self._effects, (note,))

    def save(self, folder: Path) -> None:
        seen = self._seen
        state = {"experts": seen.experts, "ids": seen.ids, "shrink": asdict(self._shrink)}
        _files.write(folder, "neighbours", state, _files.table_arrays(seen))

    def load(self, folder: Path) -> None:
        state, arrays = _files.read(folder, "neighbours")
        self._shrink = Shrinkage(**state["shrink"])
        self._learn(_files.table_of(state, arrays))

    def _learn(self, seen: Outcomes) -> None:
        self._seen = seen
        self._effects = effects(seen)
        scores = seen.scores.astype(np.float32)
        mask = np.isfinite(scores)
        self._filled = np.where(mask, scores, 0).astype(np.float32)
        self._mask = None if mask.all() else mask.astype(np.float32)
        self._index = _index_of(vectors_of(seen, "neighbours")) if len(seen) else None

    def _search(self, vectors: Vectors, folds: Ints | None) -> Found:
        """Neighbours with their weights. With `folds` the queries are the table's rows: same-fold rows weigh 0."""
        count = min(self._options.neighbours * (1 if folds is None else 2), len(self._seen))
        cosine, rows = self._index.search(vectors, count)
        distance = np.sqrt(np.clip(2 - 2 * cosine, 0, None))
        nearest = distance[:, :1] if folds is None else _first_of_other_folds(distance, rows, folds)
        width = np.maximum(self._options.bandwidth, nearest)
        weights = np.exp(-0.5 * (distance / width) ** 2)
        if folds is not None:
            weights = np.where(folds[rows] == folds[:, None], 0, weights)
            rank = np.cumsum(weights > 0, axis=1)
            weights = np.where(rank <= self._options.neighbours, weights, 0)
        return Found(rows, weights)

    def _quality(self, found: Found) -> tuple[Floats, Floats]:
        sums, counts = self._sums(found)
        return cells(sums, counts, self._effects.mean, self._shrink)

    def _sums(self, found: Found) -> tuple[Floats, Floats]:
        """Weighted sums and counts of scores, (n, e), the weights scaled to add up to their effective number."""
        weights = found.weights
        total = weights.sum(1, keepdims=True)
        effective = total**2 / np.maximum((weights**2).sum(1, keepdims=True), 1e-12)
        scaled = (weights * effective / np.maximum(total, 1e-12)).astype(np.float32)
        sums = gather(found.rows, scaled, self._filled)
        if self._mask is None:
            return sums, np.repeat(scaled.sum(1, dtype=np.float64)[:, None], sums.shape[1], axis=1)
        return sums, gather(found.rows, scaled, self._mask)

    def _choose_shrinkage(self) -> Shrinkage:
        """The strengths with the least leave-one-out error on a sample of the table's rows."""
        seen = len(self._seen)
        if seen < 20:
            return Shrinkage()
        sample = np.sort(np.random.default_rng(self._seed).permutation(seen)[: self._options.probe])
        assert self._seen.vectors is not None
        cosine, rows = self._index.search(
            np.ascontiguousarray(self._seen.vectors[sample]), min(self._options.neighbours + 1, seen)
        )
        distance = np.sqrt(np.clip(2 - 2 * cosine, 0, None))
        weights = np.exp(-0.5 * (distance / self._options.bandwidth) ** 2)
        sums, counts = self._sums(Found(rows, np.where(rows == sample[:, None], 0, weights)))
        return best_shrinkage(sums, counts, self._seen.scores[sample].astype(np.float64), self._effects.mean)


def _first_of_other_folds(distance: Floats, rows: Ints, folds: Ints) -> Floats:
    other = folds[rows] != folds[:, None]
    first = np.argmax(other, axis=1)
    return distance[np.arange(len(rows)), first][:, None]


def _index_of(vectors: Vectors) -> Any:
    import faiss

    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)  # pyright: ignore
    return index


def build(options: Options, parts: Parts) -> Neighbours:
    return Neighbours(options, parts.seed)
