"""Off-policy evaluation on made-up traffic whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from evals.ope import Logged, evaluate, rated
from experts.errors import ConfigError
from router.records.rows import Decision, Measured

TRUTH = np.array([[0.9, 0.2, 0.4], [0.3, 0.8, 0.5]])
"""Probability of success by kind of query and expert."""

LOGGING = np.array([[0.8, 0.1, 0.1], [0.8, 0.1, 0.1]])
TARGET = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
VALUE = 0.85
"""What the target earns, both kinds being as frequent."""


def traffic(n: int, seed: int, model: np.ndarray) -> Logged:
    random = np.random.default_rng(seed)
    kind = random.integers(0, 2, n)
    chosen = (random.random((n, 1)) > LOGGING[kind].cumsum(1)).sum(1)
    rewards = (random.random(n) < TRUTH[kind, chosen]).astype(float)
    return Logged(rewards, LOGGING[kind, chosen], TARGET[kind, chosen], model[kind, chosen],
                  (TARGET * model).sum(1)[kind], np.ones(n, bool))  # fmt: skip


@pytest.mark.parametrize("model", [TRUTH, np.full((2, 3), 0.5), 1 - TRUTH], ids=["right", "ignorant", "wrong"])
def test_each_estimate_is_unbiased_whatever_the_model(model: np.ndarray) -> None:
    found = [evaluate(traffic(2000, seed, model), resamples=2) for seed in range(120)]
    for name in ("ips", "snips", "dr"):
        values = [getattr(one, name).value for one in found]
        assert abs(np.mean(values) - VALUE) < 4 * np.std(values) / len(values) ** 0.5 + 0.002, name


def test_a_good_model_makes_doubly_robust_the_surest() -> None:
    found = [evaluate(traffic(1000, seed, TRUTH), resamples=2) for seed in range(80)]
    spread = {name: np.std([getattr(one, name).value for one in found]) for name in ("ips", "snips", "dr")}
    assert spread["dr"] < spread["snips"] < spread["ips"]


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    found = [evaluate(traffic(1500, seed, np.full((2, 3), 0.5)), resamples=200, seed=seed) for seed in range(120)]
    for name in ("ips", "snips", "dr"):
        held = np.mean([getattr(one, name).low <= VALUE <= getattr(one, name).high for one in found])
        assert 0.87 <= held <= 1.0, (name, held)


def test_the_gain_is_against_what_was_logged() -> None:
    found = evaluate(traffic(20_000, 1, TRUTH), resamples=100)
    assert found.logged.value == pytest.approx((LOGGING * TRUTH).sum() / 2, abs=0.02)
    assert found.gain.low > 0.2
    assert found.largest_weight == 10.0
    assert found.effective < found.n


def test_traffic_without_exploration_tells_no_gain() -> None:
    """Every reward 1 and none explored: the estimates of what exploring costs must not pass for a loss."""
    n = 20
    same = np.full(n, 0.95)
    found = evaluate(Logged(np.ones(n), same, same, np.full(n, 0.9), np.full(n, 0.85), np.ones(n, bool)))
    assert found.gain.high < 0
    assert not found.telling
    assert found.json()["telling"] is False
    assert evaluate(traffic(2000, 3, TRUTH), resamples=2).telling


def test_nothing_rated_is_said_with_the_reasons() -> None:
    nothing = np.zeros(0)
    with pytest.raises(ConfigError, match=r"got 0 \(7 not rated\)"):
        evaluate(Logged(nothing, nothing, nothing, nothing, nothing, np.zeros(0, bool)), skipped={"not rated": 7})


def test_a_rating_is_the_decisions_whoever_answered_it() -> None:
    decisions = [Decision("1", 0.0, expert="a", answered="b"), Decision("2", 0.0, expert="a", answered="a"),
                 Decision("3", 0.0, expert="a", answered="a")]  # fmt: skip
    rows = [Measured("1", "b", 0.2, "feedback", 0.0), Measured("2", "a", 0.4, "feedback", 0.0),
            Measured("3", "a", 1.0, "profile", 0.0), Measured("2", "c", 1.0, "feedback", 0.0)]  # fmt: skip
    assert rated(decisions, rows) == {"1": 0.2, "2": 0.4}
