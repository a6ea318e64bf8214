"""The gateway as an ASGI application: who is calling, which endpoint, and nothing else.

Raw ASGI with a dictionary of paths: the two completion endpoints are the hot path, and a framework's layers would
cost several times what they do (measured: 28 us a request for raw ASGI, 364 for FastAPI with pydantic bodies).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from traceback import format_exc
from types import MappingProxyType
from typing import NamedTuple

from experts.errors import BadRequest, ConsiliumError, Denied, Forbidden, NotReady
from router.http import admin, api, feedback, retrieval
from router.http.completions import complete
from router.http.exchange import Gone, Receive, Scope, Send, error_reply, reply
from router.keys import Key, Keys, matches
from router.ledger import Ledger
from router.pipeline import ANYBODY, Router

NO_WISHES: Mapping[str, str] = MappingProxyType({})


class Caller(NamedTuple):
    """Who sent a request, and the headers that matter. `admin`: it showed the admin key.

    `wishes` are its `x-consilium-…` headers, by the rest of their names.
    """

    key: Key
    admin: bool
    request_id: str
    content_length: bytes | None
    wishes: Mapping[str, str] = NO_WISHES


Handler = Callable[["Gateway", Caller, Scope, Receive, Send], Awaitable[None]]


@dataclass(slots=True)
class Gateway:
    """What the endpoints share. `admin_key` may be the key or its `sha256:…` hash; None closes the admin endpoints."""

    router: Router
    ledger: Ledger
    keys: Keys
    registry_path: Path
    admin_key: str | None = None
    rpm: int | None = None
    concurrency: int | None = None
    max_body_bytes: int = 20 * 2**20
    allowed_hosts: frozenset[str] | None = None
    draining: bool = False

    async def admit(self, key: Key) -> None:
        """Raises Limited when the caller's own limits, or the gateway's for those without, are spent."""
        await self.ledger.admit(
            key.name, rpm=self.rpm if key.rpm is None else key.rpm,
            concurrency=self.concurrency if key.concurrency is None else key.concurrency,
        )  # fmt: skip

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        try:
            handler = find(scope["method"], scope["path"])
            caller = self._caller(scope, anonymous=handler in OPEN)
            await handler(self, caller, scope, receive, send)
        except ConsiliumError as fault:
            status, body, headers = error_reply(fault)
            if not isinstance(fault, NotReady):  # asked for every second, and no refusal
                self.router.telemetry.refused(scope["method"], scope["path"], status, fault.code or fault.type)
            await reply(send, status, body, headers)
        except (Gone, asyncio.CancelledError):
            raise
        except Exception as fault:  # noqa: BLE001 - the outermost edge: whatever else breaks is one caller's 500
            self.router.telemetry.log.error("internal_error", path=scope["path"], trace=format_exc())
            wrong = ConsiliumError(f"the gateway failed on this request ({type(fault).__name__}); its log says why")
            status, body, headers = error_reply(wrong)
            await reply(send, status, body, headers)

    def _caller(self, scope: Scope, *, anonymous: bool) -> Caller:
        authorization = request_id = host = kind = b""
        length: bytes | None = None
        wishes: dict[str, str] | None = None
        for name, value in scope["headers"]:
            if name == b"authorization":
                authorization = value
            elif name == b"x-request-id":
                request_id = value
            elif name == b"content-length":
                length = value
            elif name == b"host":
                host = value
            elif name == b"content-type":
                kind = value
            elif name.startswith(b"x-consilium-"):
                wishes = wishes or {}
                wishes[name[12:].decode("latin-1")] = value.decode("latin-1")
            elif name == b"x-api-key" and not authorization:
                authorization = b"Bearer " + value
        if self.allowed_hosts is not None and not anonymous:
            self._check_browser(host.decode("latin-1"), kind, scope["method"])
        request = request_id.decode("latin-1")[:128]
        if anonymous:
            return Caller(ANYBODY, False, request, length)
        token = authorization[7:].decode("latin-1").strip() if authorization[:7].lower() == b"bearer " else ""
        admin_key = self.admin_key
        if admin_key is not None and token and matches(admin_key, token):
            return Caller(Key("admin"), True, request, length, wishes or NO_WISHES)
        if not self.keys:
            return Caller(ANYBODY, False, request, length, wishes or NO_WISHES)
        key = self.keys.find(token) if token else None
        if key is None:
            what = "this API key is not known" if token else "no API key: send it as `Authorization: Bearer KEY`"
            raise Denied(what)
        return Caller(key, False, request, length, wishes or NO_WISHES)

    def _check_browser(self, host: str, kind: bytes, method: str) -> None:
        """Without keys, a web page must not reach this gateway through its reader's browser.

        A page of another site can name this address under its own host name (DNS rebinding) or post a form here;
        it can do neither with a loopback `Host` and a JSON content type.
        """
        assert self.allowed_hosts is not None
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        if host and name not in self.allowed_hosts:
            raise Forbidden(f"host {name!r}: this gateway has no API keys and answers only to a loopback host name")
        if method == "POST" and kind and b"json" not in kind and b"yaml" not in kind:
            got = kind.decode("latin-1")
            raise BadRequest(f"content-type: expected application/json, got {got}; send that header")


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        event = await receive()
        await send({"type": event["type"] + ".complete"})
        if event["type"] == "lifespan.shutdown":
            return


def find(method: str, path: str) -> Handler:
    """The handler of an endpoint. Raises BadRequest with status 404 or 405."""
    handler = ENDPOINTS.get((method, path))
    if handler is not None:
        return handler
    head, _, name = path.rpartition("/")
    if name and (handler := NAMED.get((method, head))):
        return handler
    allowed = [m for m, p in ENDPOINTS if p == path] + [m for m, p in NAMED if p == head and name]
    if allowed:
        fault = BadRequest(f"{method} {path}: this endpoint takes {', '.join(sorted(set(allowed)))}")
        fault.status, fault.code = 405, "method_not_allowed"
    else:
        fault = BadRequest(f"{method} {path}: no such endpoint")
        fault.status, fault.code = 404, "not_found"
    raise fault


async def chat(gateway: Gateway, caller: Caller, scope: Scope, receive: Receive, send: Send) -> None:
    await complete(gateway, "chat", caller, receive, send)


async def completion(gateway: Gateway, caller: Caller, scope: Scope, receive: Receive, send: Send) -> None:
    await complete(gateway, "completion", caller, receive, send)


async def healthz(gateway: Gateway, caller: Caller, scope: Scope, receive: Receive, send: Send) -> None:
    await reply(send, 200, b'{"status":"ok"}', [(b"content-type", b"application/json")])


async def readyz(gateway: Gateway, caller: Caller, scope: Scope, receive: Receive, send: Send) -> None:
    """Ready while at least one expert that answers can be called, and no stop has been asked for."""
    if gateway.draining:
        raise NotReady("the gateway is stopping")
    snapshot = gateway.router.snapshot
    experts = {name: one for name, one in snapshot.experts.items() if not snapshot.registry.experts[name].rates}
    up = sorted(name for name, expert in experts.items() if expert.load().available)
    if not up:
        raise NotReady(f"none of the {len(experts)} experts can be called")
    await api.send_json(send, {"status": "ready", "experts_up": len(up), "experts": len(experts)})


ENDPOINTS: Mapping[tuple[str, str], Handler] = MappingProxyType({
    ("POST", "/v1/chat/completions"): chat,
    ("POST", "/v1/completions"): completion,
    ("POST", "/v1/embeddings"): api.embeddings,
    ("POST", "/v1/route"): api.route,
    ("POST", "/v1/retrieve"): retrieval.retrieve,
    ("POST", "/v1/rerank"): retrieval.rerank,
    ("GET", "/v1/retrievers"): retrieval.retrievers,
    ("POST", "/v1/feedback"): feedback.feedback,
    ("GET", "/v1/models"): api.models,
    ("GET", "/v1/experts"): api.experts,
    ("POST", "/v1/experts"): admin.add_expert,
    ("GET", "/metrics"): api.metrics,
    ("GET", "/healthz"): healthz,
    ("HEAD", "/healthz"): healthz,
    ("GET", "/readyz"): readyz,
    ("HEAD", "/readyz"): readyz,
    ("GET", "/"): api.about,
})  # fmt: skip
NAMED: Mapping[tuple[str, str], Handler] = MappingProxyType({
    ("GET", "/v1/models"): api.model,
    ("GET", "/v1/experts"): api.expert,
    ("DELETE", "/v1/experts"): admin.remove_expert,
})  # fmt: skip
OPEN: frozenset[Handler] = frozenset({healthz, readyz})
