"""What adapters are trained on: pairs out of JSON lines and BEIR folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from experts.errors import ConfigError
from experts.retrieval.pairs import read_all, read_pairs


def beir(folder: Path, splits: tuple[str, str] = ("train", "test")) -> Path:
    folder.mkdir()
    (folder / "corpus.jsonl").write_text('{"_id":"d1","title":"A","text":"one"}\n{"_id":"d2","text":"two"}\n')
    (folder / "queries.jsonl").write_text(
        f'{{"_id":"q1","text":"first","split":"{splits[0]}"}}\n{{"_id":"q2","text":"second","split":"{splits[1]}"}}\n'
    )
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\nq2\td2\t1\n")
    return folder


def test_a_beir_folder_gives_all_but_its_test_queries(tmp_path: Path):
    pairs = read_pairs(beir(tmp_path / "one"))
    assert (pairs.queries, pairs.passages) == (["first"], ["A\none", "two"])
    assert (pairs.relevant, pairs.rejected) == ([[0]], [[1]])


def test_lines_of_one_query_are_one(tmp_path: Path):
    file = tmp_path / "pairs.jsonl"
    file.write_text('{"query":"q","passage":"a"}\n{"query":"q","passage":"b","negatives":["c"]}\n')
    pairs = read_pairs(file)
    assert (pairs.queries, pairs.passages) == (["q"], ["a", "b", "c"])
    assert (pairs.relevant, pairs.rejected) == ([[0, 1]], [[2]])


def test_several_sources_are_one(tmp_path: Path):
    pairs = read_all([beir(tmp_path / "one"), beir(tmp_path / "two", ("test_hard", "dev"))])
    assert pairs.queries == ["first", "second"]
    assert (pairs.relevant, pairs.rejected) == ([[0], [3]], [[1], []])


@pytest.mark.parametrize(
    ("line", "said"),
    [('{"query":"q"}', r":1: expected `query`, `passage`"), ("[]", r":1: expected an object"),
     ("{", r":1: not valid JSON"), ("", "found none")],
)  # fmt: skip
def test_wrong_lines_are_named(tmp_path: Path, line: str, said: str):
    (tmp_path / "pairs.jsonl").write_text(line)
    with pytest.raises(ConfigError, match=said):
        read_pairs(tmp_path / "pairs.jsonl")


def test_a_folder_without_judgements_is_refused(tmp_path: Path):
    (beir(tmp_path / "one") / "qrels.tsv").unlink()
    with pytest.raises(ConfigError, match=r"with qrels\.tsv"):
        read_pairs(tmp_path / "one")
