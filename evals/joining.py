"""Adding experts to fitted routes, as onboarding and stability need it: with part of their outcomes, on a copy."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from evals.metrics.quality import means
from evals.outcomes import OutcomeSet, open_outcomes
from evals.replay import Decisions, FittedRoute, queries_of
from evals.routers import best_single
from evals.routing import Progress, Settings, embedded_set
from experts.errors import ConfigError
from experts.language import Card
from experts.protocols import Encoder
from registry.route import Plugged
from router.estimators import open_estimator
from router.plan import Queries
from router.protocols import Estimator, Parts


@dataclass(frozen=True, slots=True)
class Ground:
    """The splits, embedded, and who is new."""

    fitted_on: OutcomeSet
    test: OutcomeSet
    queries: Queries
    encoder: Encoder
    newcomer: str

    @property
    def column(self) -> int:
        return self.fitted_on.outcomes.experts.index(self.newcomer)


def ground(settings: Settings, newcomer: str | None, progress: Progress) -> Ground:
    """Raises ConfigError where there are fewer than three experts, or none of the newcomer's name."""
    progress.step("reading outcomes")
    whole = open_outcomes(settings.outcomes, settings.shape)
    if len(whole.cards) < 3:
        raise ConfigError(
            f"{whole.name}: expected at least three experts, to add one to the others; got {len(whole.cards)}"
        )
    if newcomer is not None and newcomer not in whole.outcomes.experts:
        raise ConfigError(f"{whole.name}: no expert {newcomer!r}; there are {', '.join(whole.outcomes.experts)}")
    embedded = embedded_set(whole, settings, progress)
    fitted_on, test = embedded.whole.of_split(*settings.fit), embedded.whole.of_split(*settings.test)
    name = newcomer or whole.outcomes.experts[best_single(fitted_on)]
    return Ground(fitted_on, test, queries_of(test.outcomes), embedded.encoder, name)


def of_experts(whole: OutcomeSet, names: Sequence[str]) -> OutcomeSet:
    """The same queries with only these experts, in this order."""
    columns = [whole.outcomes.experts.index(name) for name in names]
    return replace(
        whole, outcomes=whole.outcomes.for_experts(names), cards=tuple(whole.cards[i] for i in columns),
        cost=whole.cost[:, columns],
    )  # fmt: skip


def hiding(whole: OutcomeSet, column: int, shown: Sequence[int] | np.ndarray) -> OutcomeSet:
    """The same table with this expert's outcomes known on the rows `shown` only."""
    tables: dict[str, Any] = {}
    hidden = np.ones(len(whole), np.bool_)
    hidden[np.asarray(shown, np.int64)] = False
    for name in ("scores", "tokens", "cost_usd", "latency_ms"):
        table = getattr(whole.outcomes, name).copy()
        table[hidden, column] = np.nan
        tables[name] = table
    return replace(whole, outcomes=replace(whole.outcomes, **tables))


def copied(fitted: FittedRoute, plug: Plugged, encoder: Encoder, seed: int) -> Estimator:
    """The same fitted estimator once more, through its files: what it learns next leaves the first one alone."""
    assert fitted.route.estimator is not None
    again = open_estimator(plug.name, plug.options, Parts(encoder, seed))
    with tempfile.TemporaryDirectory() as folder:
        fitted.route.estimator.save(Path(folder))
        again.load(Path(folder))
    return again


def with_expert(fitted: FittedRoute, estimator: Estimator, card: Card) -> FittedRoute:
    """The route with one more expert at the end, under an estimator that knows it."""
    route = fitted.route
    cards = (*route.cards, card)
    return replace(fitted, route=replace(route, cards=cards, limits=(None,) * len(cards), estimator=estimator))


def quality(done: Decisions, test: OutcomeSet) -> float:
    """Macro quality of the first seats."""
    chosen = test.outcomes.scores[np.arange(len(test)), done.seats]
    return float(means(chosen[:, None], test.outcomes.tasks).macro[0])
