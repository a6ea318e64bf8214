"""`provider: vllm` against real servers on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import orjson
import pytest
from aiohttp import web

from experts.endpoints import FAILURES_BEFORE_COOLDOWN, Endpoint, Endpoints
from experts.errors import ExpertBroke, ExpertDown, ExpertError, ExpertRefused, ExpertTimeout
from experts.kinds import vllm as kind
from experts.kinds.vllm import VllmExpert
from experts.language import Answer, Delta, Load, Query, Usage
from experts.protocols import Parts, Timeouts, silent
from experts.transport import Transport
from experts.wire import parse

MODEL = "org/model"
CHUNK = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
WHOLE = {
    "id": "c", "object": "chat.completion", "created": 1, "model": MODEL, "prompt_logprobs": None,
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}  # fmt: skip

Handler = Callable[["Server", web.Request], Awaitable[web.StreamResponse]]


async def whole(_: Server, __: web.Request) -> web.StreamResponse:
    return web.json_response(WHOLE)


async def begin(request: web.Request, *texts: str, kind: str = "text/event-stream") -> web.StreamResponse:
    """The first chunks of a stream."""
    reply = web.StreamResponse(headers={"content-type": kind})
    await reply.prepare(request)
    for text in texts:
        await event(reply, choices=[{"index": 0, "delta": {"content": text}, "finish_reason": None}])
    return reply


async def event(reply: web.StreamResponse, **fields: Any) -> None:
    await reply.write(b"data: " + orjson.dumps({**CHUNK, **fields}) + b"\n\n")


async def stream(_: Server, request: web.Request) -> web.StreamResponse:
    reply = await begin(request, "hel", "lo")
    await event(reply, choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
    await event(reply, choices=[], usage=WHOLE["usage"])
    await reply.write(b"data: [DONE]\n\n")
    return reply


async def hang(server: Server, _: web.Request) -> web.StreamResponse:
    await server.hold()
    return web.json_response(WHOLE)


async def stall(server: Server, request: web.Request) -> web.StreamResponse:
    reply = await begin(request, "hel")
    await server.hold()
    return reply


async def break_off(server: Server, request: web.Request) -> web.StreamResponse:
    reply = await begin(request, "hel")
    await server.go.wait()
    assert request.transport is not None
    request.transport.abort()
    return reply


async def end_early(server: Server, request: web.Request) -> web.StreamResponse:
    reply = await begin(request, "hel")
    await server.go.wait()
    return reply


async def error_event(server: Server, request: web.Request) -> web.StreamResponse:
    reply = await begin(request, "hel")
    await server.go.wait()
    await reply.write(b'data: {"error": {"message": "engine died", "code": 500}}\n\ndata: [DONE]\n\n')
    return reply


async def hang_up(_: Server, request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def trickle(server: Server, request: web.Request) -> web.StreamResponse:
    """A stream that is never silent for long and never ends."""
    reply = await begin(request)
    try:
        while True:
            await event(reply, choices=[{"index": 0, "delta": {"content": "."}, "finish_reason": None}])
            await asyncio.sleep(0.02)
    finally:
        server.gone.set()


def status(code: int, **headers: str) -> Handler:
    async def answer(_: Server, __: web.Request) -> web.StreamResponse:
        return web.json_response({"error": {"message": f"no: {code}"}}, status=code, headers=headers)

    return answer


class Server:
    """An OpenAI-compatible server that does what `handler` says. `gone` is set when a held call's client leaves."""

    def __init__(self, handler: Handler = whole) -> None:
        self.handler = handler
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[Any] = []
        self.arrived = asyncio.Event()
        self.gone = asyncio.Event()
        self.go = asyncio.Event()
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def start(self, port: int = 0) -> Server:
        app = web.Application()
        app.router.add_post("/v1/{path:.*}", self._answer)
        app.router.add_get("/health", self._health)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}/v1"
        return self

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def hold(self) -> None:
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.gone.set()
            raise

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append(orjson.loads(await request.read()))
        self.headers.append(request.headers)
        self.arrived.set()
        return await self.handler(self, request)

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response()


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., Awaitable[Server]]]:
    started: list[Server] = []

    async def start(handler: Handler = whole, port: int = 0) -> Server:
        started.append(await Server(handler).start(port))
        return started[-1]

    yield start
    for server in started:
        await server.stop()


@pytest.fixture
async def parts() -> AsyncIterator[Parts]:
    transport = Transport()
    yield Parts(transport, Endpoints(transport))
    await transport.close()


Serve = Callable[..., Awaitable[Server]]


def expert(parts: Parts, *servers: Server | str, timeouts: Timeouts | None = None, **options: Any) -> VllmExpert:
    urls = [server if isinstance(server, str) else server.url for server in servers]
    given = {"model": MODEL, "endpoints": urls, **options}
    own = Parts(parts.transport, parts.endpoints, timeouts or Timeouts())
    return kind.build("far", kind.Options.model_validate(given), own)


def query(**fields: Any) -> Query:
    return parse("chat", orjson.dumps({"model": "far", "messages": [{"role": "user", "content": "x"}], **fields}), "q9")


async def ask(one: VllmExpert, **fields: Any) -> tuple[Answer, bytes]:
    events: list[bytes] = []

    async def emit(delta: Delta) -> None:
        events.append(delta.events)

    return await one.answer(query(**fields), emit), b"".join(events)


def endpoints_of(parts: Parts) -> dict[str, Endpoint]:
    return {endpoint.url: endpoint for endpoint in parts.endpoints.__iter__()}


def closed_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/v1"


async def test_a_whole_answer(serve: Serve, parts: Parts):
    server = await serve()
    one = expert(parts, server, api_key="sk-1", headers={"x-team": "blue"})
    answer, events = await ask(one, temperature=0.5, brand_new=[1])
    assert orjson.loads(answer.body) == {**WHOLE, "model": "far"}
    assert (answer.text, answer.usage, answer.finish, events) == ("hello", Usage(3, 2), "stop", b"")
    assert server.bodies == [
        {"model": MODEL, "messages": [{"role": "user", "content": "x"}], "temperature": 0.5, "brand_new": [1]}
    ]
    sent = server.headers[0]
    assert (sent["authorization"], sent["x-team"], sent["x-request-id"]) == ("Bearer sk-1", "blue", "q9")
    assert one.load().in_flight == 0


async def test_a_stream(serve: Serve, parts: Parts):
    server = await serve(stream)
    answer, events = await ask(expert(parts, server), stream=True)
    assert events.count(b'"model":"far"') == events.count(b"\n\n") == answer.chunks == 3
    assert b"[DONE]" not in events
    assert (answer.usage, answer.finish) == (Usage(3, 2), "stop")
    assert 0 < answer.ttft_s <= answer.took_s
    assert server.bodies[0]["stream_options"] == {"include_usage": True}


async def test_a_server_that_compresses_is_asked_not_to(serve: Serve, parts: Parts):
    async def compressed(_: Server, request: web.Request) -> web.StreamResponse:
        reply = web.json_response({**WHOLE, "padding": "x" * 5000})
        if "gzip" in request.headers.get("accept-encoding", ""):
            reply.enable_compression()
        return reply

    answer, _ = await ask(expert(parts, await serve(compressed)))
    assert answer.text == "hello"


async def test_the_replica_with_the_fewest_calls_is_asked(serve: Serve, parts: Parts):
    servers = [await serve(hang) for _ in range(3)]
    one = expert(parts, *servers)
    calls = [asyncio.create_task(one.answer(query(), silent)) for _ in range(9)]
    async with asyncio.timeout(10):
        while sum(len(server.bodies) for server in servers) < 9:
            await asyncio.sleep(0.01)
    assert [len(server.bodies) for server in servers] == [3, 3, 3]
    assert one.load().in_flight == 9
    servers[1].go.set()
    await asyncio.wait_for(asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED), 10)
    await asyncio.wait_for(one.answer(query(), silent), 10)
    assert [len(server.bodies) for server in servers] == [3, 4, 3]
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    assert [endpoint.in_flight for endpoint in endpoints_of(parts).values()] == [0, 0, 0]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("failing", [status(500), status(503), status(429), hang_up, status(302, location="http://x")])
async def test_another_replica_answers_before_the_first_delta(
    serve: Serve, parts: Parts, failing: Handler, streaming: bool
):
    bad, good = await serve(failing), await serve(stream if streaming else whole)
    answer, _ = await ask(expert(parts, bad, good), stream=streaming)
    assert answer.finish == "stop"
    assert (len(bad.bodies), len(good.bodies)) == (1, 1)


async def test_an_error_event_before_the_first_delta_is_another_replicas_chance(serve: Serve, parts: Parts):
    async def broken(_: Server, request: web.Request) -> web.StreamResponse:
        reply = await begin(request)
        await reply.write(b'data: {"error": {"message": "no memory"}}\n\n')
        return reply

    bad, good = await serve(broken), await serve(stream)
    answer, events = await ask(expert(parts, bad, good), stream=True)
    assert answer.finish == "stop"
    assert b"no memory" not in events


async def test_a_dead_replica_is_down_at_once_and_back_after_a_probe(serve: Serve, parts: Parts):
    dead, good = closed_port(), await serve()
    one = expert(parts, dead, good)
    answer, _ = await ask(one)
    assert answer.text == "hello"
    assert (one.load().endpoints, one.load().up) == (2, 1)
    await parts.endpoints.probe()
    assert one.load().up == 1
    await serve(port=int(dead.split(":")[2].removesuffix("/v1")))
    await parts.endpoints.probe()
    assert one.load().up == 2


async def test_an_expert_without_a_living_replica_is_down_and_says_where(parts: Parts):
    first, second = closed_port(), closed_port()
    one = expert(parts, first, second)
    with pytest.raises(ExpertDown):
        await ask(one)
    assert not one.load().available
    with pytest.raises(ExpertDown, match="none of its 2 endpoint") as down:
        await ask(one)
    assert first in down.value.message
    assert second in down.value.message
    assert down.value.status == 503


@contextlib.contextmanager
def deaf_port() -> Iterator[str]:
    """A port whose queue is full: a connection to it is neither taken nor refused."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"


async def test_a_connection_that_is_not_taken_counts_as_unreachable(serve: Serve, parts: Parts):
    good = await serve()
    with deaf_port() as deaf:
        one = expert(parts, deaf, good, timeouts=Timeouts(connect_s=0.3))
        answer, _ = await ask(one)
        assert answer.text == "hello"
        assert not endpoints_of(parts)[deaf].reachable


async def test_a_refusal_is_the_callers_to_read(serve: Serve, parts: Parts):
    server = await serve(status(400))
    with pytest.raises(ExpertRefused) as refused:
        await ask(expert(parts, server, await serve()))
    assert (refused.value.status, orjson.loads(refused.value.body)["error"]["message"]) == (400, "no: 400")
    assert not refused.value.retryable
    server.handler = status(429, **{"retry-after": "12"})
    with pytest.raises(ExpertRefused) as refused:
        await ask(expert(parts, server))
    assert refused.value.retry_after == "12"


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"choices": 3}', b""])
async def test_an_answer_that_is_not_openais(serve: Serve, parts: Parts, body: bytes):
    async def other(_: Server, __: web.Request) -> web.StreamResponse:
        return web.Response(body=body)

    with pytest.raises(ExpertBroke, match="not OpenAI JSON"):
        await ask(expert(parts, await serve(other)))


async def test_a_page_instead_of_a_stream_is_not_relayed(serve: Serve, parts: Parts):
    async def page(_: Server, request: web.Request) -> web.StreamResponse:
        return await begin(request, "hello", kind="text/html")

    with pytest.raises(ExpertBroke, match="text/html"):
        await ask(expert(parts, await serve(page)), stream=True)


@pytest.mark.parametrize("how", [break_off, end_early, error_event])
async def test_a_stream_that_breaks_after_its_first_delta_is_an_error_and_never_begun_again(
    serve: Serve, parts: Parts, how: Handler
):
    bad, good = await serve(how), await serve(stream)
    taken: list[bytes] = []

    async def emit(delta: Delta) -> None:
        taken.append(delta.events)
        bad.go.set()

    with pytest.raises(ExpertBroke) as broke:
        await expert(parts, bad, good).answer(query(stream=True), emit)
    assert (broke.value.endpoint, broke.value.status) == (bad.url, 502)
    assert ("engine died" in broke.value.message) == (how is error_event)
    assert b"hel" in b"".join(taken)
    assert good.bodies == []
    assert endpoints_of(parts)[bad.url].failures == 1


@pytest.mark.parametrize(("how", "limits"), [(hang, {"first_byte_s": 0.3}), (stall, {"between_bytes_s": 0.3})])
async def test_a_server_that_falls_silent_times_out_and_is_let_go(
    serve: Serve, parts: Parts, how: Handler, limits: dict[str, float]
):
    server = await serve(how)
    with pytest.raises(ExpertTimeout, match="timeouts") as late:
        await ask(expert(parts, server, timeouts=Timeouts(**limits)), stream=how is stall)
    assert (late.value.status, late.value.endpoint) == (504, server.url)
    await asyncio.wait_for(server.gone.wait(), 10)
    assert endpoints_of(parts)[server.url].failures == 1


@pytest.mark.parametrize(("how", "streamed"), [(hang, False), (hang, True), (stall, True), (trickle, True)])
async def test_a_call_that_takes_too_long_in_all_is_given_up(serve: Serve, parts: Parts, how: Handler, streamed: bool):
    server, other = await serve(how), await serve()
    one = expert(parts, server, other, timeouts=Timeouts(total_s=0.3))
    endpoints_of(parts)[other.url].in_flight = 1  # so that it is asked second
    with pytest.raises(ExpertTimeout, match=r"took too long in all .*timeouts") as late:
        await ask(one, stream=streamed)
    assert late.value.endpoint == server.url
    await asyncio.wait_for(server.gone.wait(), 10)
    assert other.bodies == []
    assert endpoints_of(parts)[other.url].failures == 0


async def test_all_replicas_together_have_the_time_of_one_call(serve: Serve, parts: Parts):
    servers = [await serve(hang) for _ in range(3)]
    with pytest.raises(ExpertTimeout, match="in all"):
        await ask(expert(parts, *servers, timeouts=Timeouts(first_byte_s=0.2, total_s=0.3)))
    assert sum(len(server.bodies) for server in servers) == 2


async def test_a_slow_first_byte_does_not_count_against_a_stream_that_flows(serve: Serve, parts: Parts):
    async def slowly(_: Server, request: web.Request) -> web.StreamResponse:
        reply = await begin(request)
        for text in "hello":
            await asyncio.sleep(0.12)
            await event(reply, choices=[{"index": 0, "delta": {"content": text}, "finish_reason": None}])
        await event(reply, choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
        return reply

    answer, _ = await ask(expert(parts, await serve(slowly), timeouts=Timeouts(first_byte_s=0.4)), stream=True)
    assert answer.finish == "stop"


async def test_a_client_that_stops_reading_is_not_the_experts_failure(serve: Serve, parts: Parts):
    server = await serve(stall)

    async def never(_: Delta) -> None:
        await asyncio.Event().wait()

    async def gone(_: Delta) -> None:
        raise ConnectionResetError("the client has gone")

    one = expert(parts, server, timeouts=Timeouts(between_bytes_s=0.3))
    with pytest.raises(ExpertTimeout, match="client"):
        await one.answer(query(stream=True), never)
    with pytest.raises(ConnectionResetError, match="the client has gone"):
        await one.answer(query(stream=True), gone)
    assert endpoints_of(parts)[server.url].failures == 0
    assert one.load() == Load(in_flight=0, endpoints=1, up=1)


@pytest.mark.parametrize("how", [hang, stall])
async def test_cancelling_closes_the_connection_and_the_server_sees_it(serve: Serve, parts: Parts, how: Handler):
    server = await serve(how)
    one = expert(parts, server)
    call = asyncio.create_task(one.answer(query(stream=how is stall), silent))
    await asyncio.wait_for(server.arrived.wait(), 10)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.wait_for(server.gone.wait(), 10)
    assert one.load().in_flight == endpoints_of(parts)[server.url].in_flight == 0
    assert endpoints_of(parts)[server.url].failures == 0


@pytest.mark.parametrize("how", [whole, status(500), hang, hang_up])
async def test_a_password_in_an_address_is_used_and_never_shown(serve: Serve, parts: Parts, how: Handler):
    server = await serve(how)
    address = server.url.replace("//", "//me:swordfish@")
    one = expert(parts, address, timeouts=Timeouts(total_s=0.3))
    said: list[str] = []
    for _ in range(FAILURES_BEFORE_COOLDOWN + 1):  # the last one is told that all are down, and why
        try:
            await ask(one)
        except ExpertError as fault:
            said += [fault.message, fault.endpoint]
    assert server.headers[0]["authorization"] == "Basic bWU6c3dvcmRmaXNo"
    assert bool(said) == (how is not whole)
    assert "swordfish" not in " ".join(said)
    assert [endpoint.url for endpoint in endpoints_of(parts).values()] == [server.url]
    await one.close()
    assert endpoints_of(parts) == {}


async def test_failures_in_a_row_cool_an_endpoint_down_and_one_success_forgives_them(serve: Serve, parts: Parts):
    server = await serve(status(500))
    one = expert(parts, server)
    for _ in range(FAILURES_BEFORE_COOLDOWN):
        with pytest.raises(ExpertBroke):
            await ask(one)
    assert not one.load().available
    with pytest.raises(ExpertDown, match="answered 500"):
        await ask(one)
    assert len(server.bodies) == FAILURES_BEFORE_COOLDOWN
    server.handler = whole
    async with asyncio.timeout(10):
        while not one.load().available:
            await asyncio.sleep(0.05)
    await ask(one)
    assert endpoints_of(parts)[server.url].failures == 0


async def test_completions_and_embeddings_have_their_own_paths(serve: Serve, parts: Parts):
    paths: list[str] = []

    async def note(_: Server, request: web.Request) -> web.StreamResponse:
        paths.append(request.path)
        return web.json_response(WHOLE)

    one = expert(parts, await serve(note))
    await one.answer(parse("completion", b'{"model":"far","prompt":"x"}', "q"), silent)
    await one.answer(parse("embedding", b'{"model":"far","input":"x"}', "q"), silent)
    assert paths == ["/v1/completions", "/v1/embeddings"]


async def test_closing_an_expert_leaves_the_endpoints_of_others(serve: Serve, parts: Parts):
    server = await serve()
    first, second = expert(parts, server), expert(parts, server)
    await first.close()
    await first.close()
    assert list(endpoints_of(parts)) == [server.url]
    await second.close()
    assert endpoints_of(parts) == {}


def test_options():
    options = kind.Options.model_validate({"model": "m", "endpoints": ["http://h:1/v1/"], "api_key": "sk-hidden"})
    assert options.endpoints == ["http://h:1/v1"]
    assert "sk-hidden" not in repr(options)
    for wrong in ({"endpoints": []}, {"endpoints": ["h:1"]}, {"endpoints": ["file:///x"]}, {"model": ""}, {"extra": 1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            kind.Options.model_validate({"model": "m", "endpoints": ["http://h/v1"], **wrong})
