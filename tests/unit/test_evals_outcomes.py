"""Loading published outcomes: every shape, what a call cost, and bad rows named instead of lost."""

from __future__ import annotations

import csv
import gzip
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from typer.testing import CliRunner

from evals.cli import app
from evals.outcomes import OutcomeSet, assemble, open_outcomes
from evals.outcomes.formats import names, read
from evals.outcomes.formats.consilium import write
from evals.outcomes.loaded import read_models
from experts.errors import ConfigError
from router.outcomes import read_outcomes, split_of
from tests.evals_world import write_world


def scores_of(found: OutcomeSet, key: str) -> dict[str, float]:
    row = found.outcomes.ids.index(key)
    values = zip(found.outcomes.experts, found.outcomes.scores[row].tolist(), strict=True)
    return {name: value for name, value in values if value == value}


def rows(**changes: Any) -> list[dict[str, Any]]:
    return [
        {"id": "1", "task": "t", "split": "train", "prompt": "p" * 400, "scores": {"a": 1, "b": 0.5}, **changes},
        {"id": "2", "task": "t", "split": "test", "prompt": "q", "scores": {"a": 0, "b": None}},
    ]


def test_the_own_format_keeps_scores_and_prices_calls_in_dollars(tmp_path: Path) -> None:
    models = {name: {"usd_per_million": {"input": 10, "output": 20}} for name in ("a", "b")}
    found = open_outcomes(write_world(tmp_path / "mine", rows(tokens={"a": 50, "b": 150}), models))
    assert (found.name, len(found), found.cost_unit, found.bad) == ("mine", 2, "usd", ())
    assert scores_of(found, "2") == {"a": 0.0}
    assert found.cost[0].tolist() == pytest.approx([(100 * 10 + 50 * 20) / 1e6, (100 * 10 + 150 * 20) / 1e6])
    assert found.cost[1, 1] == pytest.approx((0.25 * 10 + 150 * 20) / 1e6), "tokens that are not known: the mean"
    assert found.cards[0].price.output == 20


def test_measured_costs_win_over_prices_and_parameters_stand_in_for_them(tmp_path: Path) -> None:
    paid = open_outcomes(write_world(tmp_path / "paid", rows(cost_usd={"a": 0.25, "b": 0.5}), {}))
    assert paid.cost_unit == "usd"
    assert paid.cost[0].tolist() == [0.25, 0.5]
    sized = open_outcomes(write_world(tmp_path / "sized", rows(tokens={"a": 100, "b": 100}),
                                      {"a": {"params_b": 7}, "b": {"params_b": 70}}))  # fmt: skip
    assert sized.cost_unit == "parameter-tokens"
    assert sized.cost[0].tolist() == pytest.approx([7 * 200 / 1e6, 70 * 200 / 1e6])


def test_a_price_that_is_missing_is_said_and_never_made_up(tmp_path: Path) -> None:
    found = open_outcomes(write_world(tmp_path, rows(), {"a": {"usd_per_million": {"input": 1, "output": 1}}}))
    assert found.cost_unit == "none"
    assert not found.cost.any()
    assert "no price is known for b" in found.notes[0]


def test_bad_rows_are_counted_and_named(tmp_path: Path) -> None:
    file = tmp_path / "outcomes.jsonl"
    good = orjson.dumps(rows()[0]) + b"\n"
    bad = [b"{not json", b"[1]", b'{"id": "3", "prompt": "x"}', b'{"id": "4", "prompt": "x", "scores": {"a": 2}}',
           b'{"id": "5", "prompt": 7, "scores": {"a": 1}}', b'{"id": "6", "prompt": "x", "scores": {"a": null}}',
           b'{"id": "1", "prompt": "again", "scores": {"a": 1}}',
           b'{"id": "7", "prompt": "x", "scores": {"a": 1}, "tokens": {"a": -1}}']  # fmt: skip
    file.write_bytes(good + b"\n".join(bad) + b"\n")
    found = open_outcomes(tmp_path)
    assert found.outcomes.ids == ("1",)
    assert len(found.bad) == len(bad)
    said = "\n".join(str(each) for each in found.bad)
    for part in (":2: ", ":3: expected an object", ":4: scores: missing",
                 ":5: scores.a: expected a number from 0 to 1, got 2", ":6: prompt: expected a text",
                 ":7: scores: no expert has one", ":8: id '1': already on line 1",
                 ":9: tokens.a: expected a number from 0 up"):  # fmt: skip
        assert part in said


def test_a_file_with_nothing_in_it_or_cut_short_is_refused(tmp_path: Path) -> None:
    (tmp_path / "outcomes.jsonl").write_bytes(b'{"id": 1}\n')
    with pytest.raises(ConfigError, match="no outcomes in it; the first of 1 bad rows"):
        open_outcomes(tmp_path)
    whole = gzip.compress(b"".join(orjson.dumps(row) + b"\n" for row in rows()) * 50)
    (tmp_path / "outcomes.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match="not a whole gzip file"):
        open_outcomes(tmp_path)


def test_rows_without_a_split_are_split_the_same_way_every_time(tmp_path: Path) -> None:
    plain = [{"id": f"q{i}", "prompt": "x", "scores": {"a": 1}} for i in range(500)]
    found = open_outcomes(write_world(tmp_path, plain, {}))
    counts = {split: found.outcomes.splits.count(split) for split in ("train", "validation", "test")}
    assert counts["train"] == pytest.approx(300, abs=40)
    assert counts["test"] == pytest.approx(100, abs=30)
    assert found.outcomes.splits == tuple(split_of(f"q{i}") for i in range(500))
    assert "500 rows name no split" in found.notes[0]
    assert read_outcomes(tmp_path).splits == found.outcomes.splits, "a fit holds back what an evaluation tests on"
    with pytest.raises(ConfigError, match="no rows of split holdout; the splits are test, train, validation"):
        found.of_split("holdout")


def test_wrong_models_are_named_with_their_key(tmp_path: Path) -> None:
    (tmp_path / "models.json").write_bytes(b'{"a": {"usd_per_million": {"input": -1, "output": 1}}}')
    with pytest.raises(ConfigError, match=r"a\.usd_per_million\.input: .*got -1"):
        read_models(tmp_path / "models.json")
    for entry, said in (
        ('{"parms_b": 7}', "a.parms_b: no such key; known are usd_per_million, params_b, description, skills"),
        ('{"usd_per_million": {"in": 1, "input": 1, "output": 1}}',
         "a.usd_per_million.in: no such key; known are input, output"),
    ):  # fmt: skip
        (tmp_path / "models.json").write_text(f'{{"a": {entry}}}')
        with pytest.raises(ConfigError, match=re.escape(said)):
            read_models(tmp_path / "models.json")


def test_models_of_whom_there_are_no_outcomes_are_a_note(tmp_path: Path) -> None:
    found = open_outcomes(write_world(tmp_path, rows(), {name: {"params_b": 7} for name in ("a", "b", "bee")}))
    assert found.notes == ("prices or sizes are given for bee, but no outcomes",)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    first = read(write_world(tmp_path / "a", rows(), {"a": {"params_b": 7}, "b": {"params_b": 8}}))
    write(tmp_path / "b", first)
    again = read(tmp_path / "b")
    assert (again.rows, again.models) == (first.rows, first.models)


def table(path: Path, header: list[str], *lines: list[Any]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *lines])
    return path


def test_a_wide_table_with_named_columns(tmp_path: Path) -> None:
    path = table(tmp_path / "mine.csv", ["id", "task", "prompt", "score:a", "score:b", "tokens:a", "note"],
                 ["x", "t", "hello", "1", "0.5", "12", "-"], ["y", "t", "hi", "", "true", "", "-"],
                 ["z", "t", "bad", "high", "1", "", "-"])  # fmt: skip
    found = open_outcomes(path)
    assert scores_of(found, "x") == {"a": 1.0, "b": 0.5}
    assert scores_of(found, "y") == {"b": 1.0}
    assert found.outcomes.tokens[0, 0] == 12
    assert str(found.bad[0]).endswith("mine.csv:4: score:a: expected a number, true or false, got 'high'")


def test_a_wide_table_of_nothing_but_experts(tmp_path: Path) -> None:
    found = open_outcomes(table(tmp_path / "mine.csv", ["question", "a", "b"], ["one", "1", "0"], ["two", "0", "1"]))
    assert found.outcomes.experts == ("a", "b")
    assert found.outcomes.texts == ("one", "two")


def test_a_long_table(tmp_path: Path) -> None:
    path = table(tmp_path / "long.csv", ["query_id", "query", "model", "correct", "latency_ms"],
                 ["1", "hello", "a", "True", "5"], ["1", "hello", "b", "False", "7"], ["2", "hi", "a", "1", ""],
                 ["2", "hi", "a", "0", ""], ["2", "hi", "b", "nonsense", ""])  # fmt: skip
    found = open_outcomes(path)
    assert scores_of(found, "1") == {"a": 1.0, "b": 0.0}
    assert found.outcomes.latency_ms[0].tolist() == [5.0, 7.0]
    assert "'a' already has a row for this query" in str(found.bad[0])
    assert "got 'nonsense'" in str(found.bad[1])


def test_a_table_without_texts_says_what_it_wants(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected a column of texts \(prompt, query, question, text\), found a, b"):
        open_outcomes(table(tmp_path / "mine.csv", ["a", "b"], ["1", "2"]))


def test_a_row_is_named_by_the_line_of_the_file_on_which_it_begins(tmp_path: Path) -> None:
    (tmp_path / "wrong.csv").write_text('prompt,score:a\n"two\nlines",1\n\nhi,7\n"more\nlines",x\nbye,0\n')
    found = open_outcomes(tmp_path / "wrong.csv")
    assert found.outcomes.texts == ("two\nlines", "bye")
    assert [each.line for each in found.bad] == [5, 6]
    (tmp_path / "long.csv").write_text("query,model,score\nhi,a,1\nhi,b,0\n,a,1\nbye,a,2\n")
    assert [str(each).split("long.csv:")[1] for each in open_outcomes(tmp_path / "long.csv").bad] == [
        "5: score: expected an expert's score from 0 to 1, got 'a': '2'",
        "4: prompt: expected a text, got an empty one",
    ]


def test_ragged_rows_empty_prompts_and_rows_without_scores_are_named(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("prompt,score:a,score:b\none,1,0\ntwo,1\nthree,1,0,1\n ,1,1\nfive,,\n")
    found = open_outcomes(tmp_path / "mine.csv")
    assert found.outcomes.texts == ("one",)
    assert [(each.line, each.message) for each in found.bad] == [
        (3, "expected 3 cells, one a column, got 2"), (4, "expected 3 cells, one a column, got 4"),
        (5, "prompt: expected a text, got an empty one"), (6, "scores: no expert has one"),
    ]  # fmt: skip


def test_a_quote_that_is_never_closed_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text('prompt,score:a\none,1\n"two,1\nthree,0\n')
    found = open_outcomes(tmp_path / "mine.csv")
    assert found.outcomes.texts == ("one",)
    assert "mine.csv:3: a quote is opened in this row and never closed" in str(found.bad[0])


def test_tables_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    latin = tmp_path / "latin.csv"
    for before in (b"", b"plain,1\n" * 5000):
        latin.write_bytes(b"prompt,score:a\n" + before + "caf\u00e9,1\n".encode("latin-1"))
        line = 2 + before.count(b"\n")
        with pytest.raises(ConfigError, match=rf"latin\.csv:{line}: expected UTF-8, got the byte 0xe9; convert"):
            open_outcomes(latin)
    with pytest.raises(ConfigError, match="more than one column is called 'score:a'"):
        open_outcomes(table(tmp_path / "twice.csv", ["prompt", "score:a", "score:a"], ["x", "1", "0"]))
    pytest.importorskip("pyarrow")
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ConfigError, match=r"cut\.parquet: not a whole Parquet file"):
        open_outcomes(tmp_path / "cut.parquet")


@pytest.mark.parametrize("name", ["mine.jsonl.gz", "outcomes.jsonl.gz", "my_routing_data.jsonl.gz", "mine.csv.gz"])
@pytest.mark.parametrize("kept", [5, 15, 40])
def test_compressed_files_cut_early_say_so(tmp_path: Path, name: str, kept: int) -> None:
    (tmp_path / name).write_bytes(gzip.compress(orjson.dumps(rows()[0]))[:kept])
    with pytest.raises(ConfigError, match=f"{name}: not a whole gzip file"):
        open_outcomes(tmp_path / name)


def test_columns_taken_for_experts_are_said_and_can_be_named(tmp_path: Path) -> None:
    path = table(tmp_path / "mine.csv", ["", "question", "difficulty", "a", "b", "remark"],
                 ["0", "one", "3", "1", "0", "-"], ["1", "two", "1", "0", "1", "-"])  # fmt: skip
    with pytest.raises(ConfigError, match=r"no outcomes in it; the first of 2 .*name those that are by --experts"):
        open_outcomes(path)
    found = read(path, experts=("b", "a"))
    assert (found.experts, found.bad, len(found.rows)) == (("a", "b"), [], 2)
    with pytest.raises(ConfigError, match="no column of scores for c; there are difficulty, a, b, remark"):
        read(path, experts=("c",))
    guessed = open_outcomes(table(tmp_path / "two.csv", ["question", "a", "rank"], ["one", "1", "0.5"]))
    assert guessed.notes[0].startswith("no column is called score:NAME, so all these were taken for experts: a, rank;")


def test_of_every_shape_only_the_named_experts_can_be_kept(tmp_path: Path) -> None:
    folder = write_world(tmp_path / "mine", rows(tokens={"a": 5, "b": 6}), {"a": {"params_b": 7}, "b": {"params_b": 8}})
    found = read(folder, experts=("b",))
    assert [(row["id"], row["scores"], row["tokens"]) for row in found.rows] == [("1", {"b": 0.5}, {"b": 6})]
    assert found.notes == ["1 queries have no score of b"]
    with pytest.raises(ConfigError, match="no outcome is of c; there are outcomes of a, b"):
        read(folder, experts=("a", "c"))


def imported(*arguments: str | Path, status: int = 0) -> str:
    done = CliRunner().invoke(app, ["import", *map(str, arguments)], env={"COLUMNS": "200"})
    assert done.exit_code == status, done.output
    return done.output


def test_what_an_import_announces_is_what_it_writes(tmp_path: Path) -> None:
    source = table(tmp_path / "mine.csv", ["id", "prompt", "score:a", "score:b"],
                   *([f"q{i}", f"text {i}", "1", "0"] for i in range(60)))  # fmt: skip
    said = imported(source, "--out", tmp_path / "out")
    written = read(tmp_path / "out")
    splits = [row["split"] for row in written.rows]
    lines = gzip.decompress((tmp_path / "out" / "outcomes.jsonl.gz").read_bytes()).splitlines()
    assert [orjson.loads(line)["split"] for line in lines] == splits
    for split in ("train", "validation", "test"):
        assert f"{split} {splits.count(split)}" in said
    fitted, judged = read_outcomes(tmp_path / "out"), open_outcomes(source).of_split("test")
    assert set(fitted.of_split("test").ids) == set(judged.outcomes.ids)
    assert "experts: a, b" in said
    assert "60 rows name no split" in said
    assert "experts: b\n" in imported(source, "--experts", "b", "--out", tmp_path / "out")
    wrong = table(tmp_path / "wrong.csv", ["prompt", "score:a"], ["x", "1"], ["y", "7"])
    assert "wrong.csv:3: score:a: expected a number from 0 to 1" in imported(wrong, "--out", tmp_path / "b", status=1)


def test_an_import_replaces_or_hides_nothing_that_it_did_not_write(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "outcomes.jsonl").write_bytes(b"\n".join(map(orjson.dumps, rows())))
    other = table(tmp_path / "other.csv", ["prompt", "score:a"], ["x", "1"])
    assert "what is imported from here would be replaced" in imported(folder, "--out", folder, status=2)
    assert "would hide it" in imported(other, "--out", folder, status=2)
    assert "would hide it" in imported(folder / "outcomes.jsonl", "--out", folder, status=2)
    assert [path.name for path in folder.iterdir()] == ["outcomes.jsonl"]
    out = tmp_path / "out"
    imported(folder, "--out", out)
    assert "would be replaced" in imported(out / "outcomes.jsonl.gz", "--out", out, status=2)
    assert "found a file" in imported(folder, "--out", other, status=2)
    (out / "models.json").write_text('{"a": {"params_b": 7}}')
    imported(other, "--out", out)
    assert read_models(out / "models.json")["a"].params_b == 7


def test_the_examples_in_the_docs_are_read_as_they_stand(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text()
    blocks = dict(re.findall(r"^`([\w.]+)`[^\n]*:\n\n```\w+\n(.*?)```", text, re.MULTILINE | re.DOTALL))
    assert set(blocks) == {"outcomes.jsonl", "models.json", "wide.csv", "long.csv"}
    for name, block in blocks.items():
        (tmp_path / name).write_text(block)
    sets = [open_outcomes(path) for path in (tmp_path, tmp_path / "wide.csv", tmp_path / "long.csv")]
    for found in sets:
        assert (found.bad, found.cost_unit) == ((), "usd")
        assert not [note for note in found.notes if "split" not in note]
        assert set(found.outcomes.experts) == {"small", "large"}
        assert [scores_of(found, key) for key in ("m1", "c1")] == [{"small": 0.0, "large": 1.0}, {"small": 1.0}]
        assert found.outcomes.tokens[0].tolist() == [12, 48]
    arrow, parquet = pytest.importorskip("pyarrow.csv"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.read_csv(tmp_path / "wide.csv"), tmp_path / "wide.parquet")
    again = open_outcomes(tmp_path / "wide.parquet").outcomes
    assert (again.ids, again.splits, again.texts) == (
        sets[1].outcomes.ids, sets[1].outcomes.splits, sets[1].outcomes.texts,
    )  # fmt: skip


def routerbench(write: Callable[[list[dict[str, Any]]], Path]) -> OutcomeSet:
    return open_outcomes(write([
        {"sample_id": "mmlu.1", "prompt": "['What is it?']", "eval_name": "mmlu", "gpt": 1.0, "yi": 0.25,
         "gpt|model_response": "['A']", "yi|model_response": "['B']", "gpt|total_cost": 0.002, "yi|total_cost": 0.0001,
         "oracle_model_to_route_to": "gpt"},
    ]))  # fmt: skip


def check_routerbench(found: OutcomeSet) -> None:
    assert scores_of(found, "mmlu.1") == {"gpt": 1.0, "yi": 0.25}
    assert found.cost[0].tolist() == pytest.approx([0.002, 0.0001])
    assert (found.outcomes.texts, found.outcomes.tasks) == (("What is it?",), ("mmlu",))


def test_routerbench_as_csv(tmp_path: Path) -> None:
    def as_csv(records: list[dict[str, Any]]) -> Path:
        return table(tmp_path / "rb.csv", list(records[0]), *(list(record.values()) for record in records))

    check_routerbench(routerbench(as_csv))


def test_routerbench_as_parquet(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")

    def as_parquet(records: list[dict[str, Any]]) -> Path:
        parquet.write_table(arrow.Table.from_pylist(records), tmp_path / "rb.parquet")
        return tmp_path / "rb.parquet"

    check_routerbench(routerbench(as_parquet))


def test_routerbench_as_the_published_pickle(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")

    def as_pickle(records: list[dict[str, Any]]) -> Path:
        frame = pandas.DataFrame(records).astype(object)
        frame.columns = pandas.Index(list(records[0]), dtype=object)  # as the versions before 3 wrote them
        frame.to_pickle(tmp_path / "routerbench_0shot.pkl")
        return tmp_path / "routerbench_0shot.pkl"

    check_routerbench(routerbench(as_pickle))


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("sprung"),))


def test_a_pickle_that_would_run_code_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pickle

    pytest.importorskip("pandas")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "routerbench_0shot.pkl").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ConfigError, match="this pickle was not opened; convert it to Parquet"):
        open_outcomes(tmp_path / "routerbench_0shot.pkl")
    assert not (tmp_path / "sprung").exists()


def test_routellm_responses(tmp_path: Path) -> None:
    table(tmp_path / "mmlu_anatomy.csv", ["prompt", "mixtral-8x7b-instruct-v0.1", "gpt-4-1106-preview"],
          ["one\nA. x", "False", "True"], ["two", "True", "maybe"])  # fmt: skip
    table(tmp_path / "gsm8k_responses.csv",
          ["prompt", "mixtral-8x7b-instruct-v0.1", "gpt-4-1106-preview", "mixtral-8x7b-instruct-v0.1_response",
           "gpt-4-1106-preview_response"], ["sum", "True", "True", "x" * 40, "y" * 400])  # fmt: skip
    found = open_outcomes(tmp_path)
    assert scores_of(found, "mmlu_anatomy/0") == {"mixtral-8x7b-instruct-v0.1": 0.0, "gpt-4-1106-preview": 1.0}
    assert set(found.outcomes.tasks) == {"mmlu", "gsm8k"}
    assert found.cost_unit == "usd"
    row, strong = found.outcomes.ids.index("gsm8k_responses/0"), found.outcomes.experts.index("gpt-4-1106-preview")
    assert found.cost[row, strong] == pytest.approx((0.75 * 10 + 100 * 30) / 1e6)
    assert str(found.bad[0]).endswith(
        "mmlu_anatomy.csv:4: gpt-4-1106-preview: expected a number, true or false, got 'maybe'"
    )


def test_llmrouter_routing_data(tmp_path: Path) -> None:
    folder = tmp_path / "routing_data"
    folder.mkdir()
    line = {"task_name": "gsm8k", "query": "What is 1+1?", "ground_truth": "2", "metric": "em", "performance": 1.0,
            "model_name": "qwen", "token_num": 30, "response_time": 0.5, "embedding_id": 0}  # fmt: skip
    lines = [line, {**line, "model_name": "llama", "performance": 0.0}, {**line, "performance": 7, "model_name": "x"},
             {"query": "?"}]  # fmt: skip
    (folder / "default_routing_train_data.jsonl").write_bytes(b"\n".join(orjson.dumps(each) for each in lines))
    (folder / "default_routing_test_data.jsonl").write_bytes(orjson.dumps({**line, "query": "What is 2+2?"}))
    (tmp_path / "llm_candidates").mkdir()
    (tmp_path / "llm_candidates" / "default_llm.json").write_bytes(
        orjson.dumps({"qwen": {"size": "7B", "input_price": 0.2, "output_price": 0.4}, "llama": {"size": "70B"}})
    )
    found = open_outcomes(folder)
    assert [(each, found.outcomes.splits[i]) for i, each in enumerate(found.outcomes.texts)] == [
        ("What is 2+2?", "test"), ("What is 1+1?", "train"),
    ]  # fmt: skip
    assert scores_of(found, found.outcomes.ids[1]) == {"qwen": 1.0, "llama": 0.0}
    assert np.nanmax(found.outcomes.latency_ms) == 500
    assert found.cost_unit == "parameter-tokens", "one of two prices is not enough for dollars"
    assert len(found.bad) == 2
    assert "task_name" not in str(found.bad[1])
    assert "model_name: missing" in str(found.bad[1])


def test_mmlu_pro_archives(tmp_path: Path) -> None:
    entry = {"question_id": 7, "question": "Which?", "options": ["x", "y"], "answer": "B", "category": "law"}
    for model, said in (("one", "So the answer is (B)."), ("two", "I cannot say")):
        with zipfile.ZipFile(tmp_path / f"model_outputs_{model}_5shots.zip", "w") as archive:
            archive.writestr("law_result.json", orjson.dumps([{**entry, "model_outputs": said}, {"question_id": 8}]))
            archive.writestr("law_summary.json", orjson.dumps({"acc": 1}))
    found = open_outcomes(tmp_path)
    assert scores_of(found, "mmlu_pro/7") == {"one": 1.0, "two": 0.0}
    assert found.outcomes.texts == ("Which?\nA. x\nB. y",)
    assert len(found.bad) == 2
    assert "options: missing" in str(found.bad[0])


def test_every_shape_can_be_named_and_an_unknown_one_cannot(tmp_path: Path) -> None:
    assert names() >= {"consilium", "routerbench", "llmrouter", "routellm", "mmlu-pro", "table"}
    with pytest.raises(ConfigError, match="outcome format 'xml': no such outcome format; known are consilium"):
        read(write_world(tmp_path), "xml")
    (tmp_path / "thing.bin").write_bytes(b"?")
    with pytest.raises(ConfigError, match="recognised none; name one"):
        read(tmp_path / "thing.bin")
    with pytest.raises(ConfigError, match="no such file or folder"):
        read(tmp_path / "nowhere")


def test_an_assembled_set_has_one_card_an_expert(tmp_path: Path) -> None:
    found = assemble("x", read(write_world(tmp_path)))
    assert [card.name for card in found.cards] == list(found.outcomes.experts)
