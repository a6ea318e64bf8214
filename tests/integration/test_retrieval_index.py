"""A corpus on disk: what is added, changed and deleted; kills; the three indexes; the kinds that search it."""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experts.errors import ConfigError
from experts.retrieval.corpus import FILE, Document, Embedded, create_corpus, open_corpus
from experts.retrieval.indexing import add
from experts.retrieval.kinds import RetrieverParts, module, names
from experts.retrieval.nearest import Nearest, kind_for, optimise
from experts.retrieval.reading import count, cut, documents
from experts.transport import Transport

HASHED = Embedded("letters", "test", "letters-26", 26)


class Letters:
    """Counts letters: an encoder that needs no model."""

    fingerprint = "letters-26"
    dimensions = 26

    def encode(self, texts):
        found = np.zeros((len(texts), 26), np.float32)
        for row, text in zip(found, texts, strict=True):
            for letter in text.lower():
                if "a" <= letter <= "z":
                    row[ord(letter) - 97] += 1
        return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)


def one(name: str, text: str) -> Document:
    return Document(name, "", (text,), {})


def corpus_of(folder: Path, *texts: str):
    corpus = create_corpus(folder, HASHED)
    add(corpus, [one(str(number), text) for number, text in enumerate(texts)], Letters())
    return corpus


def retriever(provider: str, folder: Path, **options):
    kind = module(provider)
    parts = RetrieverParts(Transport(), "letters-26")
    return kind.build("r", kind.Options.model_validate({"index": str(folder), **options}), parts)


def test_a_hybrid_knows_both_scores_of_all_that_it_finds(tmp_path: Path) -> None:
    far = [f"qqq {'x' * n} zebra" for n in range(3)]
    near = [f"{'cab ' * n}bad" for n in range(1, 60)]
    corpus_of(tmp_path / "c", *far, *near).close()
    text, asked = "abc zebra", Letters().encode(["abc abc abc"])[0]

    async def searched(provider: str, k: int, **options: str):
        source = retriever(provider, tmp_path / "c", **options)
        try:
            return await source.search(text, asked, k)
        finally:
            await source.close()

    found = asyncio.run(searched("hybrid", 5, fusion="rrf"))
    cosines = {each.id: each.score for each in asyncio.run(searched("dense", 62))}
    matched = {each.id: each.score for each in asyncio.run(searched("lexical", 62))}
    assert any(each.id in {"0", "1", "2"} for each in found)
    assert any(each.id not in matched for each in found)
    for each in found:
        assert each.ways["dense letters-26"] == pytest.approx(cosines[each.id], abs=1e-5)
        assert each.ways["lexical"] == pytest.approx(matched.get(each.id, 0.0), abs=1e-9)


@pytest.mark.parametrize("provider", ["dense", "lexical", "hybrid"])
def test_a_change_shows_at_the_next_search(tmp_path: Path, provider: str) -> None:
    corpus = corpus_of(tmp_path / "c", "zebra zoo", "apple pie")

    async def scenario() -> None:
        found = retriever(provider, tmp_path / "c")

        async def ids(text: str) -> list[str]:
            vector = Letters().encode([text])[0] if found.encoder else None
            return [passage.id for passage in await found.search(text, vector, 1)]

        assert await ids("zebra") == ["0"]
        add(corpus, [one("9", "zebra")], Letters())
        assert await ids("zebra") == ["9"]
        corpus.delete(["9"])
        assert await ids("zebra") == ["0"]
        add(corpus, [one("0", "quartz"), one("1", "zebra zebra")], Letters())
        assert await ids("zebra") == ["1"]
        assert found.size == 2
        await found.close()

    asyncio.run(scenario())


def test_adding_again_adds_nothing(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, "one", "two")
    counts = add(corpus, [one("0", "one"), one("1", "changed")], Letters())
    assert (counts.added, counts.unchanged, corpus.size()) == (1, 1, 2)


def test_another_encoder_is_refused(tmp_path: Path) -> None:
    corpus_of(tmp_path, "one").close()
    with pytest.raises(ConfigError, match="embedded by"):
        create_corpus(tmp_path, Embedded("other", "test", "other-8", 8))
    kind = module("dense")
    options = kind.Options.model_validate({"index": str(tmp_path)})
    with pytest.raises(ConfigError, match="letters-26, the manifest's encoder is other-8"):
        kind.build("r", options, RetrieverParts(Transport(), "other-8"))


def test_no_index_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="consilium index build"):
        open_corpus(tmp_path)


KILLED = """
import sys
from pathlib import Path
from experts.retrieval.corpus import create_corpus
from experts.retrieval.indexing import add
from tests.integration.test_retrieval_index import HASHED, Letters, one

def told(counts):
    print(counts.added, flush=True)

documents = (one(str(n), f"text number {n} " + "abc" * (n % 7)) for n in range(640))
add(create_corpus(Path(sys.argv[1]), HASHED), documents, Letters(), told)
"""


@pytest.mark.slow
@pytest.mark.parametrize("batches", [0, 1, 4])
def test_a_kill_loses_and_doubles_nothing(tmp_path: Path, batches: int) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": "."}) as process:
        assert process.stdout is not None
        for _ in range(batches):
            process.stdout.readline()
        while batches == 0 and not (tmp_path / FILE).exists() and process.poll() is None:
            pass
        process.send_signal(signal.SIGKILL)
    if (tmp_path / FILE).exists() and batches:
        left = open_corpus(tmp_path)
        assert left.size() >= 64 * batches
        assert left.size() == left.stats()["documents"]
        left.close()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": "."})
    whole = open_corpus(tmp_path)
    assert whole.size() == whole.stats()["documents"] == 640
    assert len(Nearest(whole).search(Letters().encode(["abc"])[0], 700)) == 640
    assert len(whole.match("text", 700)) == 640
    with sqlite3.connect(tmp_path / FILE) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        db.execute("INSERT INTO words (words) VALUES ('integrity-check')")


def test_kinds_by_size() -> None:
    assert [kind_for(size) for size in (10, 50_001, 1_000_000)] == ["flat", "hnsw", "ivf-pq"]


@pytest.mark.parametrize("kind", ["hnsw", "ivf-pq"])
def test_a_made_index_finds_what_exact_search_finds(tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(40, 32))
    rows = (centres[rng.integers(40, size=3000)] + 0.4 * rng.normal(size=(3000, 32))).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    corpus = create_corpus(tmp_path, Embedded("random", "test", "random-32", 32))
    corpus.put([one(str(n), "x") for n in range(2900)], rows[:2900])
    made = optimise(corpus, kind=kind)
    assert made is not None
    assert made["encoder"] == "random-32"
    assert kind == "hnsw" or 4 <= made["probes"] <= 64
    corpus.put([one(str(n), "x") for n in range(2900, 3000)], rows[2900:])
    corpus.delete([str(n) for n in range(100)])
    near = Nearest(open_corpus(tmp_path))
    assert near.size == 2900
    queries = rows[rng.integers(100, 3000, size=50)] + 0.1 * rng.normal(size=(50, 32)).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    right = 0
    for query in queries:
        scores = rows[100:] @ query
        exact = {int(row) + 101 for row in np.argsort(-scores)[:10]}  # rows are numbered from 1
        found = near.search(query, 10)
        right += len(exact & {row for row, _ in found})
        assert all(row > 100 for row, _ in found)
        assert found[0][1] == pytest.approx(float(scores.max()), abs=1e-5)
    assert right / 500 >= 0.95


def test_an_index_of_another_encoder_is_refused(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, *("some words here",) * 64)
    optimise(corpus, kind="hnsw")
    manifest = tmp_path / "nearest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"encoder": "another"}))
    with pytest.raises(ConfigError, match="made for encoder another"):
        Nearest(open_corpus(tmp_path))


def test_files_become_documents(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# Title\n\n" + "Some words here. " * 100)
    (tmp_path / "b.html").write_text("<html><script>bad()</script><h1>Head</h1><p>Body &amp; more</p></html>")
    (tmp_path / "c.txt").write_text("plain")
    (tmp_path / ".hidden.txt").write_text("never")
    found = {document.id: document for document in documents(tmp_path)}
    assert sorted(found) == ["a.md", "b.html", "c.txt"]
    assert count(tmp_path) == 3
    assert len(found["a.md"].pieces) > 1
    assert max(map(len, found["a.md"].pieces)) <= 1000
    assert "Body & more" in found["b.html"].pieces[0]
    assert "bad" not in found["b.html"].pieces[0]


def test_a_beir_folder_and_a_bad_line(tmp_path: Path) -> None:
    file = tmp_path / "corpus.jsonl"
    file.write_text('{"_id": "d1", "title": "T", "text": "words", "url": "u"}\n')
    (found,) = documents(tmp_path)
    assert (found.id, found.title, found.pieces, found.metadata) == ("d1", "T", ("words",), {"url": "u"})
    file.write_text('{"_id": "d1", "text": "words"}\n{"name": 3}\n')
    with pytest.raises(ConfigError, match=r"corpus\.jsonl:2: expected `_id`"):
        list(documents(tmp_path))


def test_pieces_keep_every_word() -> None:
    words = [f"w{n}" for n in range(900)]
    assert " ".join(cut(" ".join(words), 200)).split() == words


def test_every_kind_is_named() -> None:
    assert {"dense", "lexical", "hybrid", "remote"} <= names()
