"""From the retrievers of a registry to something that can be searched, and from a route's retrieval to a `Lookup`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

from experts.errors import ConfigError, ConsiliumError, Problem
from experts.language import Card, Passage
from experts.protocols import Encoder, Expert, Retriever
from experts.retrieval.kinds import RetrieverParts, module
from experts.retrieval.prompting import TEMPLATE
from experts.retrieval.reranking import ByExpert, Reranked, load_cross_encoder
from experts.transport import Transport
from registry.load import Registry
from registry.schema import RetrieverManifest, RouteManifest
from router.embedding import Embedding
from router.gate import Gate, fit_gate, read_outcomes, sighted
from router.passages import Lookup, search
from router.retrieval.choosing import Choosing, Searchable, open_choosing
from router.retrieval.estimating import fit_chooser

T = TypeVar("T")
LOOKING_S = 30.0
AT_ONCE = 8
"""Searches for a gate's measured queries, when a registry is read."""
TOKENS_A_PASSAGE = 200
"""Expected of a passage before any is seen: a thousand characters are cut to less."""

EncoderOf = Callable[[Registry, str], Awaitable[tuple[Encoder, Embedding]]]


@dataclass(slots=True)
class Searched:
    """`asks`: the expert that reranks, where one does."""

    manifest: RetrieverManifest
    source: Searchable
    asks: Expert | None = None


async def build_retrievers(
    registry: Registry, known: Mapping[str, Searched], transport: Transport, encoder_of: EncoderOf,
    problems: list[Problem], experts: Mapping[str, Expert],
) -> dict[str, Searched]:  # fmt: skip
    """Every retriever of the registry, those of unchanged manifests carried over; what cannot be built is a problem."""
    built: dict[str, Searched] = {}
    for name, manifest in registry.retrievers.items():
        held = known.get(name)
        asks = experts.get(manifest.rerank.expert) if manifest.rerank and manifest.rerank.expert else None
        same = held is not None and (held.manifest, held.manifest.options) == (manifest, manifest.options)
        if held is not None and same and held.asks is asks:
            built[name] = held
            continue
        try:
            kind = module(manifest.provider)
            encoder, embedding = None, None
            if getattr(kind, "USES_VECTORS", False):
                encoder, embedding = await encoder_of(registry, manifest.encoder)
            parts = RetrieverParts(transport, encoder.fingerprint if encoder else "", manifest.timeout_s)
            found_by = cast(Retriever, await asyncio.to_thread(kind.build, name, manifest.options, parts))
            retriever = await _reranked(found_by, manifest, asks)
            built[name] = Searched(manifest, Searchable(retriever, embedding, manifest.timeout_s), asks)
        except ConsiliumError as fault:
            problems.append(Problem(registry.source(name), 0, f"retriever {name}", fault.message))
    return built


async def _reranked(found_by: Retriever, manifest: RetrieverManifest, asks: Expert | None) -> Retriever:
    wanted = manifest.rerank
    if wanted is None or (wanted.model is None and asks is None):
        return found_by
    try:
        reranker = ByExpert(asks) if asks else await asyncio.to_thread(load_cross_encoder, wanted.model or "")
    except ConfigError:
        await found_by.close()
        raise
    return Reranked(found_by, reranker, wanted.candidates, wanted.timeout_s)


class FromFiles:
    """What routes fit on files of their own, kept while neither the file nor what is wanted of it changes."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str], tuple[tuple[Any, ...], Any]] = {}

    async def get(
        self, route: str, what: str, file: str | None, wanted: tuple[Any, ...], fit: Callable[[], Awaitable[T]]
    ) -> T:
        """What `fit` makes; or made before, of the same file for the same `wanted`."""
        key = (file, _written(file), *wanted)
        before = self._held.get((route, what))
        if before is None or before[0] != key:
            self._held[route, what] = before = (key, await fit())
        return cast(T, before[1])

    def keep(self, routes: Collection[str]) -> None:
        """Forget what other routes fitted."""
        self._held = {key: value for key, value in self._held.items() if key[0] in routes}


def _written(file: str | None) -> tuple[int, int] | None:
    """When, and how much; None where nothing is there."""
    try:
        found = Path(file).stat() if file else None
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size) if found else None


async def build_lookup(
    registry: Registry, manifest: RouteManifest, sources: Mapping[str, Searchable], encoder_of: EncoderOf,
    files: FromFiles,
) -> Lookup | None:  # fmt: skip
    """A route's retrieval, its gate and its estimator fitted. Raises ConfigError for outcomes that cannot be read."""
    part = manifest.retrieval
    if part is None:
        return None
    encoder, embedding, chooser = None, None, None
    if part.measured is not None or (part.gate == "auto" and part.outcomes is not None):
        encoder, embedding = await encoder_of(registry, manifest.encoder)
    if part.measured is not None and encoder is not None and embedding is not None:
        by: tuple[Any, ...] = (part.estimator.name, part.estimator.options)
        cards = tuple(Card(name, registry.retrievers[name].description) for name in part.retrievers)
        of: tuple[Any, ...] = (cards, part.top, encoder, embedding)
        fit = partial(fit_chooser, *by, Path(part.measured), *of)
        chooser = await files.get(manifest.name, "chooser", part.measured, (*by, *of), lambda: asyncio.to_thread(fit))
    outcomes = Path(part.outcomes) if part.outcomes else None
    expected = min(part.max_tokens, part.passages * TOKENS_A_PASSAGE)
    terms: tuple[Any, ...] = (part.gate, part.price, expected, part.confidence, outcomes, encoder)
    searched = tuple(sources[name] for name in part.retrievers)
    looks = all(_in_process(registry.retrievers[name]) for name in part.retrievers)
    choosing = await open_choosing(part.mass, part.ranker, chooser)
    looking = (part.mass, part.ranker, _written(part.ranker), part.measured, _written(part.measured), part.estimator,
               part.top)  # fmt: skip
    gate = await files.get(
        manifest.name, "gate", part.outcomes, (*terms, searched, looks, *looking),
        lambda: _open_gate(partial(fit_gate, *terms), outcomes if looks else None, searched, choosing),
    )  # fmt: skip
    return Lookup(
        searched, part.passages, part.max_tokens, part.timeout_ms / 1e3, gate, part.template or TEMPLATE,
        embedding if gate.fitted else None, choosing, part.price_s,
    )  # fmt: skip


def _in_process(manifest: RetrieverManifest) -> bool:
    """Whether searching it asks no other server, which might be slow, or paid for."""
    return manifest.provider != "remote" and (manifest.rerank is None or manifest.rerank.expert is None)


async def _open_gate(
    fit: Callable[[], Gate], outcomes: Path | None, sources: Sequence[Searchable], choosing: Choosing
) -> Gate:
    """The gate, and what the sources find for the queries that it was measured with, as far as that takes no longer
    than `LOOKING_S`."""
    gate = await asyncio.to_thread(fit)
    if not gate.fitted or outcomes is None:
        return gate
    texts, _ = await asyncio.to_thread(read_outcomes, outcomes)
    best: list[Passage | None] = [None] * len(texts)
    waiting = iter(enumerate(texts))

    async def look() -> None:
        for row, text in waiting:
            found = await search(sources, text, 1, choosing=choosing)
            best[row] = found.passages[0] if found.passages else None

    with suppress(TimeoutError):
        async with asyncio.timeout(LOOKING_S):
            await asyncio.gather(*(look() for _ in range(AT_ONCE)))
    return await asyncio.to_thread(sighted, gate, best)


async def close_others(some: Mapping[str, Searched], kept: Mapping[str, Searched]) -> None:
    """Closes the retrievers of `some` that are not among `kept`."""
    held = {id(item.source.retriever) for item in kept.values()}
    for item in some.values():
        if id(item.source.retriever) not in held:
            await item.source.retriever.close()
