"""Judged domains from disk, and the figures that are made of them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from evals.retrieval.data import read_domain, read_domains
from evals.retrieval.scores import interval, score
from experts.errors import ConfigError


def write(folder: Path, qrels: str = "q1\td1\t2\nq1\td2\t0\nq2\td2\t1\n") -> Path:
    folder.mkdir()
    (folder / "corpus.jsonl").write_text('{"_id":"d1","title":"A","text":"one"}\n{"_id":"d2","text":"two"}\n')
    (folder / "queries.jsonl").write_text(
        '{"_id":"q1","text":"first","split":"test"}\n{"_id":"q2","text":"second","split":"train"}\n'
        '{"_id":"q3","text":"nothing","split":"test"}\n'
    )
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + qrels)
    return folder


def test_a_domain_is_read_with_its_splits_and_judgements(tmp_path: Path):
    domain = read_domain(write(tmp_path / "one"))
    assert domain.texts == ("A one", "two")
    (test,), (training,) = domain.test(), domain.training()
    assert (test.id, test.relevant, test.rejected) == ("q1", {"d1": 2}, {"d2"})
    assert training.id == "q2"


def test_a_wrong_line_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"qrels\.tsv line 2: expected query-id"):
        read_domain(write(tmp_path / "one", "q1 d1 1\n"))


def test_fewer_than_two_domains_are_refused(tmp_path: Path):
    write(tmp_path / "one")
    with pytest.raises(ConfigError, match="found 1"):
        read_domains(tmp_path)


def test_scores_are_those_of_the_definitions():
    found = score([{"a": 1, "b": 1}, {"c": 1}, {"d": 1}], [["x", "a", "y", "b"], ["c"], []])
    first = (1 / math.log2(3) + 1 / math.log2(5)) / (1 + 1 / math.log2(3))
    assert np.allclose(found.ndcg10, [first, 1, 0])
    assert np.allclose(found.recall10, [1, 1, 0])
    assert np.allclose(found.mrr10, [0.5, 1, 0])


def test_an_interval_holds_the_mean_of_the_domains_means():
    rng = np.random.default_rng(3)
    domains = [rng.random(400), rng.random(30) * 0.5]
    low, high = interval(domains)
    assert low < float(np.mean([domain.mean() for domain in domains])) < high
    assert high - low < 0.1
