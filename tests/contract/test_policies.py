"""What every policy does, whichever it is: the tests run on each file of the folder from the day it appears."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from experts.errors import ConfigError
from router.plan import Estimates
from router.policies import names, open_policy
from router.protocols import Choice, Situation

EXPERTS = ("small", "middle", "large")
NEEDED: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {"threshold": {"strong": "large", "weak": "small"}, "budget": {"price": 10.0}}
)
"""Options without which a policy cannot be opened."""


@pytest.fixture(params=sorted(names()))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def estimates(rows: int = 12, seed: int = 0, default: int = 2) -> Estimates:
    random = np.random.default_rng(seed)
    quality = random.random((rows, len(EXPERTS))).astype(np.float32)
    unknown = np.full_like(quality, np.nan)
    return Estimates(EXPERTS, quality, np.full_like(quality, 0.05), unknown, unknown, default)


def situation(rows: int = 12, allowed: np.ndarray | None = None) -> Situation:
    cost = np.broadcast_to(np.array([0.1, 1.0, 4.0], np.float32) / 1e3, (rows, len(EXPERTS)))
    may = np.ones((rows, len(EXPERTS)), bool) if allowed is None else allowed
    return Situation(cost, np.zeros(len(EXPERTS), np.float32), may)


def decided(name: str, found: Estimates, where: Situation) -> list[Choice]:
    return open_policy(name, NEEDED.get(name, {})).decide(found, where)


def test_every_query_gets_one_choice_of_distinct_experts(name: str) -> None:
    choices = decided(name, estimates(), situation())
    assert len(choices) == 12
    for choice in choices:
        assert choice.seats
        asked = choice.seats + choice.spares
        assert len(set(asked)) == len(asked)
        assert set(asked) <= {0, 1, 2}
        assert choice.reason
        assert choice.score.shape == (3,)


def test_the_same_inputs_give_the_same_choices(name: str) -> None:
    first, again = decided(name, estimates(), situation()), decided(name, estimates(), situation())
    assert [(c.seats, c.spares, c.reason) for c in first] == [(c.seats, c.spares, c.reason) for c in again]


def test_a_batch_of_one_is_a_row_of_a_batch(name: str) -> None:
    whole, found = decided(name, estimates(), situation()), estimates()
    part = Estimates(EXPERTS, found.quality[3:4], found.uncertainty[3:4], found.tokens[3:4], found.latency_ms[3:4], 2)
    (one,) = decided(name, part, situation(1))
    assert (one.seats, one.spares, one.reason) == (whole[3].seats, whole[3].spares, whole[3].reason)


def test_what_is_not_allowed_is_never_asked(name: str) -> None:
    may = np.random.default_rng(3).random((12, 3)) < 0.6
    may[:, 0] |= ~may.any(1)
    for row, choice in enumerate(decided(name, estimates(), situation(allowed=may))):
        assert choice.seats
        assert all(may[row, column] for column in choice.seats + choice.spares)


def test_nobody_allowed_is_an_empty_choice_that_says_so(name: str) -> None:
    (choice,) = decided(name, estimates(1), situation(1, np.zeros((1, 3), bool)))
    assert (choice.seats, choice.spares) == ((), ())
    assert "no expert meets" in choice.reason


def test_without_any_evidence_it_still_chooses(name: str) -> None:
    for choice in decided(name, estimates(default=-1), situation()):
        assert choice.seats


def test_an_empty_batch(name: str) -> None:
    assert decided(name, estimates(0), situation(0)) == []


def test_a_wrong_option_is_refused_by_name(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name}\.bogus: Extra inputs are not permitted"):
        open_policy(name, {**NEEDED.get(name, {}), "bogus": 1})


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="no such policy; known are balanced"):
        open_policy("coin", {})
