"""Suites: the published data as samples, and files of one's own."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from evals.run import first
from evals.sample import ScorerParts, split_of
from evals.scorers import open_scorer
from evals.suites import names, open_suite
from experts.errors import ConfigError

SIZES = {"gsm8k": 1319, "humaneval": 164, "mbpp": 427, "ifeval": 541, "mt-bench": 80, "bbh": 6511, "banking77": 3080,
         "clinc150": 5500, "pocket": 200}  # fmt: skip


@pytest.mark.data
@pytest.mark.parametrize("name", sorted(SIZES))
def test_every_published_suite_is_whole_and_can_be_scored(name: str, data_folder: Path) -> None:
    samples = open_suite(name, data=data_folder)
    assert len(samples) == SIZES[name]
    for scorer, options in {(one.scorer, orjson.dumps(dict(one.options))) for one in samples[:50]}:
        if scorer != "judge":
            open_scorer(scorer, orjson.loads(options), ScorerParts())


def test_no_suite_is_forgotten() -> None:
    assert names() == SIZES.keys()


@pytest.mark.data
def test_options_follow_the_name(data_folder: Path) -> None:
    assert len(open_suite("bbh:task=navigate", data=data_folder)) == 250
    assert len(open_suite("gsm8k:split=train", data=data_folder)) == 7473
    assert len(open_suite("banking77:per_intent=2", data=data_folder)) == 154
    assert len(open_suite("pocket:each=3", data=data_folder)) == 15
    with pytest.raises(ConfigError, match="expected option=value"):
        open_suite("pocket:three", data=data_folder)
    with pytest.raises(ConfigError, match=r"gsm8k\.split"):
        open_suite("gsm8k:split=all", data=data_folder)


def test_a_suite_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"known are banking77, bbh"):
        open_suite("gsm9k")
    with pytest.raises(ConfigError, match="CONSILIUM_DATA"):
        open_suite("gsm8k", data=tmp_path)


def written(path: Path, *rows: object) -> str:
    file = path / "mine.jsonl"
    file.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return str(file)


def test_samples_of_ones_own(tmp_path: Path) -> None:
    found = open_suite(written(
        tmp_path, {"id": 1, "prompt": "hi", "reference": "ho"},
        {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}], "task": "t",
         "scorer": {"name": "contains", "need": "all"}, "reference": ["a"], "follow_ups": ["more"]},
    ))  # fmt: skip
    assert [(one.id, one.scorer, one.task) for one in found] == [("1", "exact", ""), ("2", "contains", "t")]
    assert dict(found[1].options) == {"need": "all"}
    assert found[1].prompt == "u\nmore"


@pytest.mark.parametrize(("row", "message"), [
    ({"id": 1}, "either prompt or messages"), ({"prompt": "", "id": 1}, "prompt: expected a text"),
    ({"prompt": "p", "scoer": "x"}, "scoer: no such key"), ({"messages": ["x"]}, "messages: expected a list"),
    ({"prompt": "p", "scorer": 3}, "scorer: expected a name"), ([1], "expected an object"),
])  # fmt: skip
def test_a_wrong_sample_is_named(tmp_path: Path, row: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_suite(written(tmp_path, row))


def test_two_samples_cannot_share_an_id(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="two samples have the id '1'"):
        open_suite(written(tmp_path, {"id": 1, "prompt": "a"}, {"id": "1", "prompt": "b"}))


def test_a_short_run_sees_every_task(tmp_path: Path) -> None:
    samples = open_suite(written(tmp_path, *({"id": n, "prompt": "p", "task": f"t{n // 10}"} for n in range(30))))
    assert [one.id for one in first(samples, 7)] == ["0", "10", "20", "1", "11", "21", "2"]
    assert list(first(samples, None)) == list(samples)


def test_splits_are_even_and_do_not_change() -> None:
    made = [split_of(f"s/{n}") for n in range(5000)]
    assert [round(made.count(name) / 5000, 1) for name in ("train", "validation", "test")] == [0.6, 0.2, 0.2]
    assert [split_of(f"s/{n}") for n in range(4)] == made[:4]
