"""A real gateway on a real socket, inside the test's own event loop, and real servers for it to talk to."""

from __future__ import annotations

import asyncio
import io
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
import uvicorn
from aiohttp import web

from router.http.app import Gateway
from router.keys import Keys
from router.local import load_registry, open_router
from router.outcomes import Outcomes
from router.records import Recording
from router.telemetry import Log, Telemetry


@dataclass
class Served:
    """One running gateway. `log` holds its lines as parsed JSON once flushed."""

    url: str
    gateway: Gateway
    path: Path
    log_text: io.StringIO
    client: aiohttp.ClientSession

    def lines(self, event: str = "request") -> list[dict[str, Any]]:
        self.gateway.router.telemetry.log.flush()
        found = [orjson.loads(line) for line in self.log_text.getvalue().splitlines()]
        return [line for line in found if line["event"] == event]

    async def chat(self, text: str = "hello", *, model: str = "auto", **more: Any) -> aiohttp.ClientResponse:
        body = {"model": model, "messages": [{"role": "user", "content": text}], **more}
        reply = await self.client.post(f"{self.url}/v1/chat/completions", json=body)
        if not more.get("stream"):
            await reply.read()
        return reply

    async def get(self, url: str, **more: Any) -> aiohttp.ClientResponse:
        return await self._read(self.client.get(url, **more))

    async def post(self, url: str, **more: Any) -> aiohttp.ClientResponse:
        return await self._read(self.client.post(url, **more))

    async def _read(self, asking: Awaitable[aiohttp.ClientResponse]) -> aiohttp.ClientResponse:
        reply = await asking
        await reply.read()
        return reply


Start = Callable[..., Awaitable[Served]]


def listening() -> socket.socket:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(512)
    return listener


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """`await start(registry_text, keys=…, outcomes=…, recording=…, **Gateway fields)`; stopped after the test."""
    numbers = count()
    async with AsyncExitStack() as stack:

        async def begin(
            text: str, *, keys: Keys | None = None, outcomes: Outcomes | None = None,
            headers: dict[str, str] | None = None, redis_url: str | None = None, recording: Recording | None = None,
            artifact: Path | None = None, **fields: Any,
        ) -> Served:  # fmt: skip
            path = tmp_path / f"registry-{next(numbers)}.yaml"
            path.write_text(text)
            log = io.StringIO()
            router = await stack.enter_async_context(
                open_router(load_registry(path), outcomes=outcomes, redis_url=redis_url, telemetry=Telemetry(Log(log)),
                            recording=recording, artifact=artifact)
            )  # fmt: skip
            gateway = Gateway(router, router.ledger, keys or Keys(), path, **fields)
            listener = listening()
            server = uvicorn.Server(
                uvicorn.Config(gateway, http="httptools", ws="none", lifespan="off", log_config=None, access_log=False,
                               timeout_graceful_shutdown=2)
            )  # fmt: skip
            serving = asyncio.create_task(server._serve([listener]))  # pyright: ignore[reportPrivateUsage]

            async def stop() -> None:
                server.should_exit = True
                await serving

            stack.push_async_callback(stop)
            client = await stack.enter_async_context(aiohttp.ClientSession(headers=headers))
            return Served(f"http://127.0.0.1:{listener.getsockname()[1]}", gateway, path, log, client)

        yield begin


@dataclass
class Upstream:
    """A small OpenAI-compatible server that records what reached it and can be told how to behave.

    `hold`: answers wait for this event. `gone` is set when a client goes away in the middle of an answer.
    """

    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    status: int = 200
    reply_headers: dict[str, str] = field(default_factory=dict)
    reply: bytes | None = None
    events: list[bytes] | None = None
    cut: bool = False
    healthy: bool = True
    hold: asyncio.Event | None = None
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        self.raw.append(raw)
        self.bodies.append(orjson.loads(raw))
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        asked = self.bodies[-1]
        try:
            if not asked.get("stream"):
                self.arrived.set()
                if self.hold is not None:
                    await self.hold.wait()
                body = self.reply if self.reply is not None else orjson.dumps(self._whole(asked))
                return web.Response(status=self.status, body=body, content_type="application/json",
                                    headers=self.reply_headers)  # fmt: skip
            response = web.StreamResponse(headers={"content-type": "text/event-stream"})
            await response.prepare(request)
            for event in self.events if self.events is not None else self._chunks(asked):
                await response.write(event)
                self.arrived.set()
                if self.hold is not None:
                    await self.hold.wait()
            if self.cut and request.transport is not None:
                request.transport.abort()
            return response
        except (asyncio.CancelledError, ConnectionResetError):
            self.gone.set()
            raise

    async def health(self, request: web.Request) -> web.Response:
        return web.Response(status=200 if self.healthy else 503)

    def _whole(self, asked: dict[str, Any]) -> dict[str, Any]:
        message = {"role": "assistant", "content": "Hello there.", "reasoning": "greeting"}
        return {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": asked["model"],
                "choices": [{"index": 0, "message": message, "finish_reason": "stop", "stop_reason": None}],
                "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}  # fmt: skip

    def _chunks(self, asked: dict[str, Any]) -> list[bytes]:
        head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": asked["model"]}
        chunks: list[dict[str, Any]] = [
            {**head, "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]},
            {**head, "choices": [{"index": 0, "delta": {"content": "Hello"}, "finish_reason": None, "token_ids": [7]}]},
            {**head, "choices": [{"index": 0, "delta": {"content": " there."}, "finish_reason": "stop"}]},
        ]
        if (asked.get("stream_options") or {}).get("include_usage"):
            usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
            chunks.append({**head, "choices": [], "usage": usage})
        return [b"data: " + orjson.dumps(chunk) + b"\n\n" for chunk in chunks] + [b"data: [DONE]\n\n"]


@pytest.fixture
async def upstreams() -> AsyncIterator[Callable[[], Awaitable[Upstream]]]:
    """`await upstreams()` starts one more server."""
    async with AsyncExitStack() as stack:

        async def begin() -> Upstream:
            upstream = Upstream()
            app = web.Application()
            for path in ("/v1/chat/completions", "/v1/completions", "/v1/embeddings"):
                app.router.add_post(path, upstream.handle)
            app.router.add_get("/health", upstream.health)
            runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.5)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            listener = listening()
            await web.SockSite(runner, listener).start()
            upstream.url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
            return upstream

        yield begin
