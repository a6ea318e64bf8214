"""`pilots`: how like a query is to those that each expert won.

Source: RouterRetriever (arXiv 2409.02685). Of each training set (a task of the outcomes) and each expert, the pilot is
the centroid of the queries on which that expert had the best score; experts that share the best score share the query
in equal parts, and one on which everybody scores 0 has no winner. The similarity of an expert is the mean cosine of the
query with its pilots (the paper's rule), or the cosine with the nearest one (its code's). Both let a training set won
by luck, a query here and there, count like one that was mastered, so here the mean is weighted by the queries won,
which makes it the similarity to all of them.

A similarity becomes a quality by one logistic curve for all experts (Platt 1999), fitted on similarities to pilots
without the query's own vector and never falling: so the experts stand in the order of their similarities. One that
won nothing stands at its mean, or at the mean of all where it was not measured.

A pilot is its own expert's alone. An expert that is added gets pilots of the queries on which nobody known did better,
the same ones that a fit on everything would give it, and one that is removed is a column less; the curve and the
others' pilots stay as they are until their own outcomes are updated, or all is fitted again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from pydantic import BaseModel, ConfigDict

from experts.language import Card
from experts.protocols import Vectors
from router.estimators import _files
from router.estimators._evidence import (
    Floats,
    batches,
    effects,
    estimates,
    joined,
    joining,
    known_rows,
    merged,
    vectors_of,
)
from router.estimators._shrink import Shrinkage
from router.estimators._sparse import scatter
from router.outcomes import Outcomes
from router.plan import Estimates, Matrix, Queries
from router.protocols import Parts

BATCH = 2048
LEAST_SLOPE = 0.05
"""The curve rises at least by this logit for each standard deviation of the similarities, whatever was measured."""
NOTHING = 1e-6
"""Parts of a query below which a pilot stands for none."""


class Options(BaseModel):
    """`similarity` of a query and an expert over the expert's pilots: `weighted`, the mean by the queries won; `mean`,
    the plain one; `nearest`, the greatest."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    similarity: Literal["weighted", "mean", "nearest"] = "weighted"


@dataclass(frozen=True, slots=True)
class Curve:
    """P(success) = 1 / (1 + exp(-(bias + slope (similarity - middle) / width)))."""

    middle: float
    width: float
    bias: float
    slope: float

    def __call__(self, similarity: Floats) -> Floats:
        logit = self.bias + self.slope * (similarity - self.middle) / self.width
        return 1 / (1 + np.exp(-np.clip(logit, -30, 30)))

    @staticmethod
    def through(similarity: Floats, scores: Floats) -> Curve:
        """The likeliest one (m,), (m,), under standard normal priors of bias and slope."""
        from scipy import optimize

        middle, width = float(similarity.mean()), max(float(similarity.std()), 1e-6)
        place = (similarity - middle) / width
        table = np.stack([np.ones_like(place), place], axis=1)

        def loss(theta: Floats) -> tuple[float, Floats]:
            logit = table @ theta
            gap = 1 / (1 + np.exp(-logit)) - scores
            return (float((np.logaddexp(0, logit) - scores * logit).sum() + theta @ theta / 2) / len(scores),
                    (table.T @ gap + theta) / len(scores))  # fmt: skip

        minimize: Any = cast(Any, optimize).minimize
        bounds = [(None, None), (LEAST_SLOPE, None)]
        found = minimize(loss, np.array([0.0, 1.0]), jac=True, method="L-BFGS-B", bounds=bounds).x
        bias, slope = np.asarray(found, np.float64).tolist()
        return Curve(middle, width, bias, slope)


class Pilots:
    uses_vectors = True

    def __init__(self, options: Options) -> None:
        self._options = options
        self._curve: Curve | None = None
        self._start(Outcomes.empty(()))

    def fit(self, cards: Sequence[Card], outcomes: Outcomes) -> None:
        self._start(known_rows(outcomes.for_experts([card.name for card in cards])))
        self._curve = self._fitted()

    def update(self, outcomes: Outcomes) -> None:
        """Winners are counted anew on these rows alone."""
        rows = known_rows(outcomes.for_experts(self._seen.experts))
        if not len(rows):
            return
        fresh = set(rows.ids)
        kept = np.flatnonzero([name not in fresh for name in self._seen.ids])
        seen = joined(self._seen, rows)
        parts = shares(seen.scores)
        parts[kept] = self._parts[kept]
        self._effects = merged(self._effects, effects(rows))
        self._place(seen, parts)
        self._curve = self._fitted()

    def add(self, card: Card, outcomes: Outcomes) -> None:
        _, self._effects = joining(self._effects, self._seen.experts, card.name, outcomes, self.estimate)
        experts = (*self._seen.experts, card.name)
        own = outcomes.measured_for([card.name], experts)
        seen = joined(self._seen.for_experts(experts), own)
        parts = np.zeros(seen.scores.shape)
        parts[: len(self._parts), :-1] = self._parts
        parts[:, -1] = shares(seen.scores)[:, -1]
        self._place(seen, parts)
        self._curve = self._curve or self._fitted()

    def estimate(self, queries: Queries) -> Estimates:
        shape = (len(queries), len(self._seen.experts))
        quality = np.broadcast_to(self._effects.mean, shape)
        doubt = np.broadcast_to(self._effects.error, shape)
        if self._curve is None:
            return estimates(self._seen.experts, quality, doubt, self._effects, ("no query was won",))
        similarity = self.similarity(queries)
        won = np.isfinite(similarity)
        quality = np.where(won, self._curve(np.where(won, similarity, 0)), quality)
        each = self._won.sum(0) / np.maximum((self._won > NOTHING).sum(0), 1)
        spread = np.maximum(quality * (1 - quality), 0.02) / (each + Shrinkage().specialty)
        note = f"{int((self._won > NOTHING).sum())} pilots of {len(self._won)} training set(s)"
        return estimates(self._seen.experts, quality, np.where(won, np.sqrt(spread), doubt), self._effects, (note,))

    def similarity(self, queries: Queries) -> Floats:
        """Of every query with every expert's pilots, shape (n, e); NaN for an expert that won nothing."""
        cosine = vectors_of(queries, "pilots") @ self._pilots.T
        return self._over_pilots(cosine.reshape(len(queries), *self._won.shape), self._won[None])

    def save(self, folder: Path) -> None:
        arrays = _files.arrays_of(self._effects) | {"parts": self._parts}
        arrays |= {f"seen_{key}": array for key, array in _files.table_arrays(self._seen).items()}
        state = {"experts": self._seen.experts, "ids": self._seen.ids, "tasks": self._seen.tasks,
                 "curve": None if self._curve is None else asdict(self._curve)}  # fmt: skip
        _files.write(folder, "pilots", state, arrays)

    def load(self, folder: Path) -> None:
        state, arrays = _files.read(folder, "pilots")
        prefix = "seen_"
        table = {key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)}
        self._effects = _files.effects_of(arrays)
        self._curve = None if state["curve"] is None else Curve(**state["curve"])
        self._place(replace(_files.table_of(state, table), tasks=tuple(state["tasks"])), arrays["parts"])

    def _start(self, seen: Outcomes) -> None:
        self._effects = effects(seen)
        self._place(seen, shares(seen.scores))

    def _place(self, seen: Outcomes, parts: Floats) -> None:
        """Pilots, (training sets * e, d) of length 1, and the queries that each stands for, (training sets, e)."""
        self._seen, self._parts = seen, parts
        names, own = np.unique(np.asarray(seen.tasks, np.str_), return_inverse=True)
        self._own = own.astype(np.int64)
        count = len(seen.experts)
        self._won = np.zeros((len(names), count))
        self._sums = np.zeros((0, 1))
        if len(seen):
            cell = self._own[:, None] * count + np.arange(count)
            vectors = vectors_of(seen, "pilots")
            self._sums = scatter(cell, parts, vectors, len(names) * count)
            self._won = scatter(self._own[:, None], np.ones((len(seen), 1)), parts, len(names))
        length = np.maximum(np.linalg.norm(self._sums, axis=1, keepdims=True), 1e-12)
        self._pilots: Vectors = (self._sums / length).astype(np.float32)

    def _over_pilots(self, cosine: Floats | Matrix, won: Floats) -> Floats:
        """Similarities (n, e) from cosines and queries won, (n or 1, training sets, e)."""
        there = won > NOTHING
        if self._options.similarity == "nearest":
            found = np.where(there, cosine, -np.inf).max(1, initial=-np.inf)
        else:
            weight = np.where(there, won if self._options.similarity == "weighted" else 1.0, 0.0)
            found = (weight * cosine).sum(1) / np.maximum(weight.sum(1), NOTHING)
        return np.where(there.any(1), found, np.nan).astype(np.float64)

    def _fitted(self) -> Curve | None:
        """The curve through all scores, each at the similarity to pilots that its query is taken out of."""
        if not self._won.any():
            return None
        similarity = np.concatenate([self._without_own(part) for part in batches(len(self._seen), BATCH)])
        scores = self._seen.scores.astype(np.float64)
        use = np.isfinite(similarity) & np.isfinite(scores)
        return Curve.through(similarity[use], scores[use]) if use.any() else None

    def _without_own(self, rows: slice) -> Floats:
        """Similarities (b, e) of the table's rows, unit vectors, with pilots less each row's own part in them."""
        own, part = self._own[rows], self._parts[rows]
        row = np.arange(len(own))
        squares = (self._sums**2).sum(1).reshape(self._won.shape)
        product = (vectors_of(self._seen, "pilots")[rows] @ self._sums.T).reshape(len(own), *self._won.shape)
        won = np.repeat(self._won[None], len(own), axis=0)
        won[row, own] -= part
        left = np.repeat(squares[None], len(own), axis=0)
        left[row, own] += part**2 - 2 * part * product[row, own]
        product[row, own] -= part
        return self._over_pilots(product / np.sqrt(np.maximum(left, 1e-12)), won)


def shares(scores: Matrix) -> Floats:
    """Each expert's part in winning every row, (n, e): the best share a row; nobody wins where the best score is 0."""
    known = np.where(np.isfinite(scores), scores, 0).astype(np.float64)
    best = known.max(1, initial=0, keepdims=True)
    first = (known == best) & (best > 0)
    return first / np.maximum(first.sum(1, keepdims=True), 1)


def build(options: Options, parts: Parts) -> Pilots:
    return Pilots(options)
