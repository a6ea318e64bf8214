"""`/v1/chat/completions` and `/v1/completions`: the hot path."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from dataclasses import replace
from os import urandom
from time import perf_counter, time
from typing import TYPE_CHECKING, Any

import orjson

from experts.errors import ConsiliumError
from experts.language import Answer, Asked, Delta, Query
from experts.wire import DONE, extension_event, parse, progress_event, usage_event, with_extension
from router.explain import explanation, sources
from router.http.exchange import (
    EVENT_STREAM,
    JSON,
    Event,
    Gone,
    Headers,
    Receive,
    Send,
    error_object,
    error_reply,
    read_body,
    reply,
)
from router.keys import Key
from router.run import Run
from router.spans import SPEAKING
from router.wishes import from_headers

if TYPE_CHECKING:
    from router.http.app import Caller, Gateway

WATCH_AFTER_S = 0.02
PATIENCE_S = 1.0
"""How long a stream may stay silent before its client gets a sign of life."""
CLIENT_CLOSED = 499


async def complete(gateway: Gateway, api: Asked, caller: Caller, receive: Receive, send: Send) -> None:
    """Answer one completion request, streamed or whole; whatever happens, the run is recorded once."""
    run = Run("dec-" + urandom(12).hex(), caller.request_id, caller.key.name)
    telemetry = gateway.router.telemetry
    telemetry.in_flight.inc()
    exchange = Exchange(run, send)
    admitted = False
    try:
        query = parse(api, await read_body(receive, caller.content_length, gateway.max_body_bytes), run.id)
        if caller.wishes:
            query = replace(query, extension=from_headers(query.extension, caller.wishes))
        run.model, run.stream = query.model, query.stream
        await gateway.admit(caller.key)
        admitted = True
        await watched(exchange.answer(gateway, query, caller.key), receive)
        run.status = 200
    except ConsiliumError as fault:
        run.status, run.error = fault.status, fault.code or fault.type
        await exchange.fail(fault)
    except Gone:
        run.status, run.error = CLIENT_CLOSED, "client_closed"
    except asyncio.CancelledError:
        run.status, run.error = 503, "cancelled"
        raise
    finally:
        if admitted:
            await gateway.ledger.release(caller.key.name)
        telemetry.in_flight.dec()
        gateway.router.record(run)


async def watched(work: Awaitable[None], receive: Receive) -> None:
    """Await `work`, cancelling it when the client goes away. Raises Gone then.

    The watcher starts late, so that an answer that comes at once does not pay for it.
    """
    task = asyncio.current_task()
    assert task is not None
    watcher: asyncio.Task[None] | None = None
    gone = False

    async def watch() -> None:
        nonlocal gone
        event: Event = {}
        while event.get("type") != "http.disconnect":
            event = await receive()
        gone = True
        task.cancel()

    def start() -> None:
        nonlocal watcher
        watcher = asyncio.create_task(watch())

    timer = asyncio.get_running_loop().call_later(WATCH_AFTER_S, start)
    try:
        await work
    except asyncio.CancelledError:
        if gone and task.uncancel() == 0:
            raise Gone from None
        raise
    finally:
        timer.cancel()
        if watcher is not None and not gone:
            watcher.cancel()
            with suppress(asyncio.CancelledError):
                await watcher


class Exchange:
    """The HTTP side of one run: starts the response with the first delta, and ends it."""

    __slots__ = ("_run", "_send", "_started", "_wants_progress", "_wants_voices")

    def __init__(self, run: Run, send: Send) -> None:
        self._run = run
        self._send = send
        self._started = False
        self._wants_progress = False
        self._wants_voices = False

    async def answer(self, gateway: Gateway, query: Query, key: Key) -> None:
        run = self._run
        if not query.stream:
            answer = await gateway.router.answer(query, self.emit, run, key)
            body = answer.body
            if query.extension:
                body = with_extension(body, explanation(run))
            elif run.passages:
                body = with_extension(body, {"decision_id": run.id, "citations": sources(run)})
            self._started = True
            await reply(self._send, 200, body, [JSON, *self._headers()])
            return
        self._wants_progress = bool(query.extension.get("progress"))
        self._wants_voices = bool(query.extension.get("voices"))
        answer = await gateway.router.answer(query, self.emit, run, key, self.aside)
        await self._end(query, answer)

    async def emit(self, delta: Delta) -> None:
        if not self._run.committed:
            self._run.committed = True
            if not self._started:
                await self._start()
        await self._send({"type": "http.response.body", "body": delta.events, "more_body": True})

    async def aside(self, progress: Mapping[str, Any], sure: bool) -> None:
        """How a composition goes: a comment that every client skips, and an event where it asked for them.

        Before an answer is `sure`, an error should still be an HTTP status: so the response starts with it only for a
        client that asked, or that has waited long.
        """
        run = self._run
        wanted = self._wants_voices if progress["event"] == SPEAKING else self._wants_progress
        if progress["event"] == SPEAKING and not wanted:
            return
        if not (sure or self._started or wanted or perf_counter() - run.started > PATIENCE_S):
            return
        if not self._started:
            await self._start()
        piece = b": " + str(progress["event"]).encode() + b"\n\n"
        if wanted:
            piece += progress_event(run.id, int(time()), progress)
        await self._send({"type": "http.response.body", "body": piece, "more_body": True})

    async def fail(self, fault: ConsiliumError) -> None:
        """An error before the first delta is an HTTP status; after it, an event, and no `[DONE]`."""
        if not self._started:
            status, body, headers = error_reply(fault)
            self._run.status = status
            await reply(self._send, status, body, [*headers, *self._headers()])
            return
        event = b"data: " + orjson.dumps(error_object(fault)) + b"\n\n"
        await self._send({"type": "http.response.body", "body": event})

    async def _start(self) -> None:
        self._started = True
        await self._send({"type": "http.response.start", "status": 200, "headers": EVENT_STREAM + self._headers()})

    async def _end(self, query: Query, answer: Answer) -> None:
        if not self._started:
            await self._start()
        tail = b""
        created = int(time())
        if self._run.composed and query.include_usage:
            tail = usage_event(query.api, self._run.id, answer.expert, created, self._run.usage)
        if query.extension:
            found: dict[str, Any] = explanation(self._run)
            tail += extension_event(query.api, self._run.id, answer.expert, created, found)
        await self._send({"type": "http.response.body", "body": tail + DONE})

    def _headers(self) -> Headers:
        run, plan = self._run, self._run.plan
        headers = [
            (b"x-request-id", (run.request_id or run.id).encode("latin-1", "replace")),
            (b"x-consilium-decision-id", run.id.encode()),
        ]
        if plan is not None:
            headers.append((b"x-consilium-expert", (run.speaking or plan.expert).encode()))
            if plan.composer != "single":
                headers.append((b"x-consilium-composer", plan.composer.encode()))
            if plan.route:
                headers.append((b"x-consilium-route", plan.route.encode()))
        return headers
