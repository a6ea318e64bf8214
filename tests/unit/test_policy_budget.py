from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from experts.errors import ConfigError
from router.costs import choose_fleet
from router.plan import Estimates
from router.policies.budget import Budget, Options, learned_price
from router.protocols import Situation


def traffic(rows: int, seed: int) -> tuple[Estimates, Situation]:
    random = np.random.default_rng(seed)
    quality = np.sort(random.random((rows, 3)), axis=1).astype(np.float32)
    cost = (random.random((rows, 3)) * np.array([1, 4, 20]) / 1e4).astype(np.float32)
    unknown = np.full_like(quality, np.nan)
    found = Estimates(("s", "m", "l"), quality, np.full_like(quality, 0.1), unknown, unknown, 2)
    return found, Situation(cost, np.zeros(3, np.float32), np.ones((rows, 3), bool))


@pytest.mark.parametrize("mean_usd", [1e-4, 3e-4, 6e-4])
def test_a_price_learned_on_early_queries_holds_the_budget_on_later_ones(mean_usd: float) -> None:
    early, paid = traffic(400, 0)
    price = learned_price(early.quality, paid.cost_usd, mean_usd)
    later, cost = traffic(4000, 1)
    chosen = [choice.seats[0] for choice in Budget(Options(price=price)).decide(later, cost)]
    spent = cost.cost_usd[np.arange(4000), chosen].mean()
    assert spent == pytest.approx(mean_usd, rel=0.12)


@pytest.mark.parametrize("batch", [1, 7, 4000])
def test_a_mean_is_held_online_while_traffic_changes(batch: int) -> None:
    """Without knowing what comes; halfway through every query begins to cost three times as much."""
    found, where = traffic(4000, 1)
    cost = where.cost_usd * np.where(np.arange(4000) < 2000, 1, 3)[:, None].astype(np.float32)
    policy = Budget(Options(mean_usd=6e-4))
    seats: list[int] = []
    for first in range(0, 4000, batch):
        part = slice(first, first + batch)
        quality = found.quality[part]
        some = Estimates(found.experts, quality, quality * 0, quality * np.nan, quality * np.nan, 2)
        state = Situation(cost[part], np.zeros(3, np.float32), np.ones(quality.shape, bool))
        seats += [choice.seats[0] for choice in policy.decide(some, state)]
    spent = cost[np.arange(4000), seats]
    assert spent.mean() == pytest.approx(6e-4, rel=0.12)
    assert spent[:2000].mean() == pytest.approx(6e-4, rel=0.12)
    assert found.quality[np.arange(4000), seats].mean() > found.quality[:, 0].mean() + 0.1


def test_a_total_is_kept_and_all_queries_are_served() -> None:
    found, where = traffic(2000, 2)
    policy = Budget(Options(total_usd=0.5, queries=2000))
    seats = [choice.seats[0] for choice in policy.decide(found, where)]
    spent = where.cost_usd[np.arange(2000), seats]
    assert 0.4 <= spent.sum() <= 0.5 * 1.02
    assert spent[-200:].mean() >= 0.5 / 2000 * 0.5
    assert len(seats) == 2000


def test_a_mean_below_the_cheapest_asks_the_cheapest_and_who_is_forbidden_counts_nowhere() -> None:
    found, where = traffic(50, 3)
    seats = [choice.seats[0] for choice in Budget(Options(mean_usd=0.0)).decide(found, where)]
    assert seats[1:] == where.cost_usd.argmin(1).tolist()[1:]
    allowed = np.ones((50, 3), bool)
    allowed[:, 2] = False
    allowed[0] = False
    choices = Budget(Options(mean_usd=1.0)).decide(found, Situation(where.cost_usd, where.load, allowed))
    assert [choice.seats for choice in choices] == [(), *[(1,)] * 49]


@pytest.mark.parametrize(
    "wrong", [{}, {"price": 1.0, "mean_usd": 1.0}, {"total_usd": 1.0}, {"mean_usd": 1, "queries": 2}]
)
def test_one_kind_of_budget_is_named(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"expected one of|go together"):
        Options.model_validate(wrong)


def test_a_budget_that_binds_nothing_is_free() -> None:
    early, paid = traffic(100, 0)
    assert learned_price(early.quality, paid.cost_usd, 1.0) == 0.0


def test_a_budget_below_the_cheapest_is_refused() -> None:
    early, paid = traffic(100, 0)
    with pytest.raises(ConfigError, match="expected a mean of at least"):
        learned_price(early.quality, paid.cost_usd, 1e-9)


def test_the_fleet_is_the_one_that_trying_all_finds() -> None:
    random = np.random.default_rng(0)
    names = tuple("abcdef")
    for budget in (5.0, 9.0, 14.0):
        wins, share, sizes = random.random((7, 6)), random.random(7), random.integers(1, 9, 6).astype(float)
        sizes[0] = 2
        best = max(
            float((share / share.sum() * wins[:, list(kept)].max(1)).sum())
            for n in range(1, 7)
            for kept in combinations(range(6), n)
            if sizes[list(kept)].sum() <= budget
        )
        fleet = choose_fleet(names, wins, share, sizes.tolist(), budget)
        assert fleet.quality == pytest.approx(best, abs=1e-6)
        assert fleet.price <= budget
        assert set(fleet.serves) == set(fleet.kept)


def test_a_fleet_that_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="smallest needs 7"):
        choose_fleet(("a",), np.ones((1, 1)), np.ones(1), [7.0], 5.0)
