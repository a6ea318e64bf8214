"""Comparing two reports: noise is not a regression, a regression is not noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from evals.compare import compare
from experts.errors import ConfigError


def document(scores: list[float | None], *, cost: float = 1.0, prefix: str = "q") -> dict[str, Any]:
    return {
        "dataset": "d", "cost_unit": "usd", "rows": [{"router": "default", "cost": cost}],
        "queries": {"ids": [f"{prefix}{i}" for i in range(len(scores))], "tasks": ["t"], "task": [0] * len(scores),
                    "scores": {"default": scores, "best-single": [0.5] * len(scores)}},
    }  # fmt: skip


def drawn(chance: float, seed: int, n: int = 400) -> list[float | None]:
    return (np.random.default_rng(seed).random(n) < chance).astype(float).tolist()


def test_equal_reports_are_the_same() -> None:
    verdict = compare(document(drawn(0.7, 1)), document(drawn(0.7, 1)))
    assert (verdict.call, verdict.worse, verdict.versus.difference) == ("same", False, 0.0)


def test_two_draws_of_one_quality_differ_within_noise() -> None:
    assert compare(document(drawn(0.7, 1)), document(drawn(0.7, 2))).call == "same"


def test_a_fall_beyond_noise_is_worse_and_a_rise_better() -> None:
    high, low = document(drawn(0.8, 1), cost=1.0), document(drawn(0.6, 2), cost=2.0)
    assert compare(high, low).worse
    assert compare(low, high).call == "better"
    assert compare(high, low).cost == 2.0


def test_small_paired_falls_are_seen_that_unpaired_noise_would_hide() -> None:
    before = drawn(0.7, 3, 1000)
    after = [0.0 if i % 40 == 0 else score for i, score in enumerate(before)]
    verdict = compare(document(before), document(after))
    assert verdict.call == "worse"
    assert verdict.versus.difference > -0.03
    assert not compare(document(before), document(after), allow=0.05).worse


def test_queries_are_paired_by_id_not_by_place() -> None:
    one, other = document([1.0, 0.0, 1.0, 0.0]), document([0.0, 1.0, 0.0, 1.0])
    other["queries"]["ids"] = ["q1", "q0", "q3", "q2"]
    assert compare(one, other).versus.ties == 4


def test_unknown_scores_are_left_out() -> None:
    verdict = compare(document([1.0, None, 0.0]), document([1.0, 1.0, None]))
    assert (verdict.shared, verdict.versus.ties) == (3, 1)


def test_another_row_can_be_held_against() -> None:
    verdict = compare(document([1.0] * 50), document([1.0] * 50), against="best-single")
    assert (verdict.call, verdict.before, verdict.after) == ("better", 0.5, 1.0)


def test_reports_on_other_queries_or_without_the_router_are_refused() -> None:
    with pytest.raises(ConfigError, match="expected reports on the same queries, found 0 in both of 3 and 3"):
        compare(document([1.0] * 3), document([1.0] * 3, prefix="other"))
    with pytest.raises(
        ConfigError, match="no results of a router 'blend' in the report; there are default, best-single"
    ):
        compare(document([1.0]), document([1.0]), router="blend")
