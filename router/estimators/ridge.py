"""`ridge`: random features of the query and one linear regression per expert, in closed form.

Source: FlyPrompt (arXiv 2602.01976): phi = ReLU(x R) with a fixed Gaussian R; G = phi^T phi and Q = phi^T y are all
that is kept of the outcomes, W = (G + lambda I)^-1 Q. Scores are regressed, not classes, so a new expert is one new
column of Q, and new outcomes are added to G and Q exactly: the same weights as from a fit on everything at once.
What experts share and what sets each apart get their own lambda, both from generalised cross-validation (Golub,
Heath, Wahba 1979), which needs only G, Q and y^T y. Experts with scores on the same rows share one G.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from experts.language import Card
from router.estimators import _files
from router.estimators._evidence import (
    Floats,
    Ints,
    effects,
    estimates,
    joining,
    known_rows,
    merged,
    vectors_of,
)
from router.estimators._gram import Gram, Solution, solve, weights_at
from router.estimators._surface import surface
from router.outcomes import Outcomes
from router.plan import Estimates, Matrix, Queries
from router.protocols import Parts


class Options(BaseModel):
    """`features`: `relu` for `width` random ones, `linear` for the vector itself; `surface`: how much the text's looks
    (length, digits, symbols) weigh beside its meaning, nothing where most outcomes keep no text; `fewest`: outcomes
    below which an expert has no regression of its own; `enough`: outcomes from which that regression alone counts;
    with fewer, where others have more, its mean and what all find easy count too."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    features: Literal["relu", "linear"] = "relu"
    width: int = Field(default=768, ge=8)
    surface: float = Field(default=0.3, ge=0)
    fewest: int = Field(default=8, ge=2)
    enough: float = Field(default=200.0, gt=0)


class Ridge:
    uses_vectors = True

    def __init__(self, options: Options, seed: int) -> None:
        self._options = options
        self._seed = seed
        self._experts: tuple[str, ...] = ()
        self._effects = effects(Outcomes.empty(()))
        self._projection: Matrix | None = None
        self._surface = options.surface
        self._grams: tuple[Gram, ...] = ()
        self._solutions: tuple[Solution, ...] = ()

    def fit(self, cards: Sequence[Card], outcomes: Outcomes) -> None:
        rows = known_rows(outcomes.for_experts([card.name for card in cards]))
        self._experts, self._effects = rows.experts, effects(rows)
        self._grams, self._projection = (), None
        told = sum(map(bool, rows.texts)) * 2 >= len(rows)
        self._surface = self._options.surface if told else 0.0
        self._take(rows)

    def crossfit(self, cards: Sequence[Card], outcomes: Outcomes, folds: Ints) -> Floats:
        """Fits, and returns quality (n, e) of the outcomes' own rows, each estimated without rows of its fold.

        Every row must hold a score. The lambdas are those of the whole fit.
        """
        self.fit(cards, outcomes)
        rows = outcomes.for_experts(self._experts)
        apart = np.zeros(rows.scores.shape)
        phi = with_constant(self._features(rows))
        for gram, solution in zip(self._ready(), self._solutions, strict=True):
            columns = list(gram.columns)
            seen = np.isfinite(rows.scores[:, columns]).all(1)
            for fold in range(int(folds.max()) + 1):
                mine = folds == fold
                held = mine & seen
                rest = gram.plus(Gram.of(columns, phi[held], rows.scores[held][:, columns]), -1.0)
                if rest.rows < self._options.fewest:
                    continue
                weights, offset, centre = weights_at(rest, solution.strength)
                apart[np.ix_(mine, columns)] = (
                    offset + (phi[mine, :-1] - centre) @ weights - self._effects.mean[columns]
                )
        return self._effects.mean + self._shared(apart)

    def update(self, outcomes: Outcomes) -> None:
        rows = known_rows(outcomes.for_experts(self._experts))
        if len(rows):
            self._effects = merged(self._effects, effects(rows))
            self._take(rows)

    def add(self, card: Card, outcomes: Outcomes) -> None:
        rows, self._effects = joining(self._effects, self._experts, card.name, outcomes, self.estimate)
        self._experts = (*self._experts, card.name)
        self._take(rows.for_experts(self._experts))

    def estimate(self, queries: Queries) -> Estimates:
        shape = (len(queries), len(self._experts))
        quality = np.broadcast_to(self._effects.mean, shape).astype(np.float32)
        doubt = np.broadcast_to(self._effects.error, shape).astype(np.float32)
        if self._solutions:
            phi = self._features(queries)
            apart = np.zeros(shape, np.float32)
            for solution in self._solutions:
                columns = list(solution.columns)
                found, spread = solution.estimate(phi)
                apart[:, columns] = found - quality[:, columns]
                doubt[:, columns] = spread + self._effects.error[columns]
            quality += self._shared(apart)
        note = f"ridge on {self._options.features} features, {len(self._grams)} set(s) of rows"
        return estimates(self._experts, quality, doubt, self._effects, (note,))

    def save(self, folder: Path) -> None:
        arrays: dict[str, Any] = dict(_files.arrays_of(self._effects))
        if self._projection is not None:
            arrays["projection"] = self._projection
        for number, gram in enumerate(self._grams):
            arrays |= {f"columns{number}": np.array(gram.columns), f"features{number}": gram.features,
                       f"targets{number}": gram.targets, f"squares{number}": gram.squares}  # fmt: skip
        state = {"experts": self._experts, "grams": len(self._grams), "surface": self._surface}
        _files.write(folder, "ridge", state, arrays)

    def load(self, folder: Path) -> None:
        state, arrays = _files.read(folder, "ridge")
        self._experts, self._effects = tuple(state["experts"]), _files.effects_of(arrays)
        self._projection, self._surface = arrays.get("projection"), float(state["surface"])
        self._grams = tuple(
            Gram(tuple(arrays[f"columns{i}"].tolist()), arrays[f"features{i}"], arrays[f"targets{i}"],
                 arrays[f"squares{i}"]) for i in range(state["grams"])
        )  # fmt: skip
        self._solve()

    def _features(self, queries: Queries | Outcomes) -> Matrix:
        """Features of unit mean square. Shape (n, m - 1)."""
        vectors = vectors_of(queries, "ridge")
        looks = surface(queries.texts) * np.float32(self._surface) if self._surface else vectors[:, :0]
        if self._options.features == "linear":
            both = np.hstack([vectors, looks])
            return both * np.float32(np.sqrt(both.shape[1]))
        meaning = vectors.shape[1]
        if self._projection is None:
            random = np.random.default_rng(self._seed)
            self._projection = random.standard_normal((meaning + looks.shape[1], self._options.width), np.float32)
        phi = vectors @ self._projection[:meaning]
        phi += looks @ self._projection[meaning:]
        np.maximum(phi, 0, out=phi)
        phi *= np.float32(np.sqrt(2))
        return phi

    def _take(self, rows: Outcomes) -> None:
        """Adds rows: each set of experts scored on the same rows has one Gram, split where rows now tell them apart."""
        if not len(rows):
            return self._solve()
        phi = with_constant(self._features(rows))
        seen = np.isfinite(rows.scores)
        alike: dict[bytes, list[int]] = {}
        for column in range(len(rows.experts)):
            alike.setdefault(np.packbits(seen[:, column]).tobytes(), []).append(column)
        grams: list[Gram] = []
        held = {column for gram in self._grams for column in gram.columns}
        for columns in alike.values():
            use = seen[:, columns[0]]
            fresh = Gram.of(columns, phi[use], rows.scores[use][:, columns])
            for old in self._grams:
                shared = [column for column in columns if column in old.columns]
                if shared:
                    before = old.only([old.columns.index(column) for column in shared])
                    grams.append(before.plus(fresh.only([columns.index(column) for column in shared])))
            new = [column for column in columns if column not in held]
            if new:
                grams.append(fresh.only([columns.index(column) for column in new]))
        self._grams = tuple(grams)
        return self._solve()

    def _shared(self, apart: Any) -> Any:
        """Regressions' differences from the means (n, e); an expert with few rows is drawn toward what all share.

        That is the mean difference of the others, weighted by their rows, as far as it can be told from what sets them
        apart: not at all with one other expert, nearly whole with many.
        """
        rows = np.zeros(len(self._experts), apart.dtype)
        for solution in self._solutions:
            rows[list(solution.columns)] = solution.rows
        say = np.minimum(rows / max(min(self._options.enough, float(rows.max(initial=0))), 1.0), 1).astype(apart.dtype)
        if (say == 1).all():
            return apart
        others = np.maximum(rows.sum() - rows, 1e-6)
        count = np.maximum(others**2 / np.maximum((rows**2).sum() - rows**2, 1e-6), 1)
        level = ((apart @ rows)[:, None] - apart * rows) / others * ((count - 1) / (count + 1))
        return say * apart + (1 - say) * level.astype(apart.dtype)

    def _solve(self) -> None:
        self._solutions = tuple(solve(gram) for gram in self._ready())

    def _ready(self) -> tuple[Gram, ...]:
        return tuple(gram for gram in self._grams if gram.rows >= self._options.fewest)


def with_constant(phi: Matrix) -> Matrix:
    """The features and a last one that is 1."""
    return np.hstack([phi, np.ones((len(phi), 1), np.float32)])


def build(options: Options, parts: Parts) -> Ridge:
    return Ridge(options, parts.seed)
