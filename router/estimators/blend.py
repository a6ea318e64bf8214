"""`blend`, the default: other estimators stacked on rows they did not see, calibrated, and shrunk.

Sources: stacked regressions with non-negative weights (Breiman 1996) on cross-fitted predictions (van der Laan's
super learner, 2007); no row's score reaches the prediction it is stacked on, and rows of equal text share a fold.
Two regressions are stacked: of what all experts share on a query (its difficulty), and of what sets each apart (its
specialty). Weights that sum to less than one shrink toward every expert's mean, so where categories, neighbours and
regressions explain nothing on held-out rows, the blend is the best single expert.

With no outcomes at all it is `cards`. An expert with few slides from what its card promises to what was measured, with
the weight of `thin` outcomes on the card; how much a card's promise is worth is measured on the experts that have
outcomes. So a new expert takes traffic with nothing but its manifest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from experts.language import Card
from router.estimators import _files, open_estimator
from router.estimators._abstain import margin
from router.estimators._evidence import (
    Effects,
    Floats,
    Ints,
    effects,
    estimates,
    fold_of,
    joining,
    known_rows,
    merged,
    successor,
)
from router.estimators.cards import texts_of
from router.estimators.clusters import Clusters
from router.outcomes import Outcomes
from router.plan import Estimates, Matrix, Queries
from router.protocols import Estimator, Parts

DEFAULT_MEMBERS: Mapping[str, Mapping[str, Any]] = {"clusters": {}, "ridge": {}}


class Options(BaseModel):
    """`members`: estimators and their options; `folds` of the stacking; `enough`: outcomes below which members are
    averaged, not stacked; `thin`: how many outcomes an expert's card is worth; `measured`: the share of the rows that
    must hold an expert's score before leads are withheld from it, or on it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    members: Mapping[str, Mapping[str, Any]] = DEFAULT_MEMBERS
    folds: int = Field(default=5, ge=2)
    enough: int = Field(default=60, ge=10)
    thin: float = Field(default=50.0, gt=0)
    measured: float = Field(default=0.5, ge=0, le=1)


@runtime_checkable
class Crossfitted(Protocol):
    """An estimator that can predict its own rows without each row's fold, cheaper than by refitting."""

    def crossfit(self, cards: Sequence[Card], outcomes: Outcomes, folds: Ints) -> Floats: ...


class Blend:
    def __init__(self, options: Options, parts: Parts) -> None:
        self._options = options
        self._parts = parts
        self._members = {name: open_estimator(name, chosen, parts) for name, chosen in options.members.items()}
        self._cards: Estimator = open_estimator("cards", {}, parts)
        self._names: tuple[str, ...] = ()
        self._effects = effects(Outcomes.empty(()))
        self._difficulty = self._specialty = np.zeros(len(self._members))
        self._promise = 1.0
        self._margins: Floats = np.zeros(0)
        self._default = -1

    @property
    def uses_vectors(self) -> bool:
        return True

    def fit(self, cards: Sequence[Card], outcomes: Outcomes) -> None:
        rows = known_rows(outcomes.for_experts([card.name for card in cards]))
        self._names, self._effects = rows.experts, effects(rows)
        self._cards.fit(self._readable(cards), rows)
        self._difficulty = self._specialty = np.full(len(self._members), 1 / max(len(self._members), 1))
        self._promise, self._margins = 1.0, np.zeros(len(self._names))
        self._default = self._effects.best
        if len(rows) < self._options.enough:
            for member in self._members.values():
                member.fit(cards, rows)
            return
        folds = fold_of(rows.keys, self._options.folds)
        held = [self._crossfit(member, cards, rows, folds) for member in self._members.values()]
        scores = rows.scores.astype(np.float64)
        mean = self._effects.mean
        known = np.broadcast_to(self._effects.count > 0, scores.shape)
        levels, contrasts = zip(*(_split(table - mean, known) for table in held), strict=True)
        design = [*(np.broadcast_to(level, scores.shape) for level in levels), *contrasts]
        self._difficulty, self._specialty = np.split(_stack(design, scores - mean), 2)
        self._promise = self._worth_of_cards(rows, _split(scores - mean, np.isfinite(scores))[1])
        often, best = np.isfinite(scores).mean(0) >= self._options.measured, self._default
        if often[best]:
            place = int(often[:best].sum())
            self._margins[often] = margin(self._combined(held)[:, often], scores[:, often], place)

    def update(self, outcomes: Outcomes) -> None:
        rows = known_rows(outcomes.for_experts(self._names))
        if not len(rows):
            return
        for member in self._members.values():
            member.update(rows)
        self._grown(merged(self._effects, effects(rows)))

    def add(self, card: Card, outcomes: Outcomes) -> None:
        _, grown = joining(self._effects, self._names, card.name, outcomes, self.estimate)
        for member in self._members.values():
            member.add(card, outcomes)
        self._cards.add(self._readable([card])[0], outcomes)
        self._names, self._margins = (*self._names, card.name), np.append(self._margins, 0.0)
        self._grown(grown)

    def _grown(self, known: Effects) -> None:
        """More evidence: another expert may be the one to fall back on; of leads on that one nothing is known yet."""
        self._effects, before = known, self._default
        self._default = successor(known, before)
        if self._default != before:
            self._margins = np.zeros(len(self._names))

    def estimate(self, queries: Queries) -> Estimates:
        promise = self._cards.estimate(queries)
        count = self._effects.count
        if not count.any():
            return promise
        guesses: list[Estimates] = []
        trust = np.repeat((count / (count + self._options.thin))[None, :], len(queries), axis=0)
        for member in self._members.values():
            if isinstance(member, Clusters):
                guess, familiar = member.placed(queries)
                trust *= familiar[:, None]
            else:
                guess = member.estimate(queries)
            guesses.append(guess)
        mean, shared, special = self._parts_of([guess.quality for guess in guesses])
        measured = mean + shared + special
        card = mean + trust.max(1, keepdims=True) * shared + self._promise * (promise.quality - 0.5)
        quality = trust * measured + (1 - trust) * card
        spread = np.mean([guess.uncertainty for guess in guesses], axis=0)
        doubt = np.hypot(trust * spread, (1 - trust) * promise.uncertainty)
        found = estimates(self._names, quality, doubt, self._effects, self._notes(), default=self._default)
        skilled = next((guess for guess in guesses if guess.suitability is not None), found)
        return replace(
            found, margins=tuple(self._margins.tolist()), suitability=skilled.suitability, skills=skilled.skills
        )

    def _parts_of(self, guesses: Sequence[Matrix | Floats]) -> tuple[Floats, Floats, Floats]:
        """The experts' means (e,), and of every query what all share (n, 1) and what sets each apart (n, e)."""
        known = self._effects.count > 0
        mean = np.where(known, self._effects.mean, self._effects.mean[known].mean())
        shared, special = np.zeros((len(guesses[0]), 1)), np.zeros(guesses[0].shape)
        everyone = np.broadcast_to(known, special.shape)
        for guess, easy, apart in zip(guesses, self._difficulty, self._specialty, strict=True):
            level, contrast = _split(guess.astype(np.float64) - mean, everyone)
            shared += easy * level
            special += apart * contrast
        return mean, shared, np.where(known, special, 0)

    def _combined(self, guesses: Sequence[Floats]) -> Floats:
        mean, shared, special = self._parts_of(guesses)
        return mean + shared + special

    def save(self, folder: Path) -> None:
        arrays = {"difficulty": self._difficulty, "specialty": self._specialty, "margins": self._margins,
                  **_files.arrays_of(self._effects)}  # fmt: skip
        state = {"experts": self._names, "members": list(self._members), "promise": self._promise,
                 "default": self._default}  # fmt: skip
        _files.write(folder, "blend", state, arrays)
        for name, member in (*self._members.items(), ("cards", self._cards)):
            member.save(folder / name)

    def load(self, folder: Path) -> None:
        state, arrays = _files.read(folder, "blend")
        self._names, self._promise = tuple(state["experts"]), float(state["promise"])
        self._default = int(state["default"])
        self._difficulty, self._specialty = arrays["difficulty"], arrays["specialty"]
        self._margins = arrays["margins"]
        self._effects = _files.effects_of(arrays)
        for name, member in (*self._members.items(), ("cards", self._cards)):
            member.load(folder / name)

    def _readable(self, cards: Sequence[Card]) -> list[Card]:
        """The cards, reduced to their names on a route without an encoder, where no text can be compared."""
        if self._parts.encoder is not None or not any(texts_of(card) for card in cards):
            return list(cards)
        return [Card(card.name) for card in cards]

    def _crossfit(self, member: Estimator, cards: Sequence[Card], rows: Outcomes, folds: Ints) -> Floats:
        if isinstance(member, Crossfitted):
            return member.crossfit(cards, rows, folds)
        out = np.full(rows.scores.shape, np.nan)
        for fold in range(self._options.folds):
            inside = folds == fold
            member.fit(cards, rows.take(np.flatnonzero(~inside)))
            mine = rows.take(np.flatnonzero(inside))
            out[inside] = member.estimate(Queries(mine.texts, mine.vectors)).quality
        member.fit(cards, rows)
        return out

    def _worth_of_cards(self, rows: Outcomes, special: Floats) -> float:
        """The slope of measured contrasts on the cards' promise, shrunk toward 1 by the weight of 50 rows."""
        promise = self._cards.estimate(Queries(rows.texts, rows.vectors)).quality.astype(np.float64)
        said = _split(promise, np.isfinite(rows.scores))[1]
        weight = 50 * rows.scores.shape[1] * 0.05
        return float(np.clip((np.nansum(said * special) + weight) / (np.nansum(said**2) + weight), 0.0, 2.5))

    def _notes(self) -> tuple[str, ...]:
        parts = [f"{name} {weight:.2f}" for name, weight in zip(self._members, self._specialty, strict=True)]
        return ("specialty from " + ", ".join(parts), f"a card's promise counts {self._promise:.2f}")


def _split(table: Floats, seen: Any) -> tuple[Floats, Floats]:
    """A row's mean over the experts seen, (n, 1), and each one's difference from it, (n, e); NaN where not seen."""
    kept = np.where(seen, table, 0)
    level = kept.sum(1, keepdims=True) / np.maximum(np.asarray(seen).sum(1, keepdims=True), 1)
    return level, np.where(seen, table - level, np.nan)


def _stack(parts: Sequence[Floats], aim: Floats) -> Floats:
    """Non-negative weights of least squares over all cells that were measured, however few of a row: one score a row is
    what feedback gives. Where every row is whole, levels and contrasts are orthogonal and weighed as if apart."""
    from scipy import optimize

    keep = np.isfinite(aim).ravel()
    design = np.stack([part.ravel()[keep] for part in parts], axis=1)
    gram, target = design.T @ design, design.T @ aim.ravel()[keep]
    jitter = 1e-6 * (float(np.trace(gram)) + 1e-12)
    factor = np.linalg.cholesky(gram + jitter * np.eye(len(gram)))
    solver: Any = optimize
    return np.asarray(solver.nnls(factor.T, np.linalg.solve(factor, target))[0], np.float64)


def build(options: Options, parts: Parts) -> Blend:
    return Blend(options, parts)
