"""The served path, whole: indexes as `consilium index build` makes them, a `hybrid` retriever over each, a ranker as
`consilium retriever fit` makes it, and what a gateway's search then finds. The other systems measure the method alone.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np

from evals.retrieval.data import Domain
from evals.retrieval.scores import DEPTH, Scores, score
from evals.retrieval.searching import Asked, World
from experts.language import Passage
from experts.protocols import Encoder
from experts.retrieval.corpus import create_corpus
from experts.retrieval.indexing import Counts, add, embedded_by
from experts.retrieval.reading import documents
from registry.load import parse_text
from router.local import open_router
from router.passages import search
from router.retrieval.judged import Judged, fit, search_judged
from router.telemetry import Log, Telemetry

PASSAGES = 3 * DEPTH
"""Several may be of one document, which counts once."""


class Served(NamedTuple):
    """`scores` of the test queries; `searched`: the share of all passages that was searched, on average; `p50_ms`: of a
    whole search; `held_out`: nDCG@10 that the fit itself expects, from held-out training queries."""

    scores: Scores
    searched: float
    p50_ms: float
    held_out: float


def key(domains: Sequence[Domain], encoder: Encoder, model: str, runtime: str) -> str:
    """Names the folder of indexes: one for each encoder and all that is in the documents."""
    digest = blake2b(f"{encoder.fingerprint}\n{model}\n{runtime}".encode(), digest_size=12)
    for domain in domains:
        for each in (domain.name, *domain.ids, *domain.texts):
            digest.update(blake2b(each.encode(errors="surrogatepass"), digest_size=12).digest())
    return digest.hexdigest()


def build(
    data: Path, domains: Sequence[Domain], folder: Path, encoder: Encoder, model: str, runtime: str,
    told: Callable[[int, int], None],
) -> None:  # fmt: skip
    """An index a domain under `folder`; one that is there already is gone on with."""
    for domain in domains:
        corpus = create_corpus(folder / domain.name, embedded_by(encoder, model, runtime))

        def stored(counts: Counts, of: int = len(domain.ids)) -> None:
            told(counts.seen, of)

        add(corpus, documents(data / domain.name), encoder, stored)
        corpus.close()


def registry(folder: Path, domains: Sequence[Domain], model: str, runtime: str) -> str:
    """What a user would write: every index under a hybrid retriever, all in one route. (JSON is YAML.)"""
    names = [f"r{place}" for place in range(len(domains))]
    retrievers = [
        {"kind": "retriever", "name": name, "provider": "hybrid", "index": str(folder / domain.name),
         "encoder": "measured", "timeout_s": 60}
        for name, domain in zip(names, domains, strict=True)
    ]  # fmt: skip
    parts = [
        {"kind": "expert", "name": "nobody", "provider": "scripted", "description": "asked nothing"},
        {"kind": "encoder", "name": "measured", "model": model, "runtime": runtime}, *retrievers,
        {"kind": "route", "name": "auto", "experts": ["nobody"], "estimator": "prior",
         "retrieval": {"gate": "never", "retrievers": names}},
    ]  # fmt: skip
    return "\n---\n".join(json.dumps(part) for part in parts)


def measure(
    world: World, text: str, step: Callable[[str], None], told: Callable[[int, int], None], seed: int
) -> Served:
    """Fits on the training queries of the world, and searches for its test queries, one after the other. Raises
    ConfigError."""
    return asyncio.run(_measure(world, text, step, told, seed))


async def _measure(
    world: World, text: str, step: Callable[[str], None], told: Callable[[int, int], None], seed: int
) -> Served:
    async with open_router(parse_text(text), telemetry=Telemetry(Log(level="warning"))) as router:
        lookup = router.snapshot.routes["auto"].lookup
        assert lookup is not None
        judged = [Judged(asked.query.text, frozenset(_named(world, asked))) for asked in world.training]
        step("searching for training queries as a gateway does")
        found = await search_judged(lookup, judged, lambda n: told(n, len(judged)))
        step("fitting the ranker")
        fitted = await asyncio.to_thread(fit, found, seed)
        step("searching for test queries as a gateway does")
        choosing = replace(lookup.choosing, ranker=fitted.ranker)
        sizes = {source.retriever.corpus: source.retriever.size for source in lookup.sources}
        known = frozenset(world.ids)
        ids: list[list[str]] = []
        took: list[float] = []
        shares: list[float] = []
        for number, asked in enumerate(world.test, 1):
            started = perf_counter()
            result = await search(lookup.sources, asked.query.text, PASSAGES, choosing=choosing)
            took.append(1000 * (perf_counter() - started))
            inside = {source.retriever.corpus for source in result.choice.sources}
            shares.append(sum(sizes[corpus] for corpus in inside) / sum(sizes.values()))
            ids.append(_documents(world.names, known, result.passages))
            told(number, len(world.test))
    scores = score([world.relevant(asked) for asked in world.test], ids)
    return Served(scores, float(np.mean(shares)), float(np.median(took)), fitted.after)


def _named(world: World, asked: Asked) -> list[str]:
    return [f"{world.names[asked.domain]}/{document}" for document in asked.query.relevant]


def _documents(names: Sequence[str], known: frozenset[str], passages: Sequence[Passage]) -> list[str]:
    """The passages' documents as the world names them (`known`), each once."""
    found: dict[str, None] = {}
    for passage in passages:
        place = names.index(passage.corpus)
        whole, cut = f"{place}/{passage.id}", f"{place}/{passage.id.rpartition('#')[0]}"
        found[whole if whole in known else cut] = None
    return list(found)[:DEPTH]
