"""Composition through a real gateway, as a client sees it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from time import perf_counter
from typing import Any

import orjson
import pytest
from openai import AsyncOpenAI

from tests.integration.conftest import Start, Upstream

SCRIPTED = """
kind: expert
name: {name}
provider: scripted
description: {name}
price: {{input: 1, output: 2}}
{script}
"""
COUNCIL = """
kind: route
name: auto
experts: "*"
estimator: prior
composer: {name: council, k: 3}
budget: {calls: 9}
"""


def registry(*scripts: str, route: str = COUNCIL) -> str:
    texts = [SCRIPTED.format(name=f"e{place}", script=script) for place, script in enumerate(scripts)]
    return "---".join([*texts, route])


DISAGREE = registry(*(f"text: The answer is {n}." for n in (1, 2, 3)))


@pytest.fixture
async def client(start: Start) -> AsyncIterator[AsyncOpenAI]:
    served = await start(DISAGREE)
    async with AsyncOpenAI(base_url=f"{served.url}/v1", api_key="none") as client:
        yield client


async def test_a_council_for_the_openai_client(client: AsyncOpenAI) -> None:
    asked: list[Any] = [{"role": "user", "content": "How many?"}]
    reply = await client.chat.completions.create(model="auto", messages=asked, extra_body={"consilium": True})
    assert "The answer is" in (reply.choices[0].message.content or "")
    told: Any = reply.model_extra
    voices = told["consilium"]["voices"]
    assert [voice["role"] for voice in voices].count("aggregator") == 1
    assert reply.usage is not None
    assert reply.usage.completion_tokens == sum(voice["completion_tokens"] for voice in voices)
    assert told["consilium"]["budget"]["spent"]["calls"] == len(voices) == 4


async def test_a_streamed_council_for_the_openai_client(client: AsyncOpenAI) -> None:
    asked: list[Any] = [{"role": "user", "content": "How many?"}]
    stream = await client.chat.completions.create(
        model="auto", messages=asked, stream=True, stream_options={"include_usage": True},
        extra_body={"consilium": {"progress": True, "explain": True}},
    )  # fmt: skip
    text, usages, told = "", list[Any](), list[Any]()
    async for chunk in stream:
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
        usages += [chunk.usage] if chunk.usage else []
        told += [chunk.model_extra["consilium"]] if chunk.model_extra else []
    assert "The answer is" in text
    assert [one["progress"]["event"] for one in told[:-1]] == ["heard"] * 3 + ["aggregating"]
    assert len(usages) == 1
    assert usages[0].completion_tokens == sum(voice["completion_tokens"] for voice in told[-1]["voices"])


async def test_who_asks_for_no_progress_gets_comments_only(start: Start) -> None:
    served = await start(DISAGREE)
    reply = await served.chat(stream=True)
    lines = (await reply.read()).decode().splitlines()
    said = [line for line in lines if line]
    assert [line for line in said if line.startswith(":")] == [": heard"] * 3 + [": aggregating"]
    assert all(line.startswith((":", "data: ")) for line in said)
    assert not any("consilium" in line for line in said if line.startswith("data: "))
    assert said[-1] == "data: [DONE]"
    reply = await served.chat(stream=True, consilium={"progress": True})
    lines = (await reply.read()).decode().splitlines()
    assert lines.count("event: consilium.progress") == 4


async def test_n_and_tools_fall_to_single_and_say_so(start: Start) -> None:
    served = await start(DISAGREE)
    reply = await served.chat(n=2, consilium=True)
    found = orjson.loads(await reply.read())
    assert len(found["choices"]) == 2
    assert "n > 1" in found["consilium"]["compose"]["single_because"]
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    reply = await served.chat(tools=[tool], consilium=True)
    assert "tool" in orjson.loads(await reply.read())["consilium"]["compose"]["single_because"]


async def test_headers_and_body_can_only_tighten(start: Start) -> None:
    served = await start(DISAGREE)
    body = {"model": "auto", "messages": [{"role": "user", "content": "hi"}],
            "consilium": {"budget": {"calls": 100, "tokens": 900}}}  # fmt: skip
    headers = {"x-consilium-budget-tokens": "800", "x-consilium-budget-ms": "5000", "x-consilium-compose": "race"}
    reply = await served.post(f"{served.url}/v1/chat/completions", json=body, headers=headers)
    told = orjson.loads(await reply.read())["consilium"]
    assert told["budget"]["limits"] == {"calls": 9, "tokens": 800, "ms": 5000.0}
    assert told["plan"]["composer"] == "race"
    explained = orjson.loads(await (await served.post(f"{served.url}/v1/route", json=body, headers=headers)).read())
    assert explained["plan"]["composer"] == "race"
    assert explained["budget"]["limits"] == told["budget"]["limits"]
    assert len(explained["plan"]["seats"]) == 2


@pytest.mark.parametrize(
    ("wish", "param"),
    [
        ({"budget": {"calls": 0}}, "consilium.budget.calls"), ({"budget": {"token": 5}}, "consilium.budget.token"),
        ({"budget": {"usd": "much"}}, "consilium.budget.usd"), ({"budget": []}, None),
        ({"compose": "councl"}, "consilium.compose"),
        ({"budget": 3}, "consilium.budget"), ({"compose": 3}, "consilium.compose"),
        ({"progress": 1}, "consilium.progress"),
    ],
)  # fmt: skip
async def test_nonsense_is_refused_by_name(start: Start, wish: dict[str, Any], param: str | None) -> None:
    served = await start(DISAGREE)
    reply = await served.chat(consilium=wish)
    assert reply.status == (400 if param else 200)
    if param:
        assert orjson.loads(await reply.read())["error"]["param"] == param


async def test_a_budget_that_ends_is_told(start: Start) -> None:
    served = await start(registry(*["text: one two three four five six\nramble: true"] * 2))
    reply = await served.chat(consilium={"budget": {"tokens": 40}, "compose": "single"})
    found = orjson.loads(await reply.read())
    assert found["choices"][0]["finish_reason"] in ("stop", "length")
    assert found["consilium"]["budget"]["spent"]["tokens"] <= 40
    reply = await served.chat(consilium={"budget": {"calls": 1}})
    told = orjson.loads(await reply.read())["consilium"]
    assert told["budget"]["ended_by"] == "calls"
    assert told["budget"]["spent"]["calls"] == 1
    reply = await served.chat(consilium={"budget": {"tokens": 3}})
    assert reply.status == 400
    assert orjson.loads(await reply.read())["error"]["code"] == "budget_spent"


VLLM = "kind: expert\nname: e{place}\nprovider: vllm\nmodel: m\nendpoints: [{url}]\ndescription: e{place}\n"


async def test_a_client_that_leaves_ends_all_seats_on_their_servers(start: Start, upstreams: Any) -> None:
    servers: list[Upstream] = [await upstreams() for _ in range(3)]
    for server in servers:
        server.hold = asyncio.Event()
    texts = [VLLM.format(place=place, url=server.url) for place, server in enumerate(servers)]
    served = await start("---\n".join([*texts, COUNCIL]))
    reply = asyncio.create_task(served.chat(stream=True))
    for server in servers:
        await asyncio.wait_for(server.arrived.wait(), 5)
    reply.cancel()
    left = perf_counter()
    for server in servers:
        await asyncio.wait_for(server.gone.wait(), 5)
    assert perf_counter() - left < 0.5


async def test_the_winner_of_a_race_ends_the_others_on_their_servers(start: Start, upstreams: Any) -> None:
    fast, slow = await upstreams(), await upstreams()
    slow.hold = asyncio.Event()
    texts = [VLLM.format(place=place, url=server.url) for place, server in enumerate((slow, fast))]
    served = await start("---\n".join([*texts, COUNCIL]))
    reply = await served.chat(consilium={"compose": "race"})
    found = orjson.loads(await reply.read())
    assert found["model"] == "e1"
    await asyncio.wait_for(slow.gone.wait(), 5)
    voices = {voice["expert"]: voice for voice in found["consilium"]["voices"]}
    assert "cancelled" in voices["e0"]["error"]


async def test_the_log_keeps_every_attempt(start: Start) -> None:
    served = await start(DISAGREE)
    await served.chat()
    (line,) = served.lines()
    assert line["attempts"] == 4


WORTH = """
kind: route
name: auto
experts: "*"
estimator: prior
"""


async def test_auto_votes_where_answers_can_be_compared_and_explains_what_it_weighed(start: Start) -> None:
    served = await start(registry(*(f"text: The answer is {n}." for n in (7, 8, 8)), route=WORTH))
    question = [{"role": "user", "content": "How many legs do two dogs have?"}]
    body = {"model": "auto", "messages": question, "consilium": {"compose": "auto"}}
    explained = orjson.loads(await (await served.post(f"{served.url}/v1/route", json=body)).read())
    assert explained["policy"] == "worth"
    assert explained["plan"]["composer"] == "vote"
    best = explained["alternatives"][0]
    assert (best["composer"], len(best["seats"])) == ("vote", 3)
    assert best["gain"] > best["worth"] > 0
    told = orjson.loads(await (await served.post(f"{served.url}/v1/chat/completions", json=body)).read())
    assert told["choices"][0]["message"]["content"] == "The answer is 8."
    assert told["consilium"]["compose"]["kind"] == "number"
    body["messages"] = [{"role": "user", "content": "Tell me a story."}]
    told = orjson.loads(await (await served.post(f"{served.url}/v1/chat/completions", json=body)).read())
    assert told["consilium"]["plan"]["composer"] == "single"
    del body["consilium"]
    body["messages"] = question
    plain = orjson.loads(await (await served.post(f"{served.url}/v1/route", json=body)).read())
    assert (plain["policy"], plain["plan"]["composer"]) == ("balanced", "single")
