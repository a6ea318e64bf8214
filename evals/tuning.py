"""Choosing on measured outcomes what no default can know: which experts to keep, how often to ask the strong one, what
a dollar must buy. Each is chosen on some splits and judged on another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from evals.joining import of_experts
from evals.metrics.quality import groups, means
from evals.outcomes import OutcomeSet, open_outcomes
from evals.replay import Decisions, FittedRoute, fit, queries_of, with_policy
from evals.routers import best_single
from evals.routing import Progress, Settings, embedded_set
from experts.errors import ConfigError
from experts.protocols import Encoder
from registry.route import Plugged
from router.costs import choose_fleet
from router.plan import Matrix
from router.policies.budget import learned_price
from router.policies.threshold import calibrated_threshold
from router.situation import situation


@dataclass(frozen=True, slots=True)
class Kept:
    """The fleet: who stays, who serves each task, what the kept ones cost together. Macro qualities on the test split:
    of the fleet, of the best single expert, and of everybody kept, each task served by its best on the fit split."""

    dataset: str
    budget: float
    kept: tuple[str, ...]
    price: float
    serves: dict[str, str]
    quality: float
    best_single: float
    everybody: float

    def json(self) -> dict[str, Any]:
        return asdict(self)


def fleet(settings: Settings, budget: float, prices: Mapping[str, float]) -> Kept:
    """Which experts to keep. `prices` in any unit (dollars an hour, GB); without them, billions of parameters.

    Tasks are the categories, weighed equally. Raises ConfigError where a price is unknown or nobody fits.
    """
    whole = open_outcomes(settings.outcomes, settings.shape)
    train, test = whole.of_split(*settings.fit), whole.of_split(*settings.test)
    names = train.outcomes.experts
    each = _prices(train, prices)
    tasks, wins = _by_task(train)
    chosen = choose_fleet(names, wins, np.ones(len(tasks)), each, budget)
    everybody = choose_fleet(names, wins, np.ones(len(tasks)), each, sum(each))
    serves = dict(zip(tasks, chosen.serves, strict=True))
    best = names[best_single(train)]
    return Kept(
        train.name, budget, chosen.kept, chosen.price, serves, _served(test, serves, best),
        _served(test, {}, best), _served(test, dict(zip(tasks, everybody.serves, strict=True)), best),
    )  # fmt: skip


def _prices(whole: OutcomeSet, given: Mapping[str, float]) -> list[float]:
    names = whole.outcomes.experts
    if strange := sorted(set(given) - set(names)):
        raise ConfigError(f"--price {strange[0]}: no such expert; there are {', '.join(names)}")
    found = {card.name: given.get(card.name, None if given else card.parameters_b) for card in whole.cards}
    lacking = [name for name, price in found.items() if price is None]
    if lacking:
        raise ConfigError(
            f"{whole.name}: no size in models.json for {', '.join(lacking)}; give every expert a --price NAME=NUMBER"
        )
    return [float(price) for price in found.values() if price is not None]


def _by_task(whole: OutcomeSet) -> tuple[list[str], np.ndarray]:
    """The tasks, and every expert's mean on each, (c, e); nothing measured counts as 0."""
    parts = groups(whole.outcomes.tasks)
    wins = [means(whole.outcomes.scores[rows], [""] * len(rows)).micro for rows in parts]
    return [whole.outcomes.tasks[rows[0]] for rows in parts], np.nan_to_num(np.array(wins))  # pyright: ignore[reportUnknownVariableType]


def _served(test: OutcomeSet, serves: Mapping[str, str], otherwise: str) -> float:
    columns = [test.outcomes.experts.index(serves.get(task, otherwise)) for task in test.outcomes.tasks]
    chosen = test.outcomes.scores[np.arange(len(test)), columns]
    return float(means(chosen[:, None], test.outcomes.tasks).macro[0])


@dataclass(frozen=True, slots=True)
class Tuned:
    """A policy with its number, ready for a manifest, and what it does on the test split: macro quality, mean cost in
    the set's unit, the share of each expert. `aim` is what was asked for, `reached` the same measured on test."""

    dataset: str
    policy: dict[str, Any]
    aim: float
    reached: float
    quality: float
    cost: float
    cost_unit: str
    shares: dict[str, float]

    def json(self) -> dict[str, Any]:
        return asdict(self)


def threshold(
    settings: Settings, traffic: Sequence[str], share: float, strong: str, weak: str, estimator: Plugged,
    progress: Progress | None = None,
) -> Tuned:  # fmt: skip
    """The `threshold` policy that asks `strong` for this share of the traffic (the splits named, whose scores are not
    read). Raises ConfigError where one of the experts or splits is not there."""
    place = _Place.of(settings, traffic, estimator, (weak, strong), progress or Progress())
    gains = place.estimated.estimates.quality[:, 1] - place.estimated.estimates.quality[:, 0]
    limit = round(calibrated_threshold(gains, share), 6)
    policy = Plugged.model_validate({"name": "threshold", "strong": strong, "weak": weak, "threshold": limit})
    return place.judged(policy, share, lambda done: float((done.seats == 1).mean()))


def budget(
    settings: Settings, traffic: Sequence[str], mean_cost: float, estimator: Plugged, progress: Progress | None = None
) -> Tuned:
    """The `budget` policy whose price keeps the expected mean cost of this traffic at `mean_cost`, in the set's unit.

    Raises ConfigError where no cost is known, or even the cheapest experts cost more.
    """
    place = _Place.of(settings, traffic, estimator, (), progress or Progress())
    if place.test.cost_unit not in ("usd", "parameter-tokens"):
        raise ConfigError(
            f"{place.test.name}: expected prices or sizes for every expert in models.json, to hold a budget"
        )
    price = learned_price(place.estimated.estimates.quality, place.cost(), mean_cost)
    policy = Plugged.model_validate({"name": "budget", "price": float(f"{price:.6g}")})
    return place.judged(policy, mean_cost, lambda done: float(done.cost(place.test.cost).mean()))


@dataclass(frozen=True, slots=True)
class _Place:
    fitted: FittedRoute
    traffic: OutcomeSet
    test: OutcomeSet
    estimated: Decisions
    encoder: Encoder

    @staticmethod
    def of(
        settings: Settings, traffic: Sequence[str], estimator: Plugged, only: Sequence[str], progress: Progress
    ) -> _Place:
        progress.step("reading outcomes")
        whole = open_outcomes(settings.outcomes, settings.shape)
        for name in only:
            if name not in whole.outcomes.experts:
                raise ConfigError(f"{whole.name}: no expert {name!r}; there are {', '.join(whole.outcomes.experts)}")
        if only:
            whole = of_experts(whole, only)
        found = embedded_set(whole, settings, progress)
        train, seen = found.whole.of_split(*settings.fit), found.whole.of_split(*traffic)
        progress.step("fitting")
        fitted = fit(train, estimator, settings.policy, encoder=found.encoder, seed=settings.seed)
        return _Place(
            fitted, seen, found.whole.of_split(*settings.test), fitted.decide(queries_of(seen.outcomes)),
            found.encoder,
        )  # fmt: skip

    def cost(self) -> Matrix:
        """What the policy expects each call of the traffic to cost, (n, e)."""
        n, experts = len(self.traffic), len(self.traffic.cards)
        prompt: Matrix = np.array([len(text) / 4.0 for text in self.traffic.outcomes.texts], np.float32)
        return situation(
            self.traffic.cards, self.estimated.estimates, prompt=prompt, limit=np.full(n, np.nan, np.float32),
            load=np.zeros(experts, np.float32), allowed=np.ones((n, experts), np.bool_),
        ).cost_usd  # fmt: skip

    def judged(self, policy: Plugged, aim: float, reached: Callable[[Decisions], float]) -> Tuned:
        test = self.test
        done = with_policy(self.fitted, policy).decide(queries_of(test.outcomes))
        chosen = test.outcomes.scores[np.arange(len(test)), done.seats]
        shares = np.bincount(done.seats, minlength=len(test.cards)) / len(test)
        return Tuned(
            test.name, {"name": policy.name, **policy.options}, aim, reached(done),
            float(means(chosen[:, None], test.outcomes.tasks).macro[0]), float(done.cost(test.cost).mean()),
            test.cost_unit, {card.name: round(float(part), 4) for card, part in zip(test.cards, shares, strict=True)},
        )  # fmt: skip
