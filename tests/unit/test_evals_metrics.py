"""Curves, strong-weak pairs and calibration, against values worked out by hand and against published ones."""

from __future__ import annotations

import numpy as np
import pytest

from evals.metrics.calibration import reliability
from evals.metrics.curves import Point, aiq, arena_score, hull
from evals.metrics.pairs import pair


def test_the_hull_drops_what_a_mix_of_others_reaches() -> None:
    points = [Point(1, 0.5), Point(2, 0.55), Point(3, 0.8), Point(4, 0.7), Point(2.5, 0.7)]
    assert hull(points) == [Point(1, 0.5), Point(3, 0.8)] or hull(points) == [
        Point(1, 0.5), Point(2.5, 0.7), Point(3, 0.8)
    ]  # fmt: skip
    assert Point(2, 0.55) not in hull(points)
    assert Point(4, 0.7) not in hull(points)


def test_aiq_is_the_mean_height_over_the_span() -> None:
    assert aiq([Point(0, 0.2), Point(1, 0.6)], 0, 1) == pytest.approx(0.4)
    assert aiq([Point(0, 0.2), Point(1, 0.6)], 0, 2) == pytest.approx((0.4 + 0.6) / 2)
    assert aiq([Point(1, 0.6)], 1, 1) is None


@pytest.mark.parametrize(
    ("accuracy", "usd", "published"),
    [
        (66.88, 0.15, 66.89), (68.09, 0.54, 66.66), (66.34, 0.21, 66.12), (73.96, 10.02, 64.32),
        (32.01, 0.07, 33.75), (68.41, 0.29, 67.65), (18.18, 0.0518, 19.53),
    ],
)  # fmt: skip
def test_the_formula_reproduces_rows_of_the_routerarena_leaderboard(
    accuracy: float, usd: float, published: float
) -> None:
    assert 100 * arena_score(accuracy / 100, usd) == pytest.approx(published, abs=0.08)


def test_the_arena_score_is_cut_at_both_ends() -> None:
    assert arena_score(0.8, 0.0) == pytest.approx(1.1 * 0.8 / (0.08 + 1))
    assert arena_score(0.8, 1000) == 0.0
    assert arena_score(0.0, 1000) == 0.0


def test_a_router_that_knows_recovers_the_gap_first() -> None:
    strong, weak = np.array([1, 1, 1, 1.0]), np.array([0, 0, 1, 1.0])
    found = pair(np.array([0.9, 0.8, 0.1, 0.0]), strong, weak)
    assert found is not None
    assert (found.weak_quality, found.strong_quality) == (0.5, 1.0)
    assert found.apgr == pytest.approx(0.75)
    assert (found.cpt50, found.cpt80) == (0.25, 0.5)
    assert found.curve[0] == 0.0
    assert found.curve[-1] == 1.0


def test_a_router_that_knows_nothing_comes_out_at_a_half() -> None:
    rng = np.random.default_rng(0)
    strong, weak = (rng.random(4000) < 0.8).astype(float), (rng.random(4000) < 0.6).astype(float)
    found = pair(np.zeros(4000), np.sort(strong), np.sort(weak), seed=1)
    assert found is not None
    assert found.apgr == pytest.approx(0.5, abs=0.05)
    assert found.ci95.low < found.apgr < found.ci95.high


def test_the_papers_ten_shares_are_near_the_whole_area() -> None:
    rng = np.random.default_rng(3)
    chance = rng.random(3000)
    strong, weak = np.ones(3000), (rng.random(3000) < chance).astype(float)
    found = pair(-chance, strong, weak)
    assert found is not None
    assert found.apgr == pytest.approx(2 / 3, abs=0.03)
    assert found.apgr_10 == pytest.approx(found.apgr, abs=0.01)
    assert found.ci95.high - found.ci95.low == pytest.approx(2 * 1.96 * 0.0079, rel=0.5)


def test_no_lead_no_recovery() -> None:
    assert pair(np.array([1.0, 0.0]), np.array([0.0, 1.0]), np.array([1.0, 0.0])) is None


def test_calibration_error_by_hand() -> None:
    found = reliability(np.array([0.9, 0.9, 0.9, 0.9, 0.1]), np.array([1, 1, 1, 0, np.nan]), bins=10)
    assert found.count == 4
    assert found.ece == pytest.approx(0.9 - 0.75)
    assert [(each.count, each.outcome) for each in found.bins] == [(4, 0.75)]
    assert found.brier == pytest.approx((3 * 0.01 + 0.81) / 4)


def test_probabilities_that_mean_what_they_say_have_no_calibration_error() -> None:
    rng = np.random.default_rng(0)
    said = rng.random(100_000)
    assert reliability(said, rng.random(100_000) < said).ece < 0.01
    assert reliability(np.clip(said * 1.5, 0, 1), rng.random(100_000) < said).ece > 0.1
