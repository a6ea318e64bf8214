"""`provider: litellm` against a real OpenAI-compatible server over real HTTP."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from experts.errors import ExpertBroke, ExpertDown, ExpertRefused, ExpertTimeout
from experts.kinds import litellm as kind
from experts.kinds.litellm import LitellmExpert
from experts.language import Answer, Delta, Query, Usage
from experts.protocols import Parts, Timeouts
from experts.wire import parse

# LiteLLM's own: it was written for an older pydantic than it is installed with.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.* is using the `ReadOnly` qualifier:UserWarning"),
    pytest.mark.filterwarnings("ignore:Accessing the .* attribute on the instance:DeprecationWarning"),
]

SECRET = "sk-a-very-secret-key"
CHUNK = {"id": "c1", "created": 1, "model": "x"}


class Provider:
    """An OpenAI-compatible server whose behaviour the last user message names."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.gone = asyncio.Event()
        self.base = ""
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.add_routes([
            web.post("/v1/chat/completions", self.chat),
            web.post("/v1/completions", self.completion),
            web.post("/v1/embeddings", self.embedding),
        ])  # fmt: skip
        self._runner = web.AppRunner(app, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.base = f"http://{host}:{port}/v1"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await self._body(request)
        how = body["messages"][-1]["content"]
        if how.isdigit():
            error = {"message": f"no, {SECRET} {how}", "type": "t", "code": "c"}
            return web.json_response({"error": error}, status=int(how), headers={"retry-after": "7"})
        if how == "hang":
            await self._hang()
        if not body.get("stream"):
            message = {"role": "assistant", "content": "hello there"}
            choices = [{"index": i, "message": message, "finish_reason": "stop"} for i in range(body.get("n") or 1)]
            return self._json("chat.completion", choices)
        frames = [
            {"delta": {"role": "assistant", "content": ""}},
            {"delta": {"content": "hel"}},
            {"delta": {"content": "lo"}},
        ]
        return await self._stream(request, body, "chat.completion.chunk", frames, {"delta": {}}, how)

    async def completion(self, request: web.Request) -> web.StreamResponse:
        body = await self._body(request)
        if not body.get("stream"):
            return self._json("text_completion", [{"index": 0, "text": "hello there", "finish_reason": "stop"}])
        frames = [{"text": "hel"}, {"text": "lo"}]
        return await self._stream(request, body, "text_completion", frames, {"text": ""}, body["prompt"])

    async def embedding(self, request: web.Request) -> web.StreamResponse:
        body = await self._body(request)
        data = [{"object": "embedding", "index": i, "embedding": [0.5, i]} for i, _ in enumerate(body["input"])]
        usage = {"prompt_tokens": 3, "total_tokens": 3}
        return web.json_response({"object": "list", "model": "x", "data": data, "usage": usage})

    async def _body(self, request: web.Request) -> dict[str, Any]:
        self.bodies.append(await request.json())
        self.keys.append(request.headers.get("authorization", ""))
        return self.bodies[-1]

    async def _hang(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.gone.set()

    def _json(self, kind: str, choices: list[dict[str, Any]]) -> web.Response:
        usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        return web.json_response({**CHUNK, "object": kind, "choices": choices, "usage": usage})

    async def _stream(
        self, request: web.Request, body: dict[str, Any], kind: str, frames: list[Any], last: Any, how: str
    ) -> web.StreamResponse:
        reply = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await reply.prepare(request)

        async def event(**chunk: Any) -> None:
            await reply.write(b"data: " + orjson.dumps({**CHUNK, "object": kind, **chunk}) + b"\n\n")

        for frame in frames:
            await event(choices=[{"index": 0, "finish_reason": None, **frame}])
        if how == "stall":
            await self._hang()
        if how == "break":
            assert request.transport is not None
            request.transport.abort()
            return reply
        await event(choices=[{"index": 0, "finish_reason": "stop", **last}])
        if (body.get("stream_options") or {}).get("include_usage"):
            await event(choices=[], usage={"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5})
        await reply.write(b"data: [DONE]\n\n")
        return reply


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    started = Provider()
    await started.start()
    yield started
    await started.stop()


Make = Callable[..., LitellmExpert]


@pytest.fixture
async def expert(provider: Provider) -> AsyncIterator[Make]:
    made: list[LitellmExpert] = []

    def make(timeouts: Timeouts | None = None, **options: Any) -> LitellmExpert:
        given = {"model": "openai/x", "api_key": SECRET, "api_base": provider.base, **options}
        parts = Parts(None, None, timeouts or Timeouts())  # pyright: ignore[reportArgumentType] - it needs neither
        made.append(kind.build("far", kind.Options.model_validate(given), parts))
        return made[-1]

    yield make
    for one in made:
        await one.close()


def chat(content: str = "hi", **fields: Any) -> Query:
    return parse(
        "chat", orjson.dumps({"model": "far", "messages": [{"role": "user", "content": content}], **fields}), "q1"
    )


async def ask(expert: LitellmExpert, query: Query) -> tuple[Answer, list[dict[str, Any]]]:
    events: list[dict[str, Any]] = []

    async def emit(delta: Delta) -> None:
        assert delta.events.endswith(b"\n\n")
        events.extend(orjson.loads(event[6:]) for event in delta.events.split(b"\n\n")[:-1])

    return await expert.answer(query, emit), events


def test_choosing_it_does_not_import_litellm():
    program = "import sys, experts.kinds as k; k.names(); k.module('litellm'); sys.exit('litellm' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[2], timeout=60, check=True)


async def test_a_whole_answer(provider: Provider, expert: Make):
    answer, events = await ask(expert(), chat(n=2, temperature=0.5, user="u", seed=7))
    assert answer.text == "hello there"
    assert (answer.expert, answer.finish, answer.usage, events) == ("far", "stop", Usage(3, 2), [])
    body = orjson.loads(answer.body)
    assert (body["model"], len(body["choices"])) == ("far", 2)
    sent = provider.bodies[0]
    assert {k: sent[k] for k in ("model", "n", "temperature", "user", "seed")} == {
        "model": "x", "n": 2, "temperature": 0.5, "user": "u", "seed": 7,
    }  # fmt: skip
    assert provider.keys == [f"Bearer {SECRET}"]
    assert 0 < answer.took_s < 60


async def test_fields_nobody_knows_reach_the_provider_and_give_litellm_no_orders(provider: Provider, expert: Make):
    orders = {
        "api_base": "http://192.0.2.1/v1",
        "api_key": "stolen",
        "mock_response": "fake",
        "custom_llm_provider": "x",
    }
    answer, _ = await ask(expert(), chat(top_k=5, cache_salt={"a": [1]}, consilium=True, **orders))
    assert answer.text == "hello there"
    sent = provider.bodies[0]
    assert sent["top_k"] == 5
    assert sent["cache_salt"] == {"a": [1]}
    assert sent["mock_response"] == "fake"
    assert "consilium" not in sent
    assert provider.keys == [f"Bearer {SECRET}"]


@pytest.mark.parametrize("wanted", [True, False])
async def test_a_stream(provider: Provider, expert: Make, wanted: bool):
    query = chat(stream=True, **({"stream_options": {"include_usage": True}} if wanted else {}))
    answer, events = await ask(expert(), query)
    assert "".join(c["delta"].get("content") or "" for e in events for c in e["choices"]) == "hello"
    assert {event["model"] for event in events} == {"far"}
    assert [e for e in events if e["choices"]][-1]["choices"][0]["finish_reason"] == "stop"
    assert [event["usage"]["total_tokens"] for event in events if "usage" in event] == ([5] if wanted else [])
    assert (not events[-1]["choices"]) == wanted
    assert (answer.usage, answer.finish, answer.chunks) == (Usage(3, 2), "stop", len(events))
    assert provider.bodies[0]["stream_options"] == {"include_usage": True}


async def test_completions_and_embeddings(provider: Provider, expert: Make):
    one = expert()
    answer, _ = await ask(one, parse("completion", b'{"model":"far","prompt":"hi","max_tokens":4}', "q"))
    assert (answer.text, answer.usage) == ("hello there", Usage(3, 2))
    assert provider.bodies[0]["max_tokens"] == 4
    answer, events = await ask(one, parse("completion", b'{"model":"far","prompt":"hi","stream":true}', "q"))
    assert "".join(c.get("text") or "" for e in events for c in e["choices"]) == "hello"
    assert (answer.usage, answer.finish) == (Usage(3, 2), "stop")
    answer, _ = await ask(one, parse("embedding", b'{"model":"far","input":["a","b"]}', "q"))
    assert [item["embedding"] for item in orjson.loads(answer.body)["data"]] == [[0.5, 0], [0.5, 1]]
    assert answer.usage == Usage(3)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [400, 404, 422, 429])
async def test_a_refusal_keeps_its_status_and_shows_no_secret(expert: Make, status: int, stream: bool):
    with pytest.raises(ExpertRefused) as refused:
        await ask(expert(), chat(str(status), stream=stream))
    error = refused.value
    assert (error.status, error.expert) == (status, "far")
    assert SECRET not in error.message + error.body.decode()
    assert f"{status}" in orjson.loads(error.body)["error"]["message"]
    if status == 429:
        assert error.retry_after == "7"


async def test_wrong_credentials_are_the_operators_business(expert: Make):
    with pytest.raises(ExpertRefused, match="401") as refused:
        await ask(expert(), chat("401"))
    assert "api_key" in refused.value.body.decode()
    assert SECRET not in refused.value.body.decode()


@pytest.mark.parametrize("status", ["500", "502", "503"])
async def test_a_failing_provider(expert: Make, status: str):
    with pytest.raises(ExpertBroke) as broke:
        await ask(expert(), chat(status))
    assert SECRET not in broke.value.message
    assert broke.value.__cause__ is None


async def test_an_unreachable_provider(expert: Make, unused_tcp_port: int):
    with pytest.raises(ExpertDown):
        await ask(expert(api_base=f"http://127.0.0.1:{unused_tcp_port}/v1"), chat())


async def test_no_first_byte_in_time(provider: Provider, expert: Make):
    one = expert(Timeouts(first_byte_s=2.0))
    with pytest.raises(ExpertTimeout, match="timeouts"):
        await ask(one, chat("hang"))
    await asyncio.wait_for(provider.gone.wait(), 10)


@pytest.mark.parametrize(("how", "streamed"), [("hang", False), ("hang", True), ("stall", True)])
async def test_a_call_that_takes_too_long_in_all(provider: Provider, expert: Make, how: str, streamed: bool):
    one = expert(Timeouts(total_s=2.0))
    with pytest.raises(ExpertTimeout):
        await ask(one, chat(how, stream=streamed))
    assert len(provider.bodies) == 1
    await asyncio.wait_for(provider.gone.wait(), 10)
    assert one.load().in_flight == 0


async def test_a_stream_that_stalls(provider: Provider, expert: Make):
    with pytest.raises(ExpertTimeout):
        await ask(expert(Timeouts(between_bytes_s=0.5)), chat("stall", stream=True))
    await asyncio.wait_for(provider.gone.wait(), 10)


async def test_a_stream_that_breaks_off_is_not_taken_for_an_answer(expert: Make):
    with pytest.raises(ExpertBroke):
        await ask(expert(), chat("break", stream=True))


@pytest.mark.parametrize("how", ["hang", "stall"])
async def test_cancelling_reaches_the_provider(provider: Provider, expert: Make, how: str):
    one, arrived = expert(), asyncio.Event()

    async def emit(_: Delta) -> None:
        arrived.set()

    call = asyncio.create_task(one.answer(chat(how, stream=how == "stall"), emit))
    if how == "stall":
        await asyncio.wait_for(arrived.wait(), 30)
    else:
        async with asyncio.timeout(30):
            while not provider.bodies:
                await asyncio.sleep(0.01)
    assert one.load().in_flight == 1
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.wait_for(provider.gone.wait(), 10)
    assert one.load().in_flight == 0


async def test_a_client_that_fails_is_not_the_experts_failure(provider: Provider, expert: Make):
    async def emit(_: Delta) -> None:
        raise ConnectionResetError("the client has gone")

    with pytest.raises(ConnectionResetError):
        await expert().answer(chat("stall", stream=True), emit)
    await asyncio.wait_for(provider.gone.wait(), 10)


def test_options_hide_the_key_and_refuse_unknown_ones():
    options = kind.Options.model_validate({"model": "openai/x", "api_key": SECRET})
    assert SECRET not in repr(options)
    with pytest.raises(ValueError, match="api_kex"):
        kind.Options.model_validate({"model": "openai/x", "api_kex": SECRET})


FIRST_CALL = """
import asyncio, gc, sys
from time import perf_counter
from experts.kinds import litellm as kind
from experts.protocols import Parts, Timeouts, silent
from experts.wire import parse

async def main():
    beats = [perf_counter()]
    async def beat():
        while True:
            await asyncio.sleep(0.005)
            beats.append(perf_counter())
    options = kind.Options(model="openai/x", api_key="k", api_base=sys.argv[1])
    one = kind.build("far", options, Parts(None, None, Timeouts()))
    assert "litellm" not in sys.modules
    gc.freeze()  # as a gateway that is ready
    beating = asyncio.create_task(beat())
    query = parse("chat", b'{"model": "far", "messages": [{"role": "user", "content": "hi"}]}', "q1")
    await one.answer(query, silent)
    beating.cancel()
    await one.close()
    took = perf_counter() - beats[0]
    print(took, max(later - sooner for sooner, later in zip(beats, beats[1:])))
asyncio.run(main())
"""


async def test_others_go_on_being_answered_while_the_first_call_imports_litellm(provider: Provider):
    """Seconds of importing are spent beside the event loop: at no time does it stand still for long."""
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-c", FIRST_CALL, provider.base, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await running.communicate()
    took, longest = (float(word) for word in said.split())
    assert longest < 0.1 * took


async def test_a_provider_that_litellm_does_not_know_is_an_error_of_the_expert(expert: Make):
    with pytest.raises(ExpertRefused, match="400") as refused:
        await ask(expert(model="nosuchprovider/x"), chat())
    assert SECRET.encode() not in (refused.value.body or b"")
