"""Experts that join: which probes, what routing is worth then, and how much of it drifts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evals.joining import hiding
from evals.onboarding import onboard
from evals.outcomes import open_outcomes
from evals.probes import choose_probes
from evals.replay import Decisions
from evals.routing import Settings
from evals.stability import drift, flips
from experts.errors import ConfigError
from registry.route import Plugged
from router.plan import Estimates
from tests.evals_world import Words, write_world

RIDGE, BALANCED = Plugged(name="ridge"), Plugged(name="balanced")


def settings(folder: Path) -> Settings:
    return Settings(write_world(folder), encoder=Words(), cache=folder / "cache")


def test_probes_are_queries_that_tell_experts_apart_far_from_each_other() -> None:
    vectors = np.eye(4, dtype=np.float32)[[0, 0, 1, 2, 3]]
    scores = np.array([[1, 0], [1, 0], [1, 0], [1, 1], [0, 0]], float)
    chosen = choose_probes(scores, vectors, 5)
    assert set(chosen[:2].tolist()) in ({0, 2}, {1, 2}), "two that differ, not twice the same place"
    assert sorted(chosen.tolist()) == [0, 1, 2, 3, 4]
    assert choose_probes(scores, vectors, 2).tolist() == chosen[:2].tolist()


def test_probes_need_no_score_of_everybody() -> None:
    scores = np.array([[np.nan, np.nan], [1, 0], [np.nan, 1]])
    assert choose_probes(scores, np.eye(3, dtype=np.float32), 1).tolist() == [1]


def test_a_specialist_that_joins_with_few_outcomes_is_found_and_earns_its_share(tmp_path: Path) -> None:
    curve = onboard(settings(tmp_path), RIDGE, BALANCED, "botanist", [0, 40, 240])
    assert [step.n for step in curve.steps] == [0, 40, 240]
    assert (curve.newcomer, curve.available) == ("botanist", 240)
    assert curve.steps[0].added == pytest.approx(curve.without, abs=0.05)
    assert curve.steps[-1].added > curve.without + 0.05
    assert curve.steps[-1].added == pytest.approx(curve.steps[-1].refitted, abs=0.05)
    assert curve.steps[-1].refitted == pytest.approx(curve.full, abs=0.02)
    assert curve.steps[-1].share > 0.3
    assert curve.json()["steps"][0]["n"] == 0


def test_who_joins_must_exist_and_have_company(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no expert 'chemist'; there are botanist, astronomer, generalist"):
        onboard(settings(tmp_path), RIDGE, BALANCED, "chemist", [10])


def test_hiding_leaves_an_expert_only_what_is_shown(tmp_path: Path) -> None:
    whole = open_outcomes(write_world(tmp_path))
    part = hiding(whole, 1, [3, 5])
    assert np.flatnonzero(np.isfinite(part.outcomes.scores[:, 1])).tolist() == [3, 5]
    assert np.isfinite(part.outcomes.scores[:, [0, 2]]).all()
    assert np.isfinite(whole.outcomes.scores).all()


def test_flips_to_a_useful_newcomer_are_justified(tmp_path: Path) -> None:
    found = drift(settings(tmp_path), RIDGE, BALANCED, "botanist", False)
    assert found.flipped >= found.to_newcomer > 0.3
    assert found.unjustified < 0.05
    assert found.after > found.before


def test_new_data_of_the_same_experts_flip_little(tmp_path: Path) -> None:
    found = drift(settings(tmp_path), RIDGE, BALANCED, None, True)
    assert found.to_newcomer == 0
    assert found.flipped < 0.3
    with pytest.raises(ConfigError, match="expected two fit splits"):
        drift(replace(settings(tmp_path), fit=("train",)), RIDGE, BALANCED, None, True)


def decided(seats: list[int], quality: list[list[float]]) -> Decisions:
    table: Any = np.array(quality, np.float32)
    return Decisions(Estimates(("a", "b"), table, table * 0 + 0.1, table, table), np.array(seats))


def test_a_flip_without_a_predicted_gain_is_drift_and_one_within_its_doubt_doubtful(tmp_path: Path) -> None:
    test = open_outcomes(write_world(tmp_path)).take([0, 1, 2, 3])
    quality = [[0.5, 0.9], [0.5, 0.52], [0.5, 0.4], [0.5, 0.5]]
    found = flips(decided([0, 0, 0, 0], quality), decided([1, 1, 1, 0], quality), test, "it changed", caution=1.0)
    assert (found.flipped, found.unjustified, found.doubtful) == (0.75, 0.25, 0.25)
    assert found.margins == {"0": 0.5, "0.01": 0.5, "0.02": 0.25, "0.05": 0.25, "0.1": 0.25}
