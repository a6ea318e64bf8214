"""A reward model on a real vLLM: its ratings, and `best-of` by them through a gateway."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (torch and transformers leave parts of their signatures untyped)

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.integration.conftest import Start

pytestmark = [pytest.mark.vllm, pytest.mark.integration]
QUESTION = "What is the capital of Peru?"
ANSWERS = {"first": "Lima.", "second": "The capital of Peru is Quito, and 12.", "third": "4 + 5 = 9"}
ARGS = "--runner pooling --dtype float32 --enforce-eager --max-model-len 512 --max-num-seqs 8"


def registry(folder: Path, url: str) -> str:
    speakers = "".join(
        f"kind: expert\nname: {name}\nprovider: scripted\ndescription: {name}\ntext: '{text}'\n---\n"
        for name, text in ANSWERS.items()
    )
    return (
        f"{speakers}kind: expert\nname: reward\nprovider: vllm\nmodel: reward\nreward: true\nendpoints: [{url}]\n"
        f"price: {{input: 1000}}\nserve: {{model: {folder}, args: [{', '.join(ARGS.split())}]}}\n"
        "---\nkind: route\nname: auto\nexperts: '*'\ncomposer: {name: best-of, k: 3, reward: reward}\n"
    )


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[str, dict[str, float]]]:
    """A registry with a reward model that runs: the pocket base with a head of one class. With it, what transformers
    makes of each answer."""
    import torch
    from transformers import AutoTokenizer, LlamaForSequenceClassification

    from experts.fleet.command import installed_engine
    from experts.fleet.fleet import Fleet
    from experts.fleet.placement import place
    from experts.pocket.train import WEIGHTS
    from registry.load import parse_text
    from router.cli.placing import residences, server_task

    folder = tmp_path_factory.mktemp("reward")
    torch.manual_seed(3)
    model: Any = LlamaForSequenceClassification.from_pretrained(WEIGHTS / "base", num_labels=1, dtype=torch.float32)
    model.score.weight.data.normal_()
    model.eval().save_pretrained(folder)
    tokenizer: Any = AutoTokenizer.from_pretrained(WEIGHTS / "base")
    tokenizer.save_pretrained(folder)
    expected: dict[str, float] = {}
    for name, text in ANSWERS.items():
        turns = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": text}]
        ids = tokenizer(tokenizer.apply_chat_template(turns, tokenize=False), add_special_tokens=False)["input_ids"]
        with torch.inference_mode():
            expected[name] = float(model(input_ids=torch.tensor([ids])).logits[0, 0])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/v1"
    text = registry(folder, url)
    (server,) = place(residences(parse_text(text)))
    async with Fleet([server_task(server, installed_engine(), folder)]) as fleet:
        await fleet.ready(540)
        yield text, expected


async def test_the_answer_of_the_highest_rating_wins(start: Start, served: tuple[str, dict[str, float]]) -> None:
    text, expected = served
    gateway = await start(text)
    told = await (await gateway.chat(QUESTION, consilium={"budget": {"calls": 6, "tokens": 2000}})).json()
    notes = told["consilium"]["compose"]
    best = max(expected, key=lambda name: expected[name])
    assert told["choices"][0]["message"]["content"] == ANSWERS[best]
    assert dict(notes["ratings"]) == pytest.approx(expected, abs=1e-4)
    voices = told["consilium"]["voices"]
    assert [voice["role"] for voice in voices if voice["expert"] == "reward"] == ["reward 0", "reward 1", "reward 2"]
    assert all(voice["prompt_tokens"] > 30 for voice in voices if voice["expert"] == "reward")
    assert told["consilium"]["budget"]["spent"]["calls"] == 6


async def test_a_reward_model_can_be_asked_by_its_name(start: Start, served: tuple[str, dict[str, float]]) -> None:
    text, expected = served
    gateway = await start(text)
    turns = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWERS["first"]}]
    for stream in (False, True):
        body = {"model": "reward", "messages": turns, "stream": stream, "max_tokens": 5}
        reply = await gateway.post(f"{gateway.url}/v1/chat/completions", json=body)
        said = (await reply.read()).decode()
        value = said.split('"content":"', 1)[1].split('"', 1)[0]
        assert float(value) == pytest.approx(expected["first"], abs=1e-4)


async def test_without_its_reward_model_the_best_expert_is_heard(
    start: Start, served: tuple[str, dict[str, float]]
) -> None:
    text, _ = served
    port = text.split("127.0.0.1:")[1].split("/")[0]
    gateway = await start(text.replace(f"127.0.0.1:{port}", "127.0.0.1:9"))
    told = await asyncio.wait_for((await gateway.chat(QUESTION, consilium=True)).json(), 60)
    assert told["choices"][0]["message"]["content"] in ANSWERS.values()
    assert [voice["error"] is not None for voice in told["consilium"]["voices"]].count(True) == 3
