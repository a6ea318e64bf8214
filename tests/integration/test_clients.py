"""The clients that people have: openai-python (sync, async, streaming), LangChain, curl."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from typing import Any

import httpx
import openai
import orjson
import pytest
from langchain_openai import ChatOpenAI

from tests.integration.conftest import Served, Start

pytestmark = pytest.mark.integration

REGISTRY = """
kind: expert
name: poet
provider: scripted
replies:
  - {match: "weather", tool_calls: [{name: get_weather, arguments: {city: Lima}}]}
  - {text: "Roses are red, violets are blue."}
"""


@pytest.fixture
async def served(start: Start) -> Served:
    return await start(REGISTRY)


def sync_client(served: Served) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0,
                         http_client=httpx.Client(trust_env=False))  # fmt: skip


async def test_openai_sync(served: Served) -> None:
    def ask() -> tuple[Any, Any, list[str]]:
        with sync_client(served) as client:
            whole = client.chat.completions.create(model="auto", messages=[{"role": "user", "content": "hi"}])
            listed = [model.id for model in client.models.list()]
            stream = client.chat.completions.create(
                model="poet", messages=[{"role": "user", "content": "hi"}], stream=True,
                stream_options={"include_usage": True},
            )  # fmt: skip
            return whole, list(stream), listed

    whole, chunks, listed = await asyncio.to_thread(ask)
    assert whole.choices[0].message.content == "Roses are red, violets are blue."
    assert whole.usage.completion_tokens > 0
    assert listed == ["auto", "poet"]
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert said == whole.choices[0].message.content
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens


async def test_openai_async_with_explanation_and_raw_headers(served: Served) -> None:
    async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0,
                                  http_client=httpx.AsyncClient(trust_env=False)) as client:  # fmt: skip
        raw = await client.chat.completions.with_raw_response.create(
            model="auto", messages=[{"role": "user", "content": "hi"}], n=2, extra_body={"consilium": {"explain": True}}
        )
        answer = raw.parse()
        assert raw.headers["x-consilium-expert"] == "poet"
        assert len(answer.choices) == 2
        assert answer.model_extra is not None
        assert answer.model_extra["consilium"]["route"] == "auto"
        text = await client.completions.create(model="poet", prompt="hi", max_tokens=2)
        assert text.choices[0].text.strip() == "Roses are"
        assert text.choices[0].finish_reason == "length"


async def test_openai_tools_travel(served: Served) -> None:
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}}

    def ask() -> Any:
        with sync_client(served) as client:
            return client.chat.completions.create(
                model="auto", messages=[{"role": "user", "content": "the weather?"}], tools=[tool],  # pyright: ignore
            )  # fmt: skip

    answer = await asyncio.to_thread(ask)
    call = answer.choices[0].message.tool_calls[0]
    assert call.function.name == "get_weather"
    assert orjson.loads(call.function.arguments) == {"city": "Lima"}


async def test_openai_errors_have_their_own_classes(served: Served) -> None:
    def ask() -> None:
        with sync_client(served) as client:
            with pytest.raises(openai.NotFoundError) as missing:
                client.chat.completions.create(model="nobody", messages=[{"role": "user", "content": "hi"}])
            assert missing.value.code == "model_not_found"
            with pytest.raises(openai.BadRequestError) as bad:
                client.chat.completions.create(model="auto", messages=[])
            assert bad.value.param == "messages"

    await asyncio.to_thread(ask)


async def test_langchain(served: Served) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        model = ChatOpenAI(model="auto", base_url=f"{served.url}/v1", api_key="none", max_retries=0,  # pyright: ignore
                           http_async_client=client, http_client=httpx.Client(trust_env=False))  # fmt: skip
        whole = await model.ainvoke("hi")
        assert whole.content == "Roses are red, violets are blue."
        said = "".join([str(chunk.content) async for chunk in model.astream("hi")])
        assert said == whole.content


async def test_curl(served: Served) -> None:
    curl = shutil.which("curl")
    assert curl is not None, "curl is part of every machine this project supports"
    body = '{"model": "auto", "messages": [{"role": "user", "content": "hi"}], "stream": true}'
    command = [curl, "-sN", f"{served.url}/v1/chat/completions", "-H", "content-type: application/json", "-d", body]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0
    assert done.stdout.rstrip().endswith("data: [DONE]")
