"""`/v1/retrieve`, `/v1/rerank` and `/v1/retrievers`: searching without asking an expert."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from os import urandom
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from experts.errors import BadRequest, Forbidden, NotReady, UnknownModel
from experts.language import Answer, Passage, Query
from experts.protocols import silent
from experts.retrieval.reranking import ByExpert, Reranked, Reranker, asking
from experts.speech import usage_object
from registry.public import public
from router.embedding import Embedding
from router.http.api import recorded, told
from router.http.completions import watched
from router.http.exchange import Receive, Scope, Send, json_object, reply_json
from router.keys import Key
from router.passages import passage_json, search
from router.retrieval.choosing import MASS, Choosing, Searchable
from router.run import Run
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
    ranker = next(
        (one.choosing.ranker for one in lookups if one.choosing.ranker and set(chosen) <= set(one.names)), None
    )
    mass = asked.get("mass", MASS if auto else 1.0)
    if not isinstance(mass, int | float) or isinstance(mass, bool) or not 0 < mass <= 1:
        raise BadRequest(f"mass: expected a number above 0, to 1, got {mass!r}", param="mass")
    fits = next(
        (one.choosing.chooser for one in lookups if one.choosing.chooser and set(one.names) == set(chosen)), None
    )
    return Choosing(float(mass), ranker, fits if auto and "mass" not in asked else None)


async def rerank(gateway: Gateway, caller: Caller, scope: Scope, receive: Receive, send: Send) -> None:
    """Cohere's and Jina's shape: `{"model", "query", "documents", "top_n", "return_documents"}`.

    `model` is an encoder of the gateway (documents are ranked by the cosine of their vectors with the query's), a
    retriever that declares `rerank:` (by its reranker), or an expert (which is asked for the order).
    """
    asked = await json_object(receive, caller.content_length, gateway.max_body_bytes)
    text = _text(asked, "query")
    documents = _documents(asked.get("documents"))
    top = _number(asked, "top_n", len(documents), MOST_DOCUMENTS)
    snapshot = gateway.router.snapshot
    model = asked.get("model") or next(iter(snapshot.embeddings), "")
    reranker = _reranker(snapshot, caller.key, model)
    run = Run("dec-" + urandom(12).hex(), caller.request_id, caller.key.name, str(model))

    async def ask(expert: str, query: Query) -> Answer:
        return await gateway.router.answer(replace(query, id=run.id), silent, run, caller.key)

    async def ranked() -> None:
        with asking(ask):
            order = await reranker.order(text, [Passage(str(i), said) for i, said in enumerate(documents)])
        whole = bool(asked.get("return_documents"))
        rows: list[dict[str, Any]] = [
            {"index": i, "relevance_score": round(score, 6), **({"document": {"text": documents[i]}} if whole else {})}
            for i, score in order[:top]
        ]
        usage = usage_object(run.usage) if run.answer else {"total_tokens": sum(map(len, [text, *documents])) // 4 + 1}
        await reply_json(send, {
            "id": "rerank-" + urandom(12).hex(), "object": "list", "model": model, "results": rows,
            "usage": usage, "took_ms": round((perf_counter() - run.started) * 1e3, 3),
        }, headers=told(run) if run.answer else None)  # fmt: skip

    await gateway.admit(caller.key)
    try:
        work = ranked()
        await watched(recorded(gateway, run, work, send) if isinstance(reranker, ByExpert) else work, receive)
    finally:
        await gateway.ledger.release(caller.key.name)


class ByVectors:
    """The cosine of each passage's vector with the query's."""

    def __init__(self, embedding: Embedding) -> None:
        self._embedding = embedding

    async def order(self, text: str, passages: Sequence[Passage]) -> list[tuple[int, float]]:
        texts = [text, *(passage.text for passage in passages)]
        vectors = np.stack(await asyncio.gather(*(self._embedding.embed([said], [1.0]) for said in texts)))
        scores = vectors[1:] @ vectors[0]
        return [(place, float(scores[place])) for place in np.argsort(-scores, kind="stable").tolist()]

    async def close(self) -> None:
        """The encoder is the gateway's."""


def _reranker(snapshot: Snapshot, key: Key, model: Any) -> Reranker:
    """What `model` names. A retriever's reranker that is an expert needs a key for that expert, too: it reads texts of
    the caller's own. Raises UnknownModel, Forbidden, BadRequest."""
    embedding = snapshot.embeddings.get(model) if isinstance(model, str) else None
    if embedding is not None:
        return ByVectors(embedding)
    source = snapshot.retrievers.get(model) if isinstance(model, str) else None
    reranker = source.retriever.reranker if source and isinstance(source.retriever, Reranked) else None
    if reranker is None and isinstance(model, str) and model in snapshot.experts:
        reranker = ByExpert(snapshot.experts[model])
    elif source is not None and model not in searchable(snapshot, key):
        raise Forbidden(f"this key may not search the retriever {model}", param="model")
    if isinstance(reranker, ByExpert):
        expert = reranker.expert.name
        if not key.may_ask(expert):
            raise Forbidden(f"this key may not ask the expert {expert}", param="model")
        if snapshot.registry.experts[expert].rates:
            raise BadRequest(f"model {model!r}: expected an expert that answers, but '{expert}' only rates; name one "
                             f"of {_names(_answering(snapshot, key))}", param="model")  # fmt: skip
    if reranker is not None:
        return reranker
    reading = [name for name, one in searchable(snapshot, key).items() if isinstance(one.retriever, Reranked)]
    way_out = (
        f"known are the encoders {_names(snapshot.embeddings)}, the retrievers that rerank {_names(reading)} and the "
        f"experts {_names(_answering(snapshot, key))}"
    )
    if source is not None:
        raise BadRequest(f"model {model!r}: this retriever declares no `rerank:`; {way_out}", param="model")
    raise UnknownModel(f"model {model!r}: nothing here reranks by that name; {way_out}", param="model")


def _answering(snapshot: Snapshot, key: Key) -> list[str]:
    return [name for name in snapshot.experts if key.may_ask(name) and not snapshot.registry.experts[name].rates]


def _names(names: Iterable[str]) -> str:
    return ", ".join(names) or "(none)"


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
