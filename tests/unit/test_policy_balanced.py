from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from experts.errors import ConfigError
from router.plan import Estimates
from router.policies import open_policy
from router.protocols import Situation

EXPERTS = ("cheap", "safe", "bold")


def one(quality: list[float], doubt: float = 0.1, default: int = 1) -> Estimates:
    row = np.array([quality], np.float32)
    unknown = np.full_like(row, np.nan)
    return Estimates(EXPERTS, row, np.full_like(row, doubt), unknown, unknown, default)


def where(cost: tuple[float, ...] = (0.1, 1.0, 1.0), load: tuple[float, ...] = (0, 0, 0)) -> Situation:
    return Situation(np.array([cost], np.float32), np.array(load, np.float32), np.ones((1, 3), bool))


def chosen(quality: list[float], options: dict[str, object] | None = None, **of: object) -> str:
    doubt = float(str(of.pop("doubt", 0.1)))
    (choice,) = open_policy("balanced", options or {}).decide(one(quality, doubt), where(**of))  # type: ignore[arg-type]
    return EXPERTS[choice.seats[0]]


def test_a_clear_lead_leaves_the_best_single_expert() -> None:
    assert chosen([0.2, 0.6, 0.9]) == "bold"


def test_a_lead_within_its_uncertainty_does_not() -> None:
    assert chosen([0.2, 0.6, 0.62], {"caution": 0.5}) == "safe"
    assert chosen([0.2, 0.6, 0.62], {"caution": 0.5}, doubt=0.01) == "bold"


def test_the_reason_says_which_it_was() -> None:
    policy = open_policy("balanced", {"caution": 0.5})
    assert "within its uncertainty" in policy.decide(one([0.2, 0.6, 0.62]), where())[0].reason
    assert "ahead of safe" in policy.decide(one([0.2, 0.6, 0.95]), where())[0].reason


def test_price_decides_between_equals_and_never_against_a_clear_difference() -> None:
    assert chosen([0.6, 0.6, 0.6], {"caution": 0}) == "cheap"
    assert chosen([0.5, 0.6, 0.6]) == "safe"


def test_presets_move_the_price_of_cost() -> None:
    assert chosen([0.52, 0.6, 0.6], {"preset": "cheap"}) == "cheap"
    assert chosen([0.52, 0.6, 0.6], {"preset": "best"}) == "safe"
    assert chosen([0.52, 0.6, 0.6], {"preset": "best", "lambda": 0.5}) == "cheap"


def test_the_currency_does_not_matter() -> None:
    assert chosen([0.52, 0.6, 0.6], {"preset": "cheap"}, cost=(1e-7, 1e-6, 1e-6)) == "cheap"


def test_unknown_cost_is_neither_free_nor_dear() -> None:
    assert chosen([0.5, 0.6, 0.6], {"preset": "cheap"}, cost=(float("nan"),) * 3) == "safe"


def test_a_full_expert_gives_way_to_an_equal_one() -> None:
    assert chosen([0.1, 0.6, 0.6], {"caution": 0}, load=(0, 1.0, 0)) == "bold"


def test_spares_are_the_next_best_in_order() -> None:
    (choice,) = open_policy("balanced", {"spares": 1}).decide(one([0.5, 0.4, 0.9]), where())
    assert choice.seats == (2,)
    assert choice.spares == (0,)


def test_a_wrong_preset_names_the_option() -> None:
    with pytest.raises(ConfigError, match=r"balanced\.preset: .*'cheap', 'balanced' or 'best'"):
        open_policy("balanced", {"preset": "dear"})


def test_a_lead_of_a_size_that_has_not_paid_is_not_counted_and_prices_still_are() -> None:
    policy, found = open_policy("balanced", {"caution": 0}), one([0.2, 0.6, 0.7])
    assert policy.decide(found, where())[0].seats == (2,)
    held = replace(found, margins=(0.15, 0.15, 0.15))
    assert policy.decide(held, where())[0].seats == (1,)
    assert "bold is expected to be ahead by 0.100" in policy.decide(held, where())[0].reason
    assert policy.decide(replace(found, margins=(0.15, 0.15, 0.05)), where())[0].seats == (2,)
    cheaper = open_policy("balanced", {"caution": 0, "lambda": 0.5})
    assert cheaper.decide(replace(one([0.55, 0.6, 0.7]), margins=(1.0, 1.0, 1.0)), where())[0].seats == (0,)


def test_who_was_chosen_before_a_fit_keeps_the_query_unless_another_is_expected_to_be_worth_more() -> None:
    policy = open_policy("balanced", {"caution": 0.5, "preset": "best"})

    def after(quality: list[float], before: int, allowed: tuple[bool, ...] = (True, True, True)) -> str:
        state = replace(where(), allowed=np.array([allowed]))
        estimates = replace(one(quality), incumbents=np.array([before]))
        return EXPERTS[policy.decide(estimates, state)[0].seats[0]]

    assert chosen([0.2, 0.6, 0.62], {"caution": 0.5, "preset": "best"}) == "safe"  # what it is without one
    assert after([0.2, 0.6, 0.62], 2) == "bold"
    assert after([0.2, 0.6, 0.58], 2) == "safe"
    assert after([0.2, 0.6, 0.62], -1) == "safe"
    assert after([0.2, 0.6, 0.62], 2, (True, True, False)) == "safe"
    assert after([0.6, 0.6, 0.9], 0) == "bold"
    said = policy.decide(replace(one([0.2, 0.6, 0.62]), incumbents=np.array([2])), where())[0].reason
    assert "bold was chosen before the last fit" in said
