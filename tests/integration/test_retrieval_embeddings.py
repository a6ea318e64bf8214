"""`/v1/embeddings` by a route: each text's vector as the route's own searches make it."""

from __future__ import annotations

import base64
import json
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experts.retrieval.adapter import Adapter
from experts.retrieval.corpus import Document, create_corpus
from experts.retrieval.encoders import open_encoder
from experts.retrieval.indexing import add, embedded_by
from router.http.api import MOST_INPUTS
from router.keys import Key, Keys
from tests.integration.conftest import Served, Start

pytestmark = pytest.mark.integration

SUBJECTS = {
    "kitchen": ["Boil an egg for nine minutes until the yolk is firm.", "Knead the dough, then bake the loaf."],
    "law": ["A contract is void where one party was forced to sign it.", "An appeal is filed with the higher court."],
}
COOKING, SUING = "how long do I boil an egg?", "is a contract valid that I was forced to sign?"
REGISTRY = """
kind: expert
name: reader
provider: scripted
---
kind: retriever
name: kitchen
provider: dense
index: {folder}/kitchen
---
kind: retriever
name: law
provider: {provider}
index: {folder}/law
adapter: {adapter}
rerank: {{expert: reader, candidates: 2}}
---
kind: retriever
name: words
provider: lexical
index: {folder}/kitchen
---
kind: route
name: auto
experts: [reader]
retrieval: {{retrievers: [words, kitchen, law], passages: 1, gate: always{more}}}
---
kind: route
name: wordy
experts: [reader]
retrieval: {{retrievers: [words], passages: 1, gate: always}}
---
kind: route
name: plain
experts: [reader]
"""


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpora")
    encoder = open_encoder()
    for name, texts in SUBJECTS.items():
        corpus = create_corpus(folder / name, embedded_by(encoder, "all-MiniLM-L6-v2", "onnx-int8"))
        add(corpus, [Document(text[:6], "", (text,), {}) for text in texts], encoder)
        corpus.close()
    made_adapter().save(folder / "adapter")
    return folder


def made_adapter() -> Adapter:
    encoder = open_encoder()
    down, up = np.random.default_rng(0).normal(0, 0.2, (2, encoder.dimensions, 4)).astype(np.float32)
    return Adapter("law", encoder.fingerprint, down, up, np.zeros(encoder.dimensions, np.float32))


def registry(folder: Path, more: str = "", *, provider: str = "hybrid", adapter: Path | None = None) -> str:
    return REGISTRY.format(folder=folder, more=more, provider=provider, adapter=adapter or folder / "adapter")


async def embed(served: Served, given: str | list[str], model: str = "auto", **more: Any) -> dict[str, Any]:
    reply = await served.post(f"{served.url}/v1/embeddings", json={"model": model, "input": given, **more})
    assert reply.status == 200, await reply.text()
    return await reply.json()


async def refused(served: Served, status: int, **body: Any) -> str:
    reply = await served.post(f"{served.url}/v1/embeddings", json={"input": COOKING, **body})
    error = (await reply.json())["error"]
    assert reply.status == status, error
    return error["message"]


def vectors(told: dict[str, Any]) -> np.ndarray:
    assert [row["index"] for row in told["data"]] == list(range(len(told["data"])))
    return np.array([row["embedding"] for row in told["data"]], np.float32)


@pytest.mark.parametrize("provider", ["hybrid", "dense"])
async def test_each_text_has_the_query_vector_of_the_retriever_chosen_for_it(
    start: Start, corpora: Path, provider: str
) -> None:
    served = await start(registry(corpora, provider=provider))
    told = await embed(served, [SUING, COOKING])
    (encoder,) = served.gateway.router.snapshot.embeddings
    plain = vectors(await embed(served, [SUING, COOKING], encoder))
    law, kitchen = vectors(told)
    assert np.array_equal(kitchen, plain[1])
    by_hand = made_adapter()(open_encoder().encode([SUING]))[0]
    assert np.allclose(law, by_hand, atol=1e-5)
    assert law @ plain[0] < 0.98, "the adapter moves it"
    assert [row["retriever"] for row in told["consilium"]] == ["law", "kitchen"]
    listed = await (await served.get(f"{served.url}/v1/retrievers")).json()
    fingerprints = {row["name"]: row["encoder"] for row in listed["data"]}
    assert [row["encoder"] for row in told["consilium"]] == [fingerprints["law"], fingerprints["kitchen"]]
    assert served.gateway.router.snapshot.experts["reader"].calls == 0
    assert "corpora, with" in told["consilium"][0]["reason"]
    searched = await served.post(f"{served.url}/v1/retrieve", json={"query": SUING})
    assert told["consilium"][0]["reason"] == (await searched.json())["reason"]
    tokens = (len(SUING) + len(COOKING)) // 4 + 1
    assert told["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    assert told["model"] == "auto"


async def test_one_text_comes_packed_under_a_preset(start: Start, corpora: Path) -> None:
    served = await start(registry(corpora))
    (row,) = vectors(await embed(served, SUING))
    told = await embed(served, SUING, "auto:cheap", encoding_format="base64", dimensions=len(row))
    packed = np.frombuffer(base64.b64decode(told["data"][0]["embedding"]), np.float32)
    assert np.array_equal(packed, row)
    assert told["model"] == "auto:cheap"


@pytest.mark.parametrize(("top", "told"), [(2, "2 of 3 retrievers"), (1, "which none of the chosen does: 1 of 3")])
async def test_an_estimator_s_first_that_searches_by_vectors_is_taken(
    start: Start, corpora: Path, tmp_path: Path, top: int, told: str
) -> None:
    """The text is the kitchen's; the estimator knows only that words are best, and then the law."""
    scores = {"words": 1.0, "law": 0.8, "kitchen": 0.1}
    rows = [{"id": str(n), "prompt": f"question {n}", "task": "t", "split": "train", "scores": scores}
            for n in range(20)]  # fmt: skip
    measured = tmp_path / "measured.jsonl"
    measured.write_text("".join(json.dumps(row) + "\n" for row in rows))
    served = await start(registry(corpora, f", measured: {measured}, estimator: prior, top: {top}"))
    answer = await embed(served, [COOKING])
    assert answer["consilium"][0]["retriever"] == "law"
    assert told in answer["consilium"][0]["reason"]
    assert np.allclose(vectors(answer), made_adapter()(open_encoder().encode([COOKING])), atol=1e-5)


async def test_where_all_are_searched_the_first_that_takes_vectors_is_taken(start: Start, corpora: Path) -> None:
    served = await start(registry(corpora, ", mass: 1"))
    told = await embed(served, [SUING])
    assert [(row["retriever"], row["reason"]) for row in told["consilium"]] == [("kitchen", "all 3")]


async def test_more_texts_than_fit_one_batch_keep_their_order(start: Start, corpora: Path) -> None:
    served = await start(registry(corpora))
    texts = [f"{COOKING} {n}" if n % 3 else f"{SUING} {n}" for n in range(100)]
    told = await embed(served, texts)
    assert [row["retriever"] for row in told["consilium"]] == ["kitchen" if n % 3 else "law" for n in range(100)]
    (encoder,) = served.gateway.router.snapshot.embeddings
    plain = vectors(await embed(served, texts, encoder))
    adapted = made_adapter()(plain)
    expected = [plain[n] if n % 3 else adapted[n] for n in range(100)]
    assert np.allclose(vectors(told), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"model": "plain"}, 400, "model 'plain': expected a route with a retriever that searches by vectors, but it "
                                  "retrieves nothing"),
        ({"model": "wordy"}, 400, "it has only words; give the route one under `retrieval:`, or name an encoder"),
        ({"model": "nobody"}, 404, "neither an encoder in use here (default), nor a route, nor an expert"),
        ({"model": "auto:nonsense"}, 404, "route auto has the presets"),
        ({"model": "auto", "input": []}, 400, "input: expected a text, or a list of 1 to"),
        ({"model": "auto", "input": ["x"] * (MOST_INPUTS + 1)}, 400, "input: expected a text, or a list of 1 to"),
        ({"model": "auto", "input": [1, 2]}, 400, "input: expected a text, or a list of 1 to"),
        ({"model": "auto", "dimensions": 3}, 400, "dimensions: this encoder gives 384, got 3"),
        ({"model": "auto", "encoding_format": "hex"}, 400, "encoding_format: expected float or base64"),
    ],
)  # fmt: skip
async def test_what_cannot_be_embedded_is_told_why(
    start: Start, corpora: Path, body: dict[str, Any], status: int, said: str
) -> None:
    assert said in await refused(await start(registry(corpora)), status, **body)


async def test_a_key_embeds_by_its_own_routes_alone(start: Start, corpora: Path) -> None:
    keys = Keys(
        (f"sha256:{sha256(name.encode()).hexdigest()}", Key(name, routes=frozenset({name})))
        for name in ("auto", "plain")
    )
    text = registry(corpora)
    may = await start(text, keys=keys, headers={"authorization": "Bearer auto"})
    assert (await embed(may, COOKING))["consilium"][0]["retriever"] == "kitchen"
    may_not = await start(text, keys=keys, headers={"authorization": "Bearer plain"})
    assert await refused(may_not, 403, model="auto") == "this key may not use the route auto"
    assert await refused(may_not, 403, model="auto:cheap") == "this key may not use the route auto"


async def test_the_adapter_in_force_is_used_as_a_search_uses_it(start: Start, corpora: Path, tmp_path: Path) -> None:
    """What is trained into its folder meanwhile counts from the next reload on."""
    shutil.copytree(corpora / "adapter", tmp_path / "adapter")
    served = await start(registry(corpora, adapter=tmp_path / "adapter"))
    before = vectors(await embed(served, SUING))
    shutil.rmtree(tmp_path / "adapter")
    assert np.array_equal(vectors(await embed(served, SUING)), before)
