"""An estimator whose columns are chosen and ordered for a route."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from experts.language import Card
from router.outcomes import Outcomes
from router.plan import Estimates, Queries
from router.protocols import Estimator


class Selected:
    """Another estimator's columns, chosen and ordered: an artifact may know experts that a route no longer has."""

    def __init__(
        self, estimator: Estimator, columns: tuple[str, ...], names: tuple[str, ...], means: Mapping[str, float]
    ) -> None:
        self._estimator = estimator
        self._names = names
        self._order = np.array([columns.index(name) for name in names])
        measured = {name: means[name] for name in names if name in means}
        self._best = names.index(max(measured, key=measured.__getitem__)) if measured else -1

    @property
    def uses_vectors(self) -> bool:
        return self._estimator.uses_vectors

    def estimate(self, queries: Queries) -> Estimates:
        found = self._estimator.estimate(queries)
        default = found.experts[found.default] if found.default >= 0 else ""
        return Estimates(
            self._names, found.quality[:, self._order], found.uncertainty[:, self._order],
            found.tokens[:, self._order], found.latency_ms[:, self._order],
            self._names.index(default) if default in self._names else self._best, found.notes,
            tuple(found.margins[i] for i in self._order) if found.margins and default in self._names else (),
            suitability=None if found.suitability is None else found.suitability[:, self._order], skills=found.skills,
        )  # fmt: skip

    def fit(self, cards: Sequence[Card], outcomes: Outcomes) -> None:
        self._estimator.fit(cards, outcomes)
        self._order, self._names = np.arange(len(cards)), tuple(card.name for card in cards)

    def update(self, outcomes: Outcomes) -> None:
        self._estimator.update(outcomes)

    def add(self, card: Card, outcomes: Outcomes) -> None:
        self._estimator.add(card, outcomes)
        self._names, self._order = (*self._names, card.name), np.append(self._order, self._order.max() + 1)

    def save(self, folder: Path) -> None:
        self._estimator.save(folder)

    def load(self, folder: Path) -> None:
        self._estimator.load(folder)
