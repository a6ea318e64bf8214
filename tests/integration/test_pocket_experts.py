"""The pocket experts on a real vLLM, behind a real gateway; and what the router makes of their questions."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import aiohttp
import pytest

from experts.pocket.compound import Compound, compounds
from experts.pocket.parity import differences
from experts.pocket.questions import SKILLS, Question, final_answer, questions, right
from router.cli.placing import POCKET_URL, pocket_folder
from router.outcomes import Outcomes, read_outcomes
from tests.integration.conftest import Served, Start, Upstream

POCKET = pocket_folder()


def held_out(n: int, seed: int = 11) -> list[Question]:
    return [question for skill in SKILLS for question in questions(skill, "test", n, seed)]


async def pocket_gateway(
    start: Start, monkeypatch: pytest.MonkeyPatch, url: str = "http://127.0.0.1:9/v1", outcomes: Outcomes | None = None
) -> Served:
    monkeypatch.setenv(POCKET_URL, url)
    return await start((POCKET / "registry.yaml").read_text(), outcomes=outcomes)


LEAST = 0.95
"""What every expert must reach on its own skill."""


def test_the_measured_results_hold() -> None:
    """`results.json` is what `python -m experts.pocket.measure` wrote for the weights that are committed."""
    found = json.loads((POCKET / "results.json").read_text())
    accuracy: dict[str, dict[str, float]] = found["accuracy"]
    for skill in SKILLS:
        own = accuracy[skill]
        assert own[skill] >= LEAST, (skill, own)
        others = [own[other] for other in SKILLS if other != skill]
        assert sum(others) / len(others) <= 0.40, (skill, own)
    assert sum(accuracy["base"].values()) / len(SKILLS) <= 0.60
    assert found["measured"]["questions_per_skill"] >= 200
    assert found["measured"]["split"] == "test"


def test_the_weights_are_small() -> None:
    size = sum(file.stat().st_size for file in (POCKET / "weights").rglob("*") if file.is_file())
    assert size < 20e6


@pytest.mark.slow
@pytest.mark.parametrize(("fitted", "bar"), [(False, 0.85), (True, 0.97)])
async def test_held_out_questions_go_to_the_right_expert(
    start: Start, monkeypatch: pytest.MonkeyPatch, fitted: bool, bar: float
) -> None:
    """From the YAML cards alone, and with the committed outcomes fitted; nobody is asked."""
    served = await pocket_gateway(
        start, monkeypatch, outcomes=read_outcomes(POCKET / "outcomes.jsonl.gz") if fitted else None
    )
    asked = held_out(60)
    chosen: list[str] = []
    for question in asked:
        reply = await served.post(f"{served.url}/v1/route", json={"query": question.prompt})
        chosen.append((await reply.json())["plan"]["seats"][0]["expert"])
    wrong = [
        (q.prompt, expert) for q, expert in zip(asked, chosen, strict=True) if expert != f"pocket-{q.skill}"
    ]  # fmt: skip
    assert 1 - len(wrong) / len(asked) >= bar, wrong[:20]


@pytest.mark.vllm
async def test_greedy_answers_equal_those_of_transformers(pocket_server: Any) -> None:
    found = await asyncio.to_thread(differences, pocket_server.url, POCKET / "weights", 2)
    assert not found, found[:3]


@pytest.mark.vllm
@pytest.mark.slow
async def test_auto_answers_questions_of_all_skills(
    start: Start, monkeypatch: pytest.MonkeyPatch, pocket_server: Any
) -> None:
    outcomes = await asyncio.to_thread(read_outcomes, POCKET / "outcomes.jsonl.gz")
    served = await pocket_gateway(start, monkeypatch, pocket_server.url, outcomes)
    asked = held_out(12, seed=12)

    async def ask(question: Question) -> bool:
        reply = await served.chat(question.prompt, temperature=0)
        return right(question, (await reply.json())["choices"][0]["message"]["content"])

    answered = await asyncio.gather(*(ask(question) for question in asked))
    assert sum(answered) / len(answered) >= 0.85


@pytest.mark.vllm
async def test_parts_answers_questions_of_two_skills_that_one_expert_cannot(
    start: Start, monkeypatch: pytest.MonkeyPatch, pocket_server: Any
) -> None:
    outcomes = await asyncio.to_thread(read_outcomes, POCKET / "outcomes.jsonl.gz")
    served = await pocket_gateway(start, monkeypatch, pocket_server.url, outcomes)

    async def share(model: str, asked: Sequence[Compound]) -> float:
        async def ask(question: Compound) -> bool:
            reply = await served.chat(question.prompt, model=model, temperature=0, max_tokens=160)
            return final_answer((await reply.json())["choices"][0]["message"]["content"]) == question.answer

        answered = await asyncio.gather(*(ask(question) for question in asked))
        return sum(answered) / len(answered)

    assert await share("parts", compounds("validation", 40)) >= 0.75
    assert await share("auto", compounds("validation", 10)) <= 0.3


async def test_mixed_sends_questions_of_two_skills_to_the_fused_model(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes = await asyncio.to_thread(read_outcomes, POCKET / "outcomes.jsonl.gz")
    served = await pocket_gateway(start, monkeypatch, outcomes=outcomes)

    async def chosen(prompt: str) -> str:
        body = {"model": "mixed", "messages": [{"role": "user", "content": prompt}]}
        reply = await served.post(f"{served.url}/v1/route", json=body)
        return (await reply.json())["plan"]["seats"][0]["expert"]

    two = [await chosen(one.prompt) for one in compounds("test", 20, seed=4)]
    assert two.count("pocket-fused") >= 15
    one = [await chosen(question.prompt) == f"pocket-{question.skill}" for question in held_out(4, seed=4)]
    assert sum(one) / len(one) >= 0.7


async def figures(client: aiohttp.ClientSession, url: str) -> dict[str, float]:
    """vLLM's own counts: requests running now, and tokens generated so far."""
    async with client.get(url.removesuffix("/v1") + "/metrics") as reply:
        text = await reply.text()
    names = {"running": "vllm:num_requests_running", "tokens": "vllm:generation_tokens_total"}
    return {
        key: sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE))
        for key, name in names.items()
    }


@pytest.mark.vllm
@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_stops_the_work_on_vllm(
    start: Start, monkeypatch: pytest.MonkeyPatch, pocket_server: Any, stream: bool
) -> None:
    served = await pocket_gateway(start, monkeypatch, pocket_server.url)
    before = (await figures(served.client, pocket_server.url))["tokens"]
    asking = asyncio.create_task(
        served.chat("Reverse the word planet.", model="pocket-text", stream=stream, max_tokens=900, ignore_eos=True)
    )
    async with asyncio.timeout(30):
        while (await figures(served.client, pocket_server.url))["running"] < 1:
            pass
    if stream:
        reply = await asking
        await reply.content.readuntil(b"\n\n")
        reply.close()
    else:
        asking.cancel()
    async with asyncio.timeout(10):
        while (await figures(served.client, pocket_server.url))["running"] > 0:
            pass
    assert (await figures(served.client, pocket_server.url))["tokens"] - before < 900


@pytest.mark.vllm
@pytest.mark.parametrize("compose", ["council", "race"])
async def test_a_client_that_leaves_stops_every_seat_on_vllm_within_half_a_second(
    start: Start, monkeypatch: pytest.MonkeyPatch, pocket_server: Any, compose: str
) -> None:
    served = await pocket_gateway(start, monkeypatch, pocket_server.url)
    asking = asyncio.create_task(
        served.chat("Reverse the word planet.", stream=True, max_tokens=900, ignore_eos=True,
                    consilium={"compose": compose})
    )  # fmt: skip
    async with asyncio.timeout(30):
        while (await figures(served.client, pocket_server.url))["running"] < 2:
            pass
    asking.cancel()
    left = perf_counter()
    async with asyncio.timeout(10):
        while (await figures(served.client, pocket_server.url))["running"] > 0:
            pass
    assert perf_counter() - left < 0.5


@pytest.mark.vllm
async def test_the_winner_of_a_race_ends_the_other_runner_on_vllm(
    start: Start, pocket_server: Any, upstreams: Callable[[], Awaitable[Upstream]]
) -> None:
    quick = await upstreams()
    quick.hold = asyncio.Event()
    served = await start(
        f"kind: expert\nname: quick\nprovider: vllm\ndescription: quick\nmodel: m\nendpoints: ['{quick.url}']\n---\n"
        "kind: expert\nname: long\nprovider: vllm\ndescription: long\nmodel: pocket-text\n"
        f"endpoints: ['{pocket_server.url}']\n"
    )
    before = (await figures(served.client, pocket_server.url))["tokens"]
    more = {"max_tokens": 900, "ignore_eos": True, "consilium": {"compose": "race"}}
    asking = asyncio.create_task(served.chat("Reverse the word planet.", **more))
    async with asyncio.timeout(30):
        while (await figures(served.client, pocket_server.url))["running"] < 1:
            pass
    quick.hold.set()
    told = await (await asking).json()
    won = perf_counter()
    async with asyncio.timeout(10):
        while (await figures(served.client, pocket_server.url))["running"] > 0:
            pass
    assert perf_counter() - won < 0.5
    assert told["choices"][0]["message"]["content"] == "Hello there."
    assert (await figures(served.client, pocket_server.url))["tokens"] - before < 900
    assert {voice["expert"]: voice["error"] is None for voice in told["consilium"]["voices"]} == {
        "quick": True, "long": False,
    }  # fmt: skip


@pytest.mark.vllm
@pytest.mark.parametrize("budget", [{}, {"calls": 9, "tokens": 3000}])
async def test_a_council_on_vllm_streams_counts_and_keeps_log_probabilities(
    start: Start, monkeypatch: pytest.MonkeyPatch, pocket_server: Any, budget: dict[str, int]
) -> None:
    """Seats are asked whole without a budget, and heard as they speak with one: the client sees no difference."""
    served = await pocket_gateway(start, monkeypatch, pocket_server.url)
    wish = {"compose": "council", **({"budget": budget} if budget else {})}
    more: dict[str, Any] = {"temperature": 0, "logprobs": True, "max_tokens": 60, "consilium": wish}
    whole = await (await served.chat("What is the capital of Peru?", **more)).json()
    reply = await served.chat(
        "What is the capital of Peru?", stream=True, stream_options={"include_usage": True}, **more
    )
    lines = [line[6:] for line in (await reply.read()).decode().splitlines() if line.startswith("data: {")]
    chunks = [json.loads(line) for line in lines]
    text = "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])
    (usage,) = [chunk["usage"] for chunk in chunks if chunk.get("usage")]
    told = next(chunk["consilium"] for chunk in chunks if "consilium" in chunk and "voices" in chunk["consilium"])
    assert text
    assert whole["choices"][0]["message"]["content"]
    assert whole["choices"][0]["logprobs"]["content"]
    assert any(choice.get("logprobs") for chunk in chunks for choice in chunk["choices"])
    for found, bill in ((told, usage), (whole["consilium"], whole["usage"])):
        assert len(found["voices"]) >= 3
        assert bill["completion_tokens"] == sum(voice["completion_tokens"] for voice in found["voices"]) > 0
        assert not any(voice["error"] for voice in found["voices"])


@pytest.mark.vllm
async def test_vllms_own_fields_pass_both_ways(
    start: Start, monkeypatch: pytest.MonkeyPatch, pocket_server: Any
) -> None:
    served = await pocket_gateway(start, monkeypatch, pocket_server.url)
    reply = await served.chat(
        "What is the capital of Peru?", model="pocket-geo", temperature=0.5, logprobs=True, top_logprobs=3, n=2,
        return_token_ids=True, seed=1,
    )  # fmt: skip
    body = await reply.json()
    assert reply.status == 200, body
    assert len(body["choices"]) == 2
    assert len(body["choices"][0]["logprobs"]["content"][0]["top_logprobs"]) == 3
    assert body["choices"][0]["token_ids"]
    refused = await served.chat("hi", model="pocket-geo", temperature=-5)
    assert refused.status == 400
    assert "temperature" in (await refused.json())["error"]["message"]


def test_the_registry_declares_what_is_served() -> None:
    text = Path(POCKET / "registry.yaml").read_text()
    assert all(f"name: pocket-{name}" in text for name in (*SKILLS, "plan"))
