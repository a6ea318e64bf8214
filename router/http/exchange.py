"""The few things every endpoint does with raw ASGI: read a bounded body, answer with JSON, tell an error."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from math import ceil
from typing import Any

import orjson

from experts.errors import BadRequest, ConsiliumError, ExpertRefused, Limited, TooLarge

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

JSON = (b"content-type", b"application/json")
EVENT_STREAM: Headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache"),
                         (b"x-accel-buffering", b"no")]  # fmt: skip
_THEIR_PROBLEM_IS_OURS = frozenset({401, 403, 404})


class Gone(Exception):
    """The client closed its connection before it had its answer."""


async def read_body(receive: Receive, declared: bytes | None, most: int) -> bytes:
    """The request body, at most `most` bytes long. Raises TooLarge without reading the rest; Gone."""
    if declared is not None and declared.isdigit() and int(declared) > most:
        raise TooLarge(f"the request body has {int(declared)} bytes; this gateway takes at most {most}")
    event = await receive()
    if event["type"] == "http.disconnect":
        raise Gone
    body: bytes = event.get("body", b"")
    if not event.get("more_body", False):
        if len(body) > most:
            raise TooLarge(f"the request body has {len(body)} bytes; this gateway takes at most {most}")
        return body
    pieces, size = [body], len(body)
    while event.get("more_body", False):
        event = await receive()
        if event["type"] == "http.disconnect":
            raise Gone
        pieces.append(event.get("body", b""))
        size += len(pieces[-1])
        if size > most:
            raise TooLarge(f"the request body has more than {most} bytes, the most this gateway takes")
    return b"".join(pieces)


async def json_object(receive: Receive, declared: bytes | None, most: int) -> dict[str, Any]:
    """The body as a JSON object. Raises BadRequest."""
    body = await read_body(receive, declared, most)
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as fault:
        raise BadRequest(f"the request body is not valid JSON: {fault}", code="invalid_json") from None
    if not isinstance(value, dict):
        raise BadRequest(f"the request body: expected a JSON object, got {type(value).__name__}", code="invalid_type")
    return value  # pyright: ignore[reportUnknownVariableType]


async def reply(send: Send, status: int, body: bytes, headers: Headers) -> None:
    await send({"type": "http.response.start", "status": status,
                "headers": [*headers, (b"content-length", b"%d" % len(body))]})  # fmt: skip
    await send({"type": "http.response.body", "body": body})


async def reply_json(send: Send, value: Any, status: int = 200, headers: Headers | None = None) -> None:
    await reply(send, status, orjson.dumps(value), [JSON, *(headers or [])])


def error_object(fault: ConsiliumError) -> dict[str, Any]:
    """OpenAI's error shape."""
    return {"error": {"message": fault.message, "type": fault.type, "param": fault.param, "code": fault.code}}


def error_reply(fault: ConsiliumError) -> tuple[int, bytes, Headers]:
    """Status, body and headers. An expert's own 4xx body is passed on; one about the gateway's credentials is not."""
    headers: Headers = [JSON]
    if isinstance(fault, Limited):
        headers.append((b"retry-after", b"%d" % max(1, ceil(fault.retry_after_s))))
    elif isinstance(fault, ExpertRefused):
        if fault.status in _THEIR_PROBLEM_IS_OURS:
            return 502, orjson.dumps(error_object(fault) | {"upstream_status": fault.status}), headers
        if fault.retry_after:
            headers.append((b"retry-after", fault.retry_after.encode("latin-1", "replace")))
        if fault.body.lstrip().startswith(b'{"error"'):
            return fault.status, fault.body, headers
    elif fault.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return fault.status, orjson.dumps(error_object(fault)), headers
