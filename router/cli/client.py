"""A small client of a running gateway, for the commands that talk to one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson

from experts.errors import ConfigError, ConsiliumError

CONNECT_S = 5.0


class Unreachable(ConsiliumError):
    """Nothing that speaks HTTP answers at the gateway's address."""

    status = 503


class GatewayRefused(ConsiliumError):
    """The gateway answered with an error; `body` is what it said."""

    def __init__(self, message: str, *, status: int, body: Any) -> None:
        super().__init__(message)
        self.status = status
        self.body = body


class Client:
    """Talks to the gateway at `url`, as the caller of `key`."""

    def __init__(self, url: str, key: str | None = None, timeout_s: float | None = 600.0) -> None:
        if urlsplit(url).scheme not in ("http", "https"):
            raise ConfigError(f"--url: expected http://… or https://…, got {url!r}")
        self._url = url.rstrip("/")
        self._headers = {"authorization": f"Bearer {key}"} if key else {}
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_S)

    @asynccontextmanager
    async def call(
        self, method: str, path: str, body: Any = None, *, yaml: str | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One request; the response with its headers, its body still to be read.

        `body` is sent as JSON, `yaml` as YAML. Raises Unreachable, and GatewayRefused for a status of 400 and up.
        """
        headers, data = dict(self._headers), None
        if yaml is not None:
            headers["content-type"], data = "application/yaml", yaml.encode()
        elif body is not None:
            headers["content-type"], data = "application/json", orjson.dumps(body)
        try:
            async with (
                aiohttp.ClientSession(timeout=self._timeout) as session,
                session.request(method, self._url + path, data=data, headers=headers) as response,
            ):
                if response.status >= 400:
                    raise refusal(response.status, await response.read())
                yield response
        except (aiohttp.ClientError, TimeoutError) as fault:
            raise Unreachable(
                f"no answer from a gateway at {self._url} ({fault or type(fault).__name__}); "
                "start one with `consilium up` or `consilium serve`, or say where it is with --url"
            ) from fault

    async def json(self, method: str, path: str, body: Any = None, *, yaml: str | None = None) -> Any:
        """One request; its answer, parsed (None where it is empty)."""
        async with self.call(method, path, body, yaml=yaml) as response:
            said = await response.read()
            return orjson.loads(said) if said else None


def refusal(status: int, said: bytes) -> GatewayRefused:
    """The error of an OpenAI-shaped error body, or of whatever else was said."""
    try:
        body: Any = orjson.loads(said)
    except orjson.JSONDecodeError:
        body = said.decode("utf-8", "replace")[:500]
    return GatewayRefused(f"the gateway answered {status}: {error_text(body)}", status=status, body=body)


def error_text(body: Any) -> str:
    """The message of an OpenAI-shaped error object, or the object itself."""
    match body:
        case {"error": {"message": str(message)}}:
            return message
        case _:
            return str(body)


async def events(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    """The JSON objects of a server-sent event stream, up to `[DONE]`.

    Raises GatewayRefused for an error event, and Unreachable where the stream ends without `[DONE]`.
    """
    async for line in response.content:
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            return
        event: dict[str, Any] = orjson.loads(data)
        if "error" in event:
            raise GatewayRefused(f"the answer broke off: {error_text(event)}", status=502, body=event)
        yield event
    raise Unreachable("the gateway ended the answer without saying that it was whole")
