"""`/v1/retrieve`, `/v1/rerank` and `/v1/retrievers`: searching without asking an expert."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from os import urandom
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from experts.errors import BadRequest, Forbidden, NotReady, UnknownModel
from registry.public import public
from router.http.completions import watched
from router.http.exchange import Receive, Scope, Send, json_object, reply_json
from router.keys import Key
from router.passages import passage_json, search
from router.retrieval.choosing import MASS, Choosing, Searchable
from router.snapshot import Snapshot

if TYPE_CHECKING:
    from router.http.app import Caller, Gateway

AUTO = "auto"
MOST = 1000
MOST_DOCUMENTS = 1000


def searchable(snapshot: Snapshot, key: Key) -> Mapping[str, Searchable]:
    """The retrievers that a caller may search: every one, or those of the routes that it may use."""
    if key.routes is None and key.experts is None:
        return snapshot.retrievers
    names = {
        name for route in snapshot.routes.values() if route.lookup is not None and key.may_route(route.name)
        for name in route.lookup.names
    }  # fmt: skip
    return {name: source for name, source in snapshot.retrievers.items() if name in names}


async def retrievers(gateway: Gateway, caller: Caller, scope: Scope, receive: Receive, send: Send) -> None:
    snapshot = gateway.router.snapshot
    rows = [
        {"name": name, "corpus": source.retriever.corpus, "passages": source.retriever.size,
         "encoder": source.retriever.encoder, "manifest": public(snapshot.registry.retrievers[name])}
        for name, source in searchable(snapshot, caller.key).items()
    ]  # fmt: skip
    await reply_json(send, {"object": "list", "data": rows})


async def retrieve(gateway: Gateway, caller: Caller, scope: Scope, receive: Receive, send: Send) -> None:
    """`{"query", "top_k": 10, "retriever": "auto"}`: a name, a list of names, or `auto`, which chooses corpora by the
    query; `mass` says how much of the belief in them is searched."""
    asked = await json_object(receive, caller.content_length, gateway.max_body_bytes)
    text, k = _text(asked, "query"), _number(asked, "top_k", 10, MOST)
    chosen, why = _chosen(gateway.router.snapshot, caller.key, asked.get("retriever", AUTO))
    choosing = _choosing(gateway.router.snapshot, caller.key, asked, chosen, auto=not why)
    await gateway.admit(caller.key)
    try:
        await watched(_search(gateway, chosen, choosing, why, text, k, send), receive)
    finally:
        await gateway.ledger.release(caller.key.name)


async def _search(
    gateway: Gateway, chosen: Mapping[str, Searchable], choosing: Choosing, why: str, text: str, k: int, send: Send
) -> None:  # fmt: skip
    found = await search(tuple(chosen.values()), text, k, choosing=choosing)
    choice = found.choice
    gateway.router.telemetry.retrieved(found, [])
    if len(found.failed) == len(choice.sources):
        raise NotReady("; ".join(f"retriever {name}: {fault}" for name, fault in found.failed.items()))
    await reply_json(send, {
        "object": "list", "retrievers": [source.retriever.name for source in choice.sources],
        "skipped": list(choice.skipped), "reason": why or choice.reason,
        "corpora": {corpus: round(belief, 4) for corpus, belief in choice.beliefs.items()},
        "expected": {name: round(quality, 4) for name, quality in choice.expected.items()}, "failed": found.failed,
        "took_ms": round(found.took_s * 1e3, 3),
        "passages": [passage_json(passage, text=True) for passage in found.passages],
    })  # fmt: skip


def _chosen(snapshot: Snapshot, key: Key, wanted: Any) -> tuple[dict[str, Searchable], str]:
    known = searchable(snapshot, key)
    if not known:
        raise UnknownModel("this gateway has no retriever for this key; a manifest of kind retriever declares one",
                           param="retriever")  # fmt: skip
    if wanted == AUTO:
        return dict(known), ""
    names = [wanted] if isinstance(wanted, str) else cast(list[Any], wanted if isinstance(wanted, list) else [])
    if not names or not all(isinstance(name, str) for name in names):
        raise BadRequest(f'retriever: expected a name, a list of names or "auto", got {wanted!r}', param="retriever")
    for name in names:
        if name not in known:
            if name in snapshot.retrievers:
                raise Forbidden(f"this key may not search the retriever {name}", param="retriever")
            raise UnknownModel(f"retriever {name!r}: there is none; known are {', '.join(known)}", param="retriever")
    return {name: known[name] for name in names}, "named by the request"


def _choosing(
    snapshot: Snapshot, key: Key, asked: Mapping[str, Any], chosen: Collection[str], *, auto: bool
) -> Choosing:  # fmt: skip
    """Retrievers that are named are all searched. The ranker is that of a route the caller may use, where one has it;
    so is the estimator, where the route has all retrievers there are, unless the request says a `mass` of belief."""
    lookups = [route.lookup for route in snapshot.routes.values() if route.lookup and key.may_route(route.name)]
    ranker = next((lookup.choosing.ranker for lookup in lookups if lookup.choosing.ranker), None)
    mass = asked.get("mass", MASS if auto else 1.0)
    if not isinstance(mass, int | float) or isinstance(mass, bool) or not 0 < mass <= 1:
        raise BadRequest(f"mass: expected a number above 0, to 1, got {mass!r}", param="mass")
    fits = next(
        (one.choosing.chooser for one in lookups if one.choosing.chooser and set(one.names) == set(chosen)), None
    )
    return Choosing(float(mass), ranker, fits if auto and "mass" not in asked else None)


async def rerank(gateway: Gateway, caller: Caller, scope: Scope, receive: Receive, send: Send) -> None:
    """Cohere's and Jina's shape: `{"model", "query", "documents", "top_n", "return_documents"}`.

    `model` is an encoder of the gateway: documents are ranked by the cosine of their vectors with the query's.
    """
    asked = await json_object(receive, caller.content_length, gateway.max_body_bytes)
    text = _text(asked, "query")
    documents = _documents(asked.get("documents"))
    top = _number(asked, "top_n", len(documents), MOST_DOCUMENTS)
    embeddings = gateway.router.snapshot.embeddings
    model = asked.get("model") or next(iter(embeddings), "")
    embedding = embeddings.get(model) if isinstance(model, str) else None
    if embedding is None:
        raise UnknownModel(f"model {model!r}: no encoder in use here; known are {', '.join(embeddings) or 'none'}",
                           param="model")  # fmt: skip

    async def ranked() -> None:
        started = perf_counter()
        vectors = np.stack(await asyncio.gather(*(embedding.embed([said], [1.0]) for said in [text, *documents])))
        scores = vectors[1:] @ vectors[0]
        order = np.argsort(-scores, kind="stable")[:top].tolist()
        whole = bool(asked.get("return_documents"))
        rows: list[dict[str, Any]] = [
            {"index": i, "relevance_score": round(float(scores[i]), 6),
             **({"document": {"text": documents[i]}} if whole else {})}
            for i in order
        ]  # fmt: skip
        tokens = sum(map(len, [text, *documents])) // 4 + 1
        await reply_json(send, {
            "id": "rerank-" + urandom(12).hex(), "object": "list", "model": model, "results": rows,
            "usage": {"total_tokens": tokens}, "took_ms": round((perf_counter() - started) * 1e3, 3),
        })  # fmt: skip

    await gateway.admit(caller.key)
    try:
        await watched(ranked(), receive)
    finally:
        await gateway.ledger.release(caller.key.name)


def _documents(given: Any) -> list[str]:
    if not isinstance(given, list) or not 1 <= len(cast(list[Any], given)) <= MOST_DOCUMENTS:
        raise BadRequest(f"documents: expected a list of 1 to {MOST_DOCUMENTS} texts", param="documents")
    texts: list[str] = []
    for i, item in enumerate(cast(list[Any], given)):
        text = cast(dict[str, Any], item).get("text") if isinstance(item, dict) else item
        if not isinstance(text, str):
            raise BadRequest(f"documents[{i}]: expected a text, or an object with `text`", param=f"documents[{i}]")
        texts.append(text)
    return texts


def _text(asked: Mapping[str, Any], name: str) -> str:
    text = asked.get(name)
    if not isinstance(text, str) or not text.strip():
        raise BadRequest(f"{name}: expected a text, got {text!r}", param=name)
    return text


def _number(asked: Mapping[str, Any], name: str, default: int, most: int) -> int:
    value = asked.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise BadRequest(f"{name}: expected a whole number from 1 to {most}, got {value!r}", param=name)
    return value
