"""Quality and its noise."""

from __future__ import annotations

import numpy as np
import pytest

from evals.metrics.quality import bootstrap, interval, means, sign_flip, versus

TASKS = ("a", "a", "a", "b")


def test_macro_counts_tasks_micro_counts_queries_and_the_unknown_counts_for_nothing() -> None:
    table = np.array([[1, 1], [1, np.nan], [0, 0], [0, 1]], float)
    found = means(table, TASKS)
    assert found.macro == pytest.approx([(2 / 3 + 0) / 2, (1 / 2 + 1) / 2])
    assert found.micro == pytest.approx([2 / 4, 2 / 3])


def test_a_router_without_any_known_score_has_no_quality() -> None:
    assert np.isnan(means(np.array([[np.nan], [np.nan]]), ("a", "b")).macro[0])


def test_the_bootstrap_has_the_spread_that_theory_gives() -> None:
    rng = np.random.default_rng(1)
    values = (rng.random((2000, 1)) < 0.3).astype(float)
    draws = bootstrap(values, ["t"] * 2000, resamples=2000, seed=3)
    assert draws.micro.std() == pytest.approx(np.sqrt(values.mean() * (1 - values.mean()) / 2000), rel=0.1)
    low, high = interval(draws.macro[:, 0])
    assert low < values.mean() < high


def test_intervals_of_95_percent_hold_the_truth_about_95_times_in_100() -> None:
    rng = np.random.default_rng(5)
    held = 0
    for number in range(200):
        sample = rng.normal(0.5, 0.2, size=(80, 1))
        low, high = interval(bootstrap(sample, ["t"] * 80, resamples=300, seed=number).micro[:, 0])
        held += low <= 0.5 <= high
    assert 0.89 <= held / 200 <= 0.99


def test_routers_are_resampled_with_the_same_queries() -> None:
    values = np.random.default_rng(0).random((50, 1))
    draws = bootstrap(np.hstack([values, values + 0.25]), ["t"] * 50, resamples=200, seed=0)
    assert draws.macro[:, 1] - draws.macro[:, 0] == pytest.approx(np.full(200, 0.25))


def test_bootstrap_is_stratified_every_task_keeps_its_weight() -> None:
    values = np.array([[1.0]] * 5 + [[0.0]] * 500)
    draws = bootstrap(values, ["few"] * 5 + ["many"] * 500, resamples=100, seed=0)
    assert draws.macro == pytest.approx(np.full((100, 1), 0.5))


def test_versus_counts_wins_and_losses_and_sees_a_clear_gain() -> None:
    ours, theirs = np.ones(60), np.array([0.0] * 20 + [1.0] * 40)
    found = versus(ours, theirs, ["t"] * 60, seed=0)
    assert (found.wins, found.losses, found.ties) == (20, 0, 40)
    assert found.difference == pytest.approx(1 / 3)
    assert found.ci95.low > 0.15
    assert found.p < 0.01


def test_versus_sees_no_difference_between_equals() -> None:
    same = np.array([1.0, 0.0, np.nan])
    found = versus(same, same, ["t"] * 3)
    assert (found.wins, found.losses, found.ties, found.p) == (0, 0, 2, 1.0)


def test_the_sign_flip_test_is_honest_under_no_difference() -> None:
    rng = np.random.default_rng(2)
    values = [sign_flip(rng.choice([-1.0, 0.0, 1.0], 60), ["t"] * 60, flips=400, seed=i) for i in range(150)]
    assert 0.01 <= np.mean(np.array(values) < 0.05) <= 0.1


def test_the_sign_flip_test_knows_the_exact_p_of_six_wins() -> None:
    p = sign_flip(np.ones(6), ["t"] * 6, flips=20_000, seed=0)
    assert p == pytest.approx(2 / 2**6, rel=0.15)
