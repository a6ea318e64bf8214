"""`prior`: each expert's mean score, the same for every query; what everything else is shrunk toward.

Source: the empirical-Bayes prior of Efron and Morris, "Stein's estimation rule and its competitors" (JASA 1973). It
is the router that always asks the best single expert, which every other estimator must not lose to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from experts.language import Card
from router.estimators import _files
from router.estimators._evidence import effects, estimates, joined, known_rows
from router.outcomes import Outcomes
from router.plan import Estimates, Queries
from router.protocols import Parts


class Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Prior:
    """Two-way means of the scores, with their standard errors."""

    uses_vectors = False

    def __init__(self) -> None:
        self._seen = Outcomes.empty(())
        self._effects = effects(self._seen)

    def fit(self, cards: Sequence[Card], outcomes: Outcomes) -> None:
        self._learn(known_rows(outcomes.for_experts([card.name for card in cards])))

    def update(self, outcomes: Outcomes) -> None:
        self._learn(joined(self._seen, known_rows(outcomes.for_experts(self._seen.experts))))

    def add(self, card: Card, outcomes: Outcomes) -> None:
        wider = self._seen.for_experts((*self._seen.experts, card.name))
        self._learn(joined(wider, known_rows(outcomes.for_experts(wider.experts))))

    def estimate(self, queries: Queries) -> Estimates:
        shape = (len(queries), len(self._seen.experts))
        return estimates(
            self._seen.experts, np.broadcast_to(self._effects.mean, shape),
            np.broadcast_to(self._effects.error, shape), self._effects, self._notes(),
        )  # fmt: skip

    def save(self, folder: Path) -> None:
        state = {"experts": self._seen.experts, "ids": self._seen.ids}
        _files.write(folder, "prior", state, _files.table_arrays(self._seen))

    def load(self, folder: Path) -> None:
        self._learn(_files.table_of(*_files.read(folder, "prior")))

    def _learn(self, seen: Outcomes) -> None:
        self._seen = replace(seen, vectors=None)
        self._effects = effects(seen)

    def _notes(self) -> tuple[str, ...]:
        best = self._effects.best
        if best < 0:
            return ("no outcomes: every expert is held to be equally good",)
        name, mean = self._seen.experts[best], self._effects.mean[best]
        return (f"best single expert on {len(self._seen)} outcomes: {name} ({mean:.3f})",)


def build(options: Options, parts: Parts) -> Prior:
    return Prior()
