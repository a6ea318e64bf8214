"""The tables that the documentation quotes."""

from __future__ import annotations

from typing import Any

from evals.report.figures import pair_table, quality_table, speed_table


def document(name: str) -> dict[str, Any]:
    versus = {"wins": 7, "losses": 3}
    rows = [
        {"router": router, "quality_macro": level, "quality_micro": level + 0.01, "ci95": [level - 0.1, level + 0.1],
         "ci95_micro": [level - 0.2, level + 0.2], "vs_best_single": versus}
        for router, level in (("best-single", 0.5), ("default", 0.6), ("task-oracle", 0.7),
                              ("task-oracle-hindsight", 0.8), ("query-oracle", 0.9))
    ]  # fmt: skip
    task = {"n": 1234, "apgr": 0.66, "ci95": [0.6, 0.7], "apgr_10": 0.65, "cpt50": 0.3, "cpt80": 0.5}
    return {"dataset": name, "rows": rows, "apgr": {"tasks": {"mmlu": task}}, "n_fit": 10_000, "experts": ["a", "b"],
            "fit_cpu_s": 1.23, "decide_cpu_us_per_query": 27.4, "ece": 0.0312}  # fmt: skip


def test_each_set_is_told_by_its_own_measure() -> None:
    table = quality_table([document("lookahead"), document("zeroeval")]).splitlines()
    assert table[2] == "| lookahead | macro | 50.00 | **60.00** [50.0, 70.0] | 7 / 3 | 70.0 (80.0) | 90.0 |"
    assert table[3] == "| zeroeval | micro | 51.00 | **61.00** [40.0, 80.0] | 7 / 3 | 71.0 (81.0) | 91.0 |"


def test_pairs_and_speed() -> None:
    assert pair_table([document("x")]).splitlines()[2] == (
        "| x, mmlu | 1,234 | **0.660** [0.600, 0.700] | 0.650 | 30.0 % | 50.0 % |"
    )
    assert pair_table([{**document("x"), "apgr": None}]) == ""
    assert speed_table([document("x")]).splitlines()[2] == "| x | 10,000 | 2 | 1.2 | 27 | 0.031 |"
