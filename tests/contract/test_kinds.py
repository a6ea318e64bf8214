"""What every kind of expert does, from the day its file appears in `experts/kinds/`."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from pydantic import BaseModel

from experts import kinds
from experts.endpoints import Endpoints
from experts.errors import ConfigError
from experts.language import Delta, Query
from experts.protocols import Expert, Parts, Timeouts
from experts.transport import Transport
from experts.wire import parse
from tests.events import delta_texts

# LiteLLM's own: it was written for an older pydantic than it is installed with.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.* is using the `ReadOnly` qualifier:UserWarning"),
    pytest.mark.filterwarnings("ignore:Accessing the .* attribute on the instance:DeprecationWarning"),
]

NAMES = sorted(kinds.names())
SAID = "hello there, friend"
HEAVY = ("litellm", "torch", "vllm", "transformers", "openai")
SECRET = "sk-very-secret"


def options_for(name: str, base: str) -> dict[str, Any]:
    """The least each kind needs to say SAID. A new kind needs a line here, or none when it needs no options."""
    known: dict[str, dict[str, Any]] = {
        "scripted": {"text": SAID},
        "vllm": {"model": "m", "endpoints": [base], "api_key": SECRET},
        "litellm": {"model": "openai/m", "api_base": base, "api_key": SECRET},
    }
    return known.get(name, {})


@pytest.fixture
async def upstream() -> AsyncIterator[str]:
    """A scripted expert behind a real socket: OpenAI's format without a model."""
    script = kinds.module("scripted")
    model: Expert = script.build("m", script.Options(text=SAID, per_token_s=0.0), None)

    async def answer(request: web.Request) -> web.StreamResponse:
        query = parse("chat", await request.read(), "up")
        if "hang" in query.user_texts()[-1]:
            await asyncio.Event().wait()
        if not query.stream:

            async def silent(_: Delta) -> None: ...

            return web.json_response(body=(await model.answer(query, silent)).body)
        reply = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await reply.prepare(request)
        await model.answer(query, lambda delta: reply.write(delta.events))
        await reply.write(b"data: [DONE]\n\n")
        return reply

    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    yield f"http://{host}:{port}/v1"
    await runner.cleanup()


@pytest.fixture(params=NAMES)
async def expert(request: pytest.FixtureRequest, upstream: str) -> AsyncIterator[Expert]:
    module = kinds.module(request.param)
    transport = Transport()
    parts = Parts(transport, Endpoints(transport), Timeouts(first_byte_s=60))
    built: Expert = module.build("far", module.Options.model_validate(options_for(request.param, upstream)), parts)
    yield built
    await built.close()
    await transport.close()


def query(text: str = "hi", **fields: Any) -> Query:
    body = {"model": "far", "messages": [{"role": "user", "content": text}], **fields}
    return parse("chat", orjson.dumps(body), "q")


class Ear:
    def __init__(self) -> None:
        self.events: list[bytes] = []

    async def __call__(self, delta: Delta) -> None:
        self.events.append(delta.events)


def test_the_kinds_of_this_project_are_found():
    assert {"vllm", "scripted", "litellm"} <= kinds.names()
    with pytest.raises(ConfigError, match=r"known are .*scripted.*did you mean vllm\?"):
        kinds.module("vlm")


@pytest.mark.parametrize("name", NAMES)
def test_a_kind_exports_options_and_build(name: str):
    module = kinds.module(name)
    assert issubclass(module.Options, BaseModel)
    assert module.Options.model_config.get("frozen")
    assert module.Options.model_config.get("extra") == "forbid"
    assert list(inspect.signature(module.build).parameters) == ["name", "options", "parts"]
    assert module.__doc__.startswith(f"`provider: {name}`")
    assert all(field.description for field in module.Options.model_fields.values())


@pytest.mark.parametrize("name", NAMES)
def test_importing_a_kind_imports_nothing_heavy(name: str):
    program = f"import sys, experts.kinds as k; k.module({name!r}); print(*(m for m in {HEAVY} if m in sys.modules))"
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parents[2], capture_output=True, check=True, timeout=120
    )
    assert (ran.stdout.strip(), ran.stderr) == (b"", b"")


@pytest.mark.parametrize("name", NAMES)
def test_no_secret_is_shown(name: str):
    options = kinds.module(name).Options.model_validate(options_for(name, "http://127.0.0.1:1/v1"))
    assert SECRET not in f"{options!r} {options} {options.model_dump_json()}"


async def test_a_whole_answer_comes_once_and_nothing_is_emitted(expert: Expert):
    ear = Ear()
    answer = await expert.answer(query(), ear)
    assert (answer.expert, answer.text, answer.finish, ear.events) == ("far", SAID, "stop", [])
    assert orjson.loads(answer.body)["model"] == "far"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (1, 3)
    assert 0 < answer.ttft_s <= answer.took_s


@pytest.mark.parametrize("wanted", [False, True])
async def test_a_stream_is_whole_events_and_the_answer_sums_it_up(expert: Expert, wanted: bool):
    ear = Ear()
    more = {"stream_options": {"include_usage": True}} if wanted else {}
    answer = await expert.answer(query(stream=True, **more), ear)
    assert all(piece.startswith(b"data: ") and piece.endswith(b"\n\n") for piece in ear.events)
    whole = b"".join(ear.events)
    assert delta_texts(whole) == SAID
    assert b"[DONE]" not in whole
    assert (b'"prompt_tokens"' in whole) == wanted
    chunks = [orjson.loads(event[6:]) for event in whole.split(b"\n\n")[:-1]]
    assert {chunk["model"] for chunk in chunks} == {"far"}
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (1, 3)
    assert (answer.finish, answer.chunks, answer.body) == ("stop", len(chunks), b"")


async def test_calls_side_by_side_do_not_mix(expert: Expert):
    ears = [Ear() for _ in range(8)]
    await asyncio.gather(*(expert.answer(query(stream=True), ear) for ear in ears))
    assert [delta_texts(b"".join(ear.events)) for ear in ears] == [SAID] * 8


async def test_load_counts_calls_under_way_and_forgets_cancelled_ones(expert: Expert):
    assert expert.load().in_flight == 0
    assert expert.load().available
    begun, never = asyncio.Event(), asyncio.Event()

    async def stuck(_: Delta) -> None:
        begun.set()
        await never.wait()

    call = asyncio.create_task(expert.answer(query(stream=True), stuck))
    await asyncio.wait_for(begun.wait(), 60)
    assert expert.load().in_flight == 1
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert expert.load().in_flight == 0


async def test_what_the_client_raises_is_not_an_expert_error(expert: Expert):
    async def gone(_: Delta) -> None:
        raise ConnectionResetError("the client has gone")

    with pytest.raises(ConnectionResetError, match="the client has gone"):
        await expert.answer(query(stream=True), gone)
    assert expert.load() == type(expert.load())()


async def test_closing_twice_is_harmless(expert: Expert):
    await expert.close()
