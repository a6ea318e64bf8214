"""The endpoints that are not hot: models, experts, explanations, embeddings, metrics."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from os import urandom
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import orjson
from prometheus_client import CONTENT_TYPE_LATEST

from experts.errors import BadRequest, ConsiliumError, UnknownModel
from experts.language import Query
from experts.protocols import silent
from experts.wire import parse
from registry.public import public
from router.assembly import PRESETS
from router.embedding import Embedding, Vector
from router.explain import before, learned, plan_json
from router.http.completions import CLIENT_CLOSED, watched
from router.http.exchange import JSON, Headers, Receive, Scope, Send, error_reply, json_object, read_body, reply
from router.http.exchange import reply_json as send_json
from router.http.routed import embedded
from router.keys import Key
from router.pipeline import resolve
from router.run import Run
from router.skills import Profile, profiles
from router.snapshot import Snapshot
from router.wishes import from_headers

if TYPE_CHECKING:
    from router.http.app import Caller, Gateway

VERSION = "0.1.0"
MOST_INPUTS = 2048


def listed(snapshot: Snapshot, key: Key) -> list[dict[str, Any]]:
    """Routes first, then experts, as far as this caller may use them, in OpenAI's shape.

    `created` is when the manifest was last written.
    """
    registry = snapshot.registry
    routes = [
        {"id": name, "object": "model", "created": registry.since("route", name), "owned_by": "consilium",
         "kind": "route",
         "experts": [card.name for card in route.cards if key.may_ask(card.name)],
         "presets": [f"{name}:{preset}" for preset in PRESETS]}
        for name, route in snapshot.routes.items() if key.may_route(name)
    ]  # fmt: skip
    experts = [
        {"id": name, "object": "model", "created": registry.since("expert", name), "owned_by": "consilium",
         "kind": "expert",
         "description": card.description, "context": card.context}
        for name, card in snapshot.cards.items() if key.may_ask(name)
    ]  # fmt: skip
    return [*routes, *experts]


async def about(gateway: Gateway, caller: Caller, scope: Scope, receive: Receive, send: Send) -> None:
    snapshot = gateway.router.snapshot
    await send_json(send, {
        "name": "consilium", "version": VERSION, "registry_version": snapshot.version,
        "routes": [n for n in snapshot.routes if caller.key.may_route(n)],
        "experts": [n for n in snapshot.experts if caller.key.may_ask(n)],
        "try": ["/v1/models", "/v1/chat/completions", "/v1/route", "/metrics"],
    })  # fmt: skip


async def models(gateway: Gateway, caller: Caller, scope: Scope, receive: Receive, send: Send) -> None:
    await send_json(send, {"object": "list", "data": listed(gateway.router.snapshot, caller.key)})


async def model(gateway: Gateway, caller: Caller, scope: Scope, receive: Receive, send: Send) -> None:
    name = last_step(scope)
    for row in listed(gateway.router.snapshot, caller.key):
        if row["id"] == name or name in row.get("presets", ()):
            await send_json(send, {**row, "id": name})
            return
    raise UnknownModel(f"model {name!r} is neither a route nor an expert that this key may use", param="model")


async def experts(gateway: Gateway, caller: Caller, scope: Scope, receive: Receive, send: Send) -> None:
    snapshot = gateway.router.snapshot
    rows = [expert_row(snapshot, name) for name in snapshot.experts if caller.key.may_ask(name)]
    await send_json(send, {"object": "list", "registry_version": snapshot.version, "data": rows})


async def expert(gateway: Gateway, caller: Caller, scope: Scope, receive: Receive, send: Send) -> None:
    snapshot, name = gateway.router.snapshot, last_step(scope)
    if name not in snapshot.experts or not caller.key.may_ask(name):
        raise UnknownModel(f"expert {name!r}: no such expert", param="name")
    known = await asyncio.to_thread(_profile, gateway, name)
    await send_json(send, {**expert_row(snapshot, name), **({} if known is None else {"profile": known.json()})})


def _profile(gateway: Gateway, name: str) -> Profile | None:
    """What `consilium profile` left of an expert; None where it left nothing, or nothing is kept."""
    log = gateway.router.log
    return None if log is None else profiles(row for row in log.records.measured() if row.expert == name).get(name)


def expert_row(snapshot: Snapshot, name: str) -> dict[str, Any]:
    """The manifest with its secrets masked, and how the expert stands."""
    load = snapshot.experts[name].load()
    state = {"up": load.available, "endpoints": load.endpoints, "endpoints_up": load.up, "in_flight": load.in_flight}
    return {"name": name, "manifest": public(snapshot.registry.experts[name]), "state": state}


async def route(gateway: Gateway, caller: Caller, scope: Scope, receive: Receive, send: Send) -> None:
    """Explain a decision without asking anybody: a chat body, or just `{"query": "…", "model": "auto"}`."""
    asked = await json_object(receive, caller.content_length, gateway.max_body_bytes)
    asked.setdefault("model", "auto")
    if "messages" not in asked:
        text = asked.pop("query", asked.pop("prompt", None))
        if not isinstance(text, str) or not text:
            raise BadRequest("query: expected the text to route, or `messages` as in a chat request", param="query")
        asked["messages"] = [{"role": "user", "content": text}]
    await gateway.admit(caller.key)
    try:
        query = parse("chat", orjson.dumps(asked), "dec-" + urandom(12).hex())
        run = Run(query.id, caller.request_id, caller.key.name)
        if caller.wishes:
            query = replace(query, extension=from_headers(query.extension, caller.wishes))
        plan, snapshot = await gateway.router.plan(query, run, caller.key)
    finally:
        await gateway.ledger.release(caller.key.name)
    await send_json(send, {"decision_id": query.id, **plan_json(plan), **before(run), **learned(snapshot, plan),
                           "cached": run.cached, "decide_ms": round(run.decide_s * 1e3, 3)})  # fmt: skip


async def embeddings(gateway: Gateway, caller: Caller, scope: Scope, receive: Receive, send: Send) -> None:
    """Vectors of a named encoder of the gateway, of the retrievers that a route chooses text by text, or of an expert
    that serves embeddings."""
    query = parse("embedding", await read_body(receive, caller.content_length, gateway.max_body_bytes),
                  "dec-" + urandom(12).hex())  # fmt: skip
    await gateway.admit(caller.key)
    try:
        snapshot = gateway.router.snapshot
        encoder = snapshot.embeddings.get(query.model)
        if encoder is not None:
            work = _encode(encoder, query, send)
        elif query.model in snapshot.experts:
            work = _ask_for_embeddings(gateway, caller, query, send)
        else:
            work = _encode_by_route(snapshot, caller.key, query, send)
        await watched(work, receive)
    finally:
        await gateway.ledger.release(caller.key.name)


async def _ask_for_embeddings(gateway: Gateway, caller: Caller, query: Query, send: Send) -> None:
    run = Run(query.id, caller.request_id, caller.key.name, query.model)

    async def answered() -> None:
        answer = await gateway.router.answer(query, silent, run, caller.key)
        await reply(send, 200, answer.body, [JSON, *told(run)])

    await recorded(gateway, run, answered(), send)


async def recorded(gateway: Gateway, run: Run, work: Awaitable[None], send: Send) -> None:
    """Await `work`, which answers the run's request. However it ends, the run is recorded once."""
    try:
        await work
        run.status = 200
    except ConsiliumError as fault:
        run.error = fault.code or fault.type
        run.status, body, headers = error_reply(fault)
        await reply(send, run.status, body, headers)
    except asyncio.CancelledError:
        run.status, run.error = CLIENT_CLOSED, "client_closed"
        raise
    finally:
        gateway.router.record(run)


def told(run: Run) -> Headers:
    """Headers of a reply for which an expert was asked."""
    return [
        (b"x-request-id", (run.request_id or run.id).encode("latin-1", "replace")),
        (b"x-consilium-decision-id", run.id.encode()),
        (b"x-consilium-expert", run.answer.expert.encode() if run.answer else b""),
    ]


async def _encode(encoder: Embedding, query: Query, send: Send) -> None:
    texts = _texts(query)
    await _send_vectors(send, query, texts, await asyncio.gather(*(encoder.embed([text], [1.0]) for text in texts)))


async def _encode_by_route(snapshot: Snapshot, key: Key, query: Query, send: Send) -> None:
    name = query.model.partition(":")[0]
    loaded = ", ".join(snapshot.embeddings) or "none"
    if name not in snapshot.routes:
        raise UnknownModel(
            f"model {query.model!r}: neither an encoder in use here ({loaded}), nor a route, nor an expert; "
            "GET /v1/models lists routes and experts", param="model",
        )  # fmt: skip
    resolve(snapshot, query.model, key)
    lookup, texts = snapshot.routes[name].lookup, _texts(query)
    if lookup is None or all(source.embedding is None for source in lookup.sources):
        found = "it retrieves nothing" if lookup is None else f"it has only {', '.join(lookup.names)}"
        raise BadRequest(
            f"model {query.model!r}: expected a route with a retriever that searches by vectors, but {found}; give the "
            f"route one under `retrieval:`, or name an encoder in use here ({loaded})", param="model",
        )  # fmt: skip
    vectors, chosen = await embedded(lookup, texts)
    await _send_vectors(send, query, texts, vectors, consilium=chosen)


def _texts(query: Query) -> list[str]:
    given = orjson.loads(bytes(query.fields["input"]))
    texts = [given] if isinstance(given, str) else given
    if not texts or len(texts) > MOST_INPUTS or not all(isinstance(text, str) and text for text in texts):
        raise BadRequest(f"input: expected a text, or a list of 1 to {MOST_INPUTS} texts (none empty, no token ids)",
                         param="input")  # fmt: skip
    form = _form(query)
    if form not in ("float", "base64"):
        raise BadRequest(f"encoding_format: expected float or base64, got {form!r}", param="encoding_format")
    return texts


def _form(query: Query) -> Any:
    return orjson.loads(bytes(query.fields["encoding_format"])) if "encoding_format" in query.fields else "float"


async def _send_vectors(
    send: Send, query: Query, texts: Sequence[str], vectors: Sequence[Vector], **more: Any
) -> None:  # fmt: skip
    size = orjson.loads(bytes(query.fields["dimensions"])) if "dimensions" in query.fields else None
    other = next((len(vector) for vector in vectors if size not in (None, len(vector))), None)
    if other is not None:
        raise BadRequest(f"dimensions: this encoder gives {other}, got {size}", param="dimensions")
    packed = _form(query) == "base64"
    rows = [
        {"object": "embedding", "index": i,
         "embedding": b64encode(vector.tobytes()).decode() if packed else vector.tolist()}
        for i, vector in enumerate(vectors)
    ]  # fmt: skip
    tokens = sum(len(text) for text in texts) // 4 + 1
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    await send_json(send, {"object": "list", "model": query.model, "data": rows, "usage": usage, **more})


async def metrics(gateway: Gateway, caller: Caller, scope: Scope, receive: Receive, send: Send) -> None:
    await reply(send, 200, gateway.router.telemetry.scrape(), [(b"content-type", CONTENT_TYPE_LATEST.encode())])


def last_step(scope: Scope) -> str:
    """The last step of a path, which names a thing."""
    return unquote(scope["path"].rpartition("/")[2])
