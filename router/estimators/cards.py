"""`cards`: how well a query matches what an expert's manifest says of it. Works with no outcome at all.

Source: the global router of GLIDER (arXiv 2410.07172), the cosine of a query with an expert's description, here
taken over its description, skills and example queries: a share of the nearest text, a share of the mean of the
nearest few, a share of the description. The match is judged against the other experts of the route, so a set of
similar experts is told apart by what differs, and one that says nothing about itself stands at the average.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from experts.errors import ConfigError
from experts.language import Card
from experts.protocols import Vectors
from router.estimators import _files
from router.estimators._evidence import Floats, beside, effects, estimates, vectors_of
from router.outcomes import Outcomes
from router.plan import Estimates, Queries
from router.protocols import Parts


class Options(BaseModel):
    """`temperature`: the cosine above the other experts that turns even odds into odds of e to 1."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    temperature: float = Field(default=0.06, gt=0)
    nearest: int = Field(default=3, ge=1)
    weight_nearest: float = Field(default=0.4, ge=0, le=1)
    weight_description: float = Field(default=0.2, ge=0, le=1)
    uncertainty: float = Field(default=0.2, ge=0)


@dataclass(frozen=True, slots=True)
class Profile:
    """One expert's card as vectors: row 0 is the description with the skills, then skills, then examples."""

    name: str
    vectors: Vectors


@dataclass(frozen=True, slots=True)
class Shelf:
    """All profiles, to be compared with a query at once: every text's vector (t, d); per expert the rows of its texts,
    filled up with t, (e, most); and how many it has, (e,)."""

    vectors: Vectors
    place: NDArray[np.int64]
    sizes: NDArray[np.int64]

    @staticmethod
    def of(profiles: Sequence[Profile]) -> Shelf:
        """Of any profiles; there is nothing to compare with where none has a text."""
        sizes = np.array([len(profile.vectors) for profile in profiles], np.int64)
        ends = np.cumsum(sizes)
        column: NDArray[np.int64] = np.arange(int(sizes.max(initial=0)), dtype=np.int64)
        place: NDArray[np.int64] = np.where(
            column < sizes[:, None], (ends - sizes)[:, None] + column, int(sizes.sum())
        )  # fmt: skip
        told = [profile.vectors for profile in profiles if len(profile.vectors)]
        return Shelf(np.concatenate(told) if told else np.zeros((0, 1), np.float32), place, sizes)


class Cards:
    def __init__(self, options: Options, parts: Parts) -> None:
        self._options = options
        self._encoder = parts.encoder
        self._profiles: tuple[Profile, ...] = ()
        self._shelf = Shelf.of(())
        self._effects = effects(Outcomes.empty(()))

    @property
    def uses_vectors(self) -> bool:
        return True

    def fit(self, cards: Sequence[Card], outcomes: Outcomes) -> None:
        """Reads the cards only. Outcomes give tokens and latency, never a match."""
        self._keep(self._profiles_of(cards))
        self._effects = effects(outcomes.for_experts([card.name for card in cards]))

    def update(self, outcomes: Outcomes) -> None:
        """Cards do not change with outcomes: nothing to learn."""

    def add(self, card: Card, outcomes: Outcomes) -> None:
        self._keep((*self._profiles, *self._profiles_of([card])))
        one = effects(outcomes.for_experts([card.name]))
        self._effects = beside(self._effects, one)

    def match(self, vectors: Vectors) -> Floats:
        """Similarity of every query with every card, NaN for a card that says nothing. Shape (n, e)."""
        options, shelf = self._options, self._shelf
        rest = 1.0 - options.weight_nearest - options.weight_description
        cosine = vectors @ shelf.vectors.T
        away = np.full((len(vectors), 1), -np.inf, cosine.dtype)
        each = np.concatenate([cosine, away], axis=1)[:, shelf.place]
        nearest = min(options.nearest, each.shape[2])
        top = np.partition(each, each.shape[2] - nearest, axis=2)[:, :, -nearest:]
        count = np.minimum(shelf.sizes, nearest)
        mean = np.where(np.isfinite(top), top, 0).sum(2) / np.maximum(count, 1)
        found = options.weight_nearest * top.max(2) + rest * mean + options.weight_description * each[:, :, 0]
        return np.where(count > 0, found, np.nan).astype(np.float64)

    def estimate(self, queries: Queries) -> Estimates:
        if not len(self._shelf.vectors):
            blank = np.full((len(queries), len(self._profiles)), 0.5)
            return self._estimates(blank, "no card says anything: every expert is held to be equally good")
        match = self.match(vectors_of(queries, "cards"))
        silent = np.isnan(match)
        said = np.where(silent, 0.0, match)
        level = said.sum(1, keepdims=True) / np.maximum((~silent).sum(1, keepdims=True), 1)
        above = np.where(silent, 0.0, match - level)
        return self._estimates(1 / (1 + np.exp(-above / self._options.temperature)), "match with the experts' cards")

    def save(self, folder: Path) -> None:
        arrays: dict[str, Any] = {f"profile{i}": profile.vectors for i, profile in enumerate(self._profiles)}
        state = {"experts": [profile.name for profile in self._profiles]}
        _files.write(folder, "cards", state, arrays | _files.arrays_of(self._effects))

    def load(self, folder: Path) -> None:
        state, arrays = _files.read(folder, "cards")
        self._keep(tuple(Profile(name, arrays[f"profile{i}"]) for i, name in enumerate(state["experts"])))
        self._effects = _files.effects_of(arrays)

    def _keep(self, profiles: tuple[Profile, ...]) -> None:
        self._profiles, self._shelf = profiles, Shelf.of(profiles)

    def _profiles_of(self, cards: Sequence[Card]) -> tuple[Profile, ...]:
        texts = [texts_of(card) for card in cards]
        flat = [text for group in texts for text in group]
        if not flat:
            return tuple(Profile(card.name, np.zeros((0, 1), np.float32)) for card in cards)
        if self._encoder is None:
            raise ConfigError("estimator 'cards': expected an encoder to read the cards with, got none")
        vectors = self._encoder.encode(flat)
        ends = np.cumsum([len(group) for group in texts])
        parts = np.split(vectors, ends[:-1])
        return tuple(Profile(card.name, part) for card, part in zip(cards, parts, strict=True))

    def _estimates(self, quality: Floats, note: str) -> Estimates:
        names = [profile.name for profile in self._profiles]
        spread = np.full(quality.shape, self._options.uncertainty)
        return estimates(names, quality, spread, self._effects, (note,), default=-1)


def texts_of(card: Card) -> list[str]:
    """What a card says, as texts to compare a query with; empty where it says nothing."""
    head = ". ".join(part for part in (card.description.strip().rstrip("."), ", ".join(card.skills)) if part)
    return [text for text in (head, *card.skills, *card.examples) if text]


def build(options: Options, parts: Parts) -> Cards:
    return Cards(options, parts)
