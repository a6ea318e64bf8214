"""Weights of retrievers by query, beliefs in corpora, and the whole measurement on a small world."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

import numpy as np
import orjson
import pytest

from evals.retrieval.data import read_domains
from evals.retrieval.searching import World, search_all
from evals.retrieval.systems import rows
from evals.retrieval.table import page
from evals.retrieval.words import Bm25, words
from experts.errors import ConfigError
from experts.language import Passage
from experts.protocols import Vectors
from experts.retrieval.embedded import embed
from router.retrieval.choosing import Choice, merged
from router.retrieval.corpora import pilots_of
from router.retrieval.judged import Judged, Searched, weights_of
from router.retrieval.ranking import OWN, Found, Ranker, fit_ranker, load_ranker, width


class Hashing:
    """Texts as sums of a vector a word."""

    fingerprint, dimensions, encoded = "hashing", 16, 0

    def encode(self, texts: Sequence[str]) -> Vectors:
        self.encoded += len(texts)
        made = np.stack([sum((self._word(word) for word in text.split()), np.zeros(16)) for text in texts])
        return (made / np.maximum(np.linalg.norm(made, axis=1, keepdims=True), 1e-6)).astype(np.float32)

    def _word(self, word: str) -> np.ndarray:
        seed = int.from_bytes(blake2b(word.encode(), digest_size=4).digest())
        return np.random.default_rng(seed).normal(size=16)


def drawn(rng: np.random.Generator, count: int) -> tuple[list[Found], list[np.ndarray]]:
    """The second retriever is right, the first is noise."""
    found, relevant = [], []
    for _ in range(count):
        scores = rng.random((20, 2))
        found.append(Found(scores, np.arange(20) % 2, np.log([0.5, 0.5]), ("a", "b")))
        relevant.append(np.arange(20) == scores[:, 1].argmax())
    return found, relevant


def test_the_retriever_that_is_right_gets_the_weight(tmp_path: Path):
    rng = np.random.default_rng(0)
    ranker = fit_ranker(("dense", "bm25"), *drawn(rng, 80), np.ones(80))
    found, relevant = drawn(rng, 40)
    right = [flags[ranker.scores(each).argmax()] for each, flags in zip(found, relevant, strict=True)]
    assert np.mean(right) > 0.9
    ranker.save(tmp_path / "ranker.npz")
    assert np.array_equal(load_ranker(tmp_path / "ranker.npz").scores(found[0]), ranker.scores(found[0]))
    with pytest.raises(ConfigError, match="fitted on 2 retrievers"):
        ranker.scores(Found(np.zeros((3, 3)), np.zeros(3, np.int64), np.zeros(1), ("a",)))


def by_corpus(rng: np.random.Generator, count: int, *names: str) -> tuple[list[Found], list[np.ndarray]]:
    """Queries whose passage is found by words in the corpora whose name is in capitals, by vectors in the others."""
    found, relevant = [], []
    for place in range(count):
        corpus = place % len(names)
        scores, corpora = rng.random((40, 2)), np.arange(40) % len(names)
        column = np.where(corpora == corpus, scores[:, int(names[corpus].isupper())], 0.0)
        beliefs = np.where(np.arange(len(names)) == corpus, 0.9, 0.1 / len(names))
        found.append(Found(scores, corpora, np.log(beliefs / beliefs.sum()), names))
        relevant.append(np.arange(40) == column.argmax())
    return found, relevant


def test_a_corpus_with_enough_queries_has_terms_of_its_own(tmp_path: Path):
    rng = np.random.default_rng(0)
    learned = by_corpus(rng, 2 * OWN, "WORDS", "vectors")
    ranker = fit_ranker(("dense", "bm25"), *learned, np.ones(2 * OWN))
    assert ranker.corpora == ("WORDS", "vectors")
    few = fit_ranker(("dense", "bm25"), *(each[: 2 * OWN - 2] for each in learned), np.ones(2 * OWN))
    assert few.corpora == ()

    def right(by: Ranker) -> float:
        found, relevant = by_corpus(np.random.default_rng(1), 60, "WORDS", "vectors")
        return np.mean([flags[by.scores(each).argmax()] for each, flags in zip(found, relevant, strict=True)])

    assert right(ranker) > 0.8
    assert right(ranker) > right(few) + 0.2
    ranker.save(tmp_path / "ranker.npz")
    again = load_ranker(tmp_path / "ranker.npz")
    assert again.corpora == ranker.corpora
    found, _ = by_corpus(rng, 2, "added later", "WORDS")
    assert np.array_equal(again.scores(found[0]), ranker.scores(found[0]))
    plain = Ranker(ranker.retrievers, ranker.weights[: width(2)])
    new = found[0].corpora == 0
    assert np.allclose(plain.scores(found[0])[new], ranker.scores(found[0])[new])
    assert not np.allclose(plain.scores(found[0])[~new], ranker.scores(found[0])[~new])


def test_a_corpus_added_later_is_not_set_back():
    """Two corpora are judged; a third one's passage is nearer to the query than theirs."""
    rng = np.random.default_rng(0)
    found, relevant = [], []
    for place in range(4 * OWN):
        scores, corpora = rng.random((40, 1)), np.arange(40) % 2
        column = np.where(corpora == place % 2, scores[:, 0], 0.0)
        found.append(Found(scores, corpora, np.log([0.5, 0.5]), ("one", "other")))
        relevant.append(np.arange(40) == column.argmax())
    ranker = fit_ranker(("dense",), found, relevant, np.ones(4 * OWN))
    assert ranker.corpora == ("one", "other")
    scores = np.array([[0.8], [0.7], [0.95]])
    asked = Found(scores, np.array([0, 1, 2]), np.log(np.full(3, 1 / 3)), ("one", "other", "new"))
    assert ranker.scores(asked).argmax() == 2
    assert fit_ranker(("dense",), found, relevant, np.ones(4 * OWN), ()).corpora == ()
    half = range(0, 4 * OWN, 2)
    single = fit_ranker(("dense",), [found[n] for n in half], [relevant[n] for n in half], np.ones(2 * OWN))
    assert single.corpora == ()


def test_damaged_rankers_and_fits_without_answers_are_refused(tmp_path: Path):
    (tmp_path / "ranker.npz").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_ranker(tmp_path / "ranker.npz")
    found, relevant = drawn(np.random.default_rng(0), 3)
    with pytest.raises(ConfigError, match="got none"):
        fit_ranker(("a", "b"), found, [flags & False for flags in relevant], np.ones(3))


def test_a_passage_that_a_retriever_missed_counts_as_its_least():
    found, relevant = drawn(np.random.default_rng(1), 30)
    ranker = fit_ranker(("dense", "bm25"), found, relevant, np.ones(30))
    holed = found[0].scores.copy()
    holed[3, 1] = np.nan
    assert np.isfinite(ranker.scores(replace(found[0], scores=holed))).all()


def test_a_ranker_orders_what_one_hybrid_retriever_found():
    """Its own fusion goes by vectors here, the learned one by words."""
    found = [
        Passage(name, "", name, score, "r", "handbook", {}, {"dense": score, "lexical": words})
        for name, score, words in (("near", 0.9, 0.0), ("middle", 0.8, 1.0), ("worded", 0.5, 9.0))
    ]
    choice = Choice((), {"handbook": 1.0}, ())
    weights = np.zeros(width(2))
    weights[width(1) - 2] = 1.0  # the second column's own score, after the first one's seven features
    ranked = merged([found], choice, Ranker(("dense", "lexical"), weights))
    assert [passage.id for passage in ranked] == ["worded", "middle", "near"]
    assert [passage.score for passage in ranked] == [9.0, 1.0, 0.0]
    assert merged([found], choice, None) == found
    unknown = (Ranker((way,), np.ones(width(1))) for way in ("another way", "lexical"))
    assert [merged([found], choice, ranker) == found for ranker in unknown] == [True, True]


def test_a_corpus_counts_by_the_root_of_its_queries_in_a_fit():
    def one(corpus: str) -> Searched:
        return Searched(Judged("q", frozenset({f"{corpus}/1"})), Choice((), {}, ()), [[Passage("1", corpus=corpus)]])

    assert weights_of([*(one("much") for _ in range(4)), one("little")]).tolist() == [0.5, 0.5, 0.5, 0.5, 1.0]


def test_corpora_far_from_the_query_are_dropped_first():
    axes = np.eye(4, dtype=np.float32)
    pilots = pilots_of([np.repeat(axes[each : each + 1], 5, axis=0) for each in range(4)])
    beliefs = pilots.beliefs(axes)
    assert np.array_equal(beliefs.argmax(axis=1), np.arange(4))
    assert np.allclose(np.exp(beliefs).sum(axis=1), 1)
    assert pilots.share(pilots.searched(beliefs, 0.9)) == 0.25
    assert pilots.searched(beliefs, 1.1).all()
    assert pilots.share(pilots.searched(beliefs, pilots.mass_for(beliefs, 0.5))) <= 0.5


def test_identifiers_are_found_by_their_parts():
    assert words("readFile of files") == ["readfile", "read", "file", "file"]
    scores = Bm25(["def readFile(path)", "nothing here"]).scores(["read a file", "unknown"])
    assert scores[0, 0] > scores[0, 1] == 0
    assert not scores[1].any()


def test_vectors_are_encoded_once(tmp_path: Path):
    encoder = Hashing()
    texts = [f"text {row}" for row in range(700)]
    first = embed(texts, encoder, folder=tmp_path)
    assert np.array_equal(embed(texts, encoder, folder=tmp_path), first)
    assert encoder.encoded == 700


def small_world(folder: Path) -> World:
    for name in ("animals", "metals"):
        data = folder / "data" / name
        data.mkdir(parents=True)
        lines = [[{"_id": f"{row}", "text": f"{name} item{row} kind{row % 7}"} for row in range(40)],
                 [{"_id": f"q{row}", "text": f"item{row} {name}", "split": "test" if row % 2 else "train"}
                  for row in range(40)]]  # fmt: skip
        for file, content in zip(("corpus", "queries"), lines, strict=True):
            (data / f"{file}.jsonl").write_bytes(b"\n".join(orjson.dumps(each) for each in content))
        (data / "qrels.tsv").write_text("q\td\ts\n" + "".join(f"q{row}\t{row}\t1\n" for row in range(40)))
    return search_all(read_domains(folder / "data"), Hashing(), lambda step: None, lambda done, of: None)


def test_every_system_is_measured_on_the_test_queries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CONSILIUM_CACHE", str(tmp_path / "cache"))
    world = small_world(tmp_path)
    found = {row["system"]: row for row in rows(world, resamples=100, seed=0, leave_one_out=True)}
    assert found["bm25, told the corpus"]["mean_ndcg10"] == 1
    assert found["routed"]["mean_ndcg10"] > 0.95
    for name in ("clusters", "ridge"):
        assert 0 < found[f"chosen by {name}"]["mean_ndcg10"] <= found["instance oracle"]["mean_ndcg10"]
    assert found["instance oracle"]["mean_ndcg10"] >= found["dataset oracle"]["mean_ndcg10"]
    assert found["routed, half searched"]["searched_share"] <= 0.5
    assert found["routed, without metals"]["datasets"]["metals"]["ndcg10"] == 0
    assert "animals" in page({"rows": list(found.values()), "test": 40, "documents": 80, "encoder": "x"})
