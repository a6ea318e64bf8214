"""The replay is the gateway's own decision, judged honestly, and the same every time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from evals.outcomes import open_outcomes
from evals.replay import Reporting, fit, queries_of
from evals.report import read_report, report, write_json
from evals.report.page import page
from evals.routing import Progress, Replay, Settings, embedded_set, plugged, replay
from experts.errors import ConfigError
from experts.language import Load, Message, Query
from registry.route import Plugged
from router.decide import decide
from router.plan import Queries
from tests.evals_world import Words, world, write_world

ESTIMATORS = (Plugged(name="prior"), Plugged(name="clusters"), Plugged(name="ridge"))


def settings(folder: Path, **changes: Any) -> Settings:
    return Settings(folder, encoder=Words(), resamples=200, estimators=ESTIMATORS, cache=folder / "cache", **changes)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Replay:
    return replay(settings(write_world(tmp_path_factory.mktemp("world") / "garden")))


@pytest.fixture(scope="module")
def document(done: Replay) -> dict[str, Any]:
    return report(done)


def row(document: dict[str, Any], name: str) -> dict[str, Any]:
    return next(each for each in document["rows"] if each["router"] == name)


def test_the_report_has_every_baseline_and_router(document: dict[str, Any]) -> None:
    assert [each["router"] for each in document["rows"]] == [
        "random", "expert:botanist", "expert:astronomer", "expert:generalist", "best-single", "best-single-hindsight",
        "task-oracle", "task-oracle-hindsight", "query-oracle", "estimator:prior", "estimator:clusters",
        "estimator:ridge", "default",
    ]  # fmt: skip
    for each in document["rows"]:
        assert {"router", "quality_macro", "quality_micro", "ci95", "cost", "calls", "oracle_gap_closed",
                "vs_best_single"} <= each.keys()  # fmt: skip
        assert each["ci95"][0] <= each["quality_macro"] <= each["ci95"][1]
    assert (document["dataset"], document["n"], document["cost_unit"]) == ("garden", 60, "usd")
    assert {"fit_s", "decide_us_per_query", "embed_s", "versions", "curves", "ece", "reliability"} <= document.keys()


def test_baselines_stand_in_their_order(document: dict[str, Any]) -> None:
    level = {each["router"]: each["quality_macro"] for each in document["rows"]}
    assert level["best-single"] <= level["best-single-hindsight"] <= level["task-oracle-hindsight"]
    assert level["task-oracle-hindsight"] <= level["query-oracle"]
    assert level["task-oracle"] <= level["task-oracle-hindsight"]
    assert level["random"] == pytest.approx(np.mean([level[f"expert:{name}"] for name in document["experts"]]))
    assert row(document, "best-single")["oracle_gap_closed"] == 0
    assert row(document, "query-oracle")["oracle_gap_closed"] == 1


def test_where_experts_differ_by_subject_the_default_finds_out(document: dict[str, Any]) -> None:
    usual = row(document, "default")
    assert usual["quality_macro"] > row(document, "best-single")["quality_macro"] + 0.1
    assert usual["vs_best_single"]["ci95"][0] > 0
    assert usual["vs_best_single"]["expert"] == "generalist"
    shares = {each["task"]: each["shares"] for each in document["assignments"]}
    assert shares["plants"]["botanist"] > 0.8
    assert shares["stars"]["astronomer"] > 0.8


def test_no_task_label_is_read_when_deciding(done: Replay, tmp_path: Path) -> None:
    rows = [{**each, "task": "one" if each["split"] == "test" else each["task"]} for each in world()]
    again = replay(settings(write_world(tmp_path, rows)))
    assert again.router("default").seats is not None
    assert np.array_equal(again.router("default").seats, done.router("default").seats)  # pyright: ignore[reportArgumentType]


def test_test_scores_are_not_read_when_deciding(done: Replay, tmp_path: Path) -> None:
    rows = world()
    for each in rows:
        if each["split"] == "test":
            each["scores"] = {name: 1 - score for name, score in each["scores"].items()}
    again = replay(settings(write_world(tmp_path, rows)))
    assert np.array_equal(again.router("default").seats, done.router("default").seats)  # pyright: ignore[reportArgumentType]
    assert again.router("default").quality == pytest.approx(1 - done.router("default").quality)


def test_every_replayed_choice_is_the_gateways_own(done: Replay) -> None:
    usual = done.router("default")
    assert usual.fitted is not None
    assert usual.seats is not None
    loads, vectors = [Load()] * 3, done.queries.vectors
    assert vectors is not None
    for number, text in enumerate(done.queries.texts):
        asked = Query("q", "chat", "auto", {}, (Message("user", text),))
        plan = decide(usual.fitted.route, asked, Queries([text], vectors[number : number + 1]), loads)
        assert plan.expert == done.test.outcomes.experts[usual.seats[number]]


def test_the_same_seed_gives_the_same_report(done: Replay, document: dict[str, Any], tmp_path: Path) -> None:
    again = report(replay(settings(write_world(tmp_path / "garden"))))
    timings = ("fit_s", "fit_cpu_s", "decide_us_per_query", "decide_cpu_us_per_query", "embed_s")
    for one, other in zip(document["rows"], again["rows"], strict=True):
        assert {k: v for k, v in one.items() if k != "fit_s"} == {k: v for k, v in other.items() if k != "fit_s"}
    for key in document.keys() - {"rows", *timings}:
        assert document[key] == again[key], key


def test_vectors_come_from_the_cache_the_second_time(tmp_path: Path) -> None:
    given = settings(write_world(tmp_path))
    whole = open_outcomes(given.outcomes)
    counted: list[int] = []
    first = embedded_set(whole, given, Progress(embedding=lambda done, of: counted.append(done)))
    second = embedded_set(whole, given, Progress(embedding=lambda done, of: counted.append(done)))
    assert (first.count, second.count, counted) == (300, 0, [256, 300])
    assert np.array_equal(first.whole.outcomes.vectors, second.whole.outcomes.vectors)  # pyright: ignore[reportArgumentType]


def test_a_long_query_is_embedded_as_the_gateway_does(tmp_path: Path) -> None:
    rows = world(20)
    rows[4]["prompt"] = "moss " * 900 + "comet " * 900
    whole = embedded_set(open_outcomes(write_world(tmp_path, rows)), settings(tmp_path), Progress()).whole
    queries = queries_of(whole.outcomes)
    head, tail = Words().encode([("moss " * 900 + "comet " * 900)[:3000]]), Words().encode(["comet " * 167])
    expected = (head + tail)[0] / np.linalg.norm(head + tail)
    assert queries.vectors is not None
    assert whole.outcomes.vectors is not None
    assert queries.vectors[4] @ expected > 0.99
    assert np.array_equal(queries.vectors[5], whole.outcomes.vectors[5])


def test_costs_follow_the_choices_and_the_curve_gets_cheaper(done: Replay, document: dict[str, Any]) -> None:
    curve = document["curves"]["default"]
    assert curve[0]["cost"] >= curve[-1]["cost"]
    assert curve[-1]["cost"] <= min(each["cost"] for each in document["curves"]["experts"]) * 1.05
    assert document["curves"]["aiq"]["default"] > document["curves"]["aiq"]["zero_router"]
    usual = done.router("default")
    assert usual.seats is not None
    assert row(document, "default")["cost"] == pytest.approx(done.test.cost[range(60), usual.seats].mean())


def test_several_seats_are_several_calls(tmp_path: Path) -> None:
    many = replay(
        settings(write_world(tmp_path), policy=Plugged.model_validate({"name": "top-p", "p": 0.99, "most": 2}))
    )
    found = many.router("estimator:prior")
    assert found.calls.max() == 2
    assert found.cost.mean() > 1.3 * many.test.cost.mean(1).min()


def test_an_estimator_or_policy_that_was_named_and_cannot_be_had_is_an_error(tmp_path: Path) -> None:
    known = settings(write_world(tmp_path))
    with pytest.raises(ConfigError, match="no such estimator"):
        replay(replace(known, estimators=(Plugged(name="crystal-ball"),)))
    with pytest.raises(ConfigError, match="no such policy"):
        replay(replace(known, policy=Plugged(name="coin")))


def test_what_is_fitted_on_cannot_judge_the_fit(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="test is in both"):
        Settings(tmp_path, fit=("train", "test"))


def test_an_expert_with_one_lucky_answer_is_not_the_best_single_one(tmp_path: Path) -> None:
    rows = world()
    asked = [each for each in rows if each["split"] == "train"]
    for each in rows:
        lucky = 1.0 if each is asked[0] else None if each["split"] != "test" else 0.0
        each["scores"] = {"good": float(each is not asked[1]), "lucky": lucky}
    found = replay(settings(write_world(tmp_path, rows, {})))
    assert "always good" in found.router("best-single").what
    assert (found.router("task-oracle").seats == 0).all()


def test_two_experts_get_routellms_metrics(tmp_path: Path) -> None:
    rows = world()
    for each in rows:
        each["scores"].pop("generalist")
        each["task"] = "all"
    found = report(replay(settings(write_world(tmp_path, rows))))["apgr"]
    assert {found["strong"], found["weak"]} == {"botanist", "astronomer"}


def test_a_single_expert_and_unmeasured_cells_are_no_accident(tmp_path: Path) -> None:
    rows = world()
    for number, each in enumerate(rows):
        if number % 3 == 0:
            each["scores"]["botanist"] = None
    found = report(replay(settings(write_world(tmp_path, rows))))
    assert row(found, "expert:botanist")["unmeasured"] == 20
    assert 0 < row(found, "default")["quality_macro"] <= 1


def test_the_report_survives_being_written_and_read(document: dict[str, Any], tmp_path: Path) -> None:
    write_json(document, tmp_path / "new" / "report.json")
    assert read_report(tmp_path / "new" / "report.json")["rows"] == orjson.loads(orjson.dumps(document["rows"]))
    (tmp_path / "other.json").write_bytes(b"{}")
    with pytest.raises(ConfigError, match="expected a report of `consilium eval routing --json`, found other JSON"):
        read_report(tmp_path / "other.json")


def test_the_page_asks_nobody_and_escapes_every_text(tmp_path: Path) -> None:
    rows = world()
    for each in rows:
        each["prompt"] += " </script><script>alert('x')</script><img src=//evil.example>"
    again = replay(settings(write_world(tmp_path / "a<b>", rows)))
    text = page(again, report(again))
    assert text.count("<script") == 2
    assert text.count("</script>") == 2
    assert "<img" not in text
    assert "<title>a&lt;b&gt;: routing report</title>" in text
    assert "http://www.w3.org/2000/svg" in text
    assert text.replace("http://www.w3.org/2000/svg", "").count("http") == text.count("http-equiv")
    assert "default-src 'none'" in text


def test_a_plug_in_with_options_is_read_from_a_word() -> None:
    assert plugged("clusters") == Plugged(name="clusters")
    assert plugged('blend:members={"ridge":{}},folds=3').options == {"members": {"ridge": {}}, "folds": 3}
    assert plugged("balanced:preset=cheap").options == {"preset": "cheap"}
    with pytest.raises(ConfigError, match="expected NAME or NAME:KEY=VALUE"):
        plugged("balanced:cheap")


def test_timing_and_progress_are_told(tmp_path: Path) -> None:
    whole = embedded_set(open_outcomes(write_world(tmp_path)), settings(tmp_path), Progress()).whole
    fitted = fit(whole, Plugged(name="prior"), Plugged(name="balanced"))
    took = fitted.time(queries_of(whole.outcomes))
    assert 0 < took.clock < 1e6
    assert fitted.fit_s > 0
    told: list[int] = []
    assert Reporting(Words(), told.append, chunk=2).encode(["a", "b", "c"]).shape == (3, 64)
    assert told == [2, 1]
