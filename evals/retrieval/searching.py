"""Every query against every corpus, once: what each retriever found, from which all systems are then made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from evals.retrieval.data import Domain, Judged
from evals.retrieval.words import Bm25
from experts.protocols import Encoder, Vectors
from experts.retrieval.embedded import embed
from router.retrieval.corpora import Pilots, pilots_of
from router.retrieval.ranking import Found

RETRIEVERS = ("dense", "bm25")
DEPTH = 30
BATCH = 64
MOST_TRAINING = 600
"""Training queries of one domain; more of them say little more, and would cost minutes."""


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """One query with what it found. `rows`: positions in all documents; `relevant`: one flag a row found; `vector`: its
    own."""

    query: Judged
    domain: int
    rows: NDArray[np.int64]
    found: Found
    relevant: NDArray[np.bool_]
    vector: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """`ids`: of all documents, a domain's after another's, with the domain's position before the id; `documents`: their
    vectors."""

    names: tuple[str, ...]
    ids: tuple[str, ...]
    pilots: Pilots
    test: tuple[Asked, ...]
    training: tuple[Asked, ...]
    search_ms: dict[str, float]
    documents: Vectors

    def relevant(self, asked: Asked) -> dict[str, int]:
        return {f"{asked.domain}/{name}": gain for name, gain in asked.query.relevant.items()}


def search_all(
    domains: Sequence[Domain], encoder: Encoder, step: Callable[[str], None], told: Callable[[int, int], None],
    seed: int = 0,
) -> World:  # fmt: skip
    """Searches for all test queries, and for up to 600 training queries of each domain, drawn by `seed`."""
    texts = [text for domain in domains for text in domain.texts]
    owner = np.repeat(np.arange(len(domains)), [len(domain.ids) for domain in domains])
    names = tuple(domain.name for domain in domains)
    step("embedding documents")
    documents = embed(texts, encoder, told)
    step("indexing words")
    lexical = Bm25(texts)
    pilots = pilots_of([documents[owner == place] for place in range(len(domains))], seed=seed)
    ids = tuple(f"{place}/{name}" for place, domain in enumerate(domains) for name in domain.ids)
    place_of = {name: row for row, name in enumerate(ids)}
    took: dict[str, list[float]] = {name: [] for name in RETRIEVERS}

    def asked(chosen: list[tuple[int, Judged]], what: str) -> tuple[Asked, ...]:
        step(f"embedding {what} queries")
        vectors = embed([query.text for _, query in chosen], encoder, told)
        beliefs = pilots.beliefs(vectors)
        step(f"searching for {what} queries")
        made: list[Asked] = []
        for start in range(0, len(chosen), BATCH):
            part = chosen[start : start + BATCH]
            scores = _scores(vectors[start : start + BATCH], documents, lexical, [q.text for _, q in part], took)
            for row, (domain, query) in enumerate(part):
                rows, table = _candidates([each[row] for each in scores], owner, len(domains))
                gains = {place_of[key] for name in query.relevant if (key := f"{domain}/{name}") in place_of}
                flags = np.array([int(each) in gains for each in rows], bool)
                found = Found(table, owner[rows].astype(np.int64), beliefs[start + row], names)
                made.append(Asked(query, domain, rows, found, flags, vectors[start + row]))
            told(min(start + BATCH, len(chosen)), len(chosen))
        return tuple(made)

    rng = np.random.default_rng(seed)
    test = asked([(place, query) for place, domain in enumerate(domains) for query in domain.test()], "test")
    training = asked(
        [(place, query) for place, domain in enumerate(domains) for query in _drawn(domain.training(), rng)], "training"
    )
    typical = {name: float(np.median(values)) if values else 0.0 for name, values in took.items()}
    return World(names, ids, pilots, test, training, typical, documents)


def _drawn(queries: Sequence[Judged], rng: np.random.Generator) -> list[Judged]:
    if len(queries) <= MOST_TRAINING:
        return list(queries)
    return [queries[row] for row in np.sort(rng.choice(len(queries), MOST_TRAINING, replace=False))]


def _scores(
    vectors: Vectors, documents: Vectors, lexical: Bm25, texts: Sequence[str], took: dict[str, list[float]]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    start = perf_counter()
    dense = vectors @ documents.T
    between = perf_counter()
    sparse = lexical.scores(texts)
    for name, spent in zip(RETRIEVERS, (between - start, perf_counter() - between), strict=True):
        took[name].append(1000 * spent / len(texts))
    return dense, sparse


def _candidates(
    scores: Sequence[NDArray[np.float32]], owner: NDArray[np.int64], corpora: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The best passages of every retriever in every corpus, and all retrievers' scores of them."""
    best: list[NDArray[np.int64]] = []
    for corpus in range(corpora):
        inside = np.flatnonzero(owner == corpus)
        for column in scores:
            mine = column[inside]
            top = np.argpartition(-mine, DEPTH)[:DEPTH] if len(mine) > DEPTH else np.arange(len(mine))
            best.append(inside[top])
    rows = np.unique(np.concatenate(best))
    return rows, np.stack([column[rows] for column in scores], axis=1).astype(np.float64)
