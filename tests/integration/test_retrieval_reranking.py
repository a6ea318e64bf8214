"""What was found is put into a better order: by a cross-encoder from a folder, and by an expert."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from experts.errors import ConfigError, RegistryError
from experts.language import Passage
from experts.retrieval.reranking import Reranked, load_cross_encoder
from tests.integration.conftest import Start
from tests.integration.test_retrieval_gateway import written

pytestmark = pytest.mark.integration

PASSAGES = [
    Passage(str(n), text, score=1.0 - n / 10) for n, text in enumerate(["oslo is here", "suva", "paris or oslo"])
]


class Held:
    """A retriever of three passages."""

    name, corpus, encoder, size = "held", "held", None, 3
    closed = False

    async def search(self, text: str, vector: object, k: int) -> list[Passage]:
        return PASSAGES[:k]

    async def close(self) -> None:
        self.closed = True


def cross_encoder(folder: Path) -> None:
    """A tiny one, of random weights."""
    pytest.importorskip("sentence_transformers")
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "oslo", "suva", "paris", "is", "here", "or", "where"]
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(vocab_file=str(folder / "vocab.txt")).save_pretrained(folder)
    config = BertConfig(vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                        intermediate_size=32, num_labels=1, initializer_range=1.0)  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)


@pytest.mark.slow
async def test_a_cross_encoder_orders_what_was_found(tmp_path: Path) -> None:
    cross_encoder(tmp_path)
    from sentence_transformers import CrossEncoder

    held = Held()
    retriever = Reranked(held, load_cross_encoder(str(tmp_path)), 3, 60.0)
    found = await retriever.search("where is oslo", None, 2)
    scores = CrossEncoder(str(tmp_path), device="cpu").predict([("where is oslo", p.text) for p in PASSAGES])
    assert [passage.id for passage in found] == [str(n) for n in np.argsort(-scores)[:2]]
    assert found[0].score == pytest.approx(float(scores.max()), abs=1e-4)
    await retriever.close()
    assert held.closed


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    with pytest.raises(ConfigError, match="cannot load the cross-encoder"):
        load_cross_encoder(str(tmp_path))


def reranking(folder: Path, expert: str) -> str:
    text = written(folder).replace("index: ./facts", "index: ./facts\nrerank: {expert: reader, candidates: 3}")
    return f"{text}---\nkind: expert\nname: reader\nprovider: scripted\n{expert}\n"


async def test_an_expert_puts_what_was_found_into_a_better_order(start: Start, tmp_path: Path) -> None:
    served = await start(reranking(tmp_path, "text: '2'"))
    reply = await served.post(f"{served.url}/v1/retrieve", json={"query": "Norway capital?", "retriever": "facts"})
    found = (await reply.json())["passages"]
    assert [passage["id"] for passage in found] == ["suva", "oslo"]
    asked = served.gateway.router.snapshot.experts["reader"].last
    assert "<source 1>\nOslo\nThe capital of Norway is Oslo.\n</source 1>" in asked.user_texts()[0]


@pytest.mark.parametrize("expert", ["fail: {at: connect}", "text: none of them", "delay_s: 60"])
async def test_a_reranker_that_fails_costs_only_the_order(start: Start, tmp_path: Path, expert: str) -> None:
    text = reranking(tmp_path, expert).replace("candidates: 3", "candidates: 3, timeout_s: 0.2")
    served = await start(text)
    reply = await served.post(f"{served.url}/v1/retrieve", json={"query": "Norway capital?", "retriever": "facts"})
    assert [passage["id"] for passage in (await reply.json())["passages"]] == ["oslo", "suva"]


async def test_a_reranker_that_does_not_exist_is_refused(start: Start, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="there is no expert 'reader'"):
        await start(reranking(tmp_path, "").partition("---\nkind: expert\nname: reader")[0])


@pytest.mark.parametrize("stream", [False, True])
async def test_an_expert_that_reranks_is_billed_with_the_answer(start: Start, tmp_path: Path, stream: bool) -> None:
    served = await start(reranking(tmp_path, "text: '2'\nprice: {input: 1000}"))
    more = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    reply = await served.chat("Norway capital?", consilium=True, **more)
    said = (await reply.read()).decode()
    events = [json.loads(line[6:]) for line in said.splitlines() if line.startswith("data: {")]
    parts = events if stream else [json.loads(said)]
    told = next(part["consilium"] for part in parts if "voices" in part.get("consilium", {}))
    usage = next(part["usage"] for part in parts if part.get("usage"))
    assert [voice["role"] for voice in told["voices"]] == ["rerank", "seat"]
    assert [one["id"] for one in told["citations"]] == ["suva", "oslo"]
    assert usage["prompt_tokens"] == sum(voice["prompt_tokens"] for voice in told["voices"])
    assert told["voices"][0]["prompt_tokens"] > 20


@pytest.mark.parametrize(("calls", "first"), [(1, "oslo"), (2, "suva")])
async def test_the_last_call_of_a_budget_is_the_answers(
    start: Start, tmp_path: Path, calls: int, first: str
) -> None:  # fmt: skip
    served = await start(reranking(tmp_path, "text: '2'"))
    body = await (await served.chat("Norway capital?", consilium={"budget": {"calls": calls}, "explain": True})).json()
    assert body["consilium"]["citations"][0]["id"] == first
    assert body["consilium"]["budget"]["spent"]["calls"] == calls
    assert "As said in [1]." in body["choices"][0]["message"]["content"]
