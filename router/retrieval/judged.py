"""A ranker fitted on judged queries over the retrievers of a route, and what it is worth on others.

A line of a judged file: `{"query": "…", "relevant": ["handbook/leave.md", …]}`. An id is a document's or a passage's,
with its corpus before it where two corpora have it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import log2
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from experts.errors import ConfigError
from experts.language import Passage
from router.passages import Lookup, asked_of
from router.retrieval.choosing import DEPTH, Choice, Searchable, choose, found_in, merged
from router.retrieval.ranking import Found, Ranker, fit_ranker

FOLDS = 5
FEWEST = 20
BEST = 10


@dataclass(frozen=True, slots=True)
class Judged:
    query: str
    relevant: frozenset[str]

    def named(self, passage: Passage) -> frozenset[str]:
        """Which relevant ids stand for the passage, or for its document."""
        names = [name for name in (passage.id, passage.id.rpartition("#")[0]) if name]
        return self.relevant & {*names, *(f"{passage.corpus}/{name}" for name in names)}

    def holds(self, passage: Passage) -> bool:
        return bool(self.named(passage))


class Searched(NamedTuple):
    """One judged query, searched."""

    judged: Judged
    choice: Choice
    lists: list[list[Passage]]


class Fitted(NamedTuple):
    """`before` and `after`: nDCG@10 by reciprocal ranks and by rankers that did not see the query; `found`: the share
    of queries with a relevant passage among those found."""

    ranker: Ranker
    queries: int
    found: float
    before: float
    after: float


def read_judged(file: Path) -> list[Judged]:
    """Raises ConfigError naming the line that is not a judged query, or for a file of fewer than 20."""
    read: list[Judged] = []
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as fault:
        raise ConfigError(f"{file}: cannot be read: {fault}") from fault
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row: Any = json.loads(line)
            query, relevant = row["query"], row["relevant"]
        except (ValueError, KeyError, TypeError):
            query, relevant = None, None
        if not isinstance(query, str) or not isinstance(relevant, list) or not all(
            isinstance(name, str) for name in relevant  # pyright: ignore[reportUnknownVariableType]
        ):  # fmt: skip
            raise ConfigError(
                f'{file}:{number}: expected {{"query": "…", "relevant": ["corpus/document", …]}}, found {line[:80]!r}'
            )
        read.append(Judged(query, frozenset(relevant)))  # pyright: ignore[reportUnknownArgumentType]
    if len(read) < FEWEST:
        raise ConfigError(f"{file}: {len(read)} judged queries; {FEWEST} or more are needed to learn from")
    return read


async def search_judged(lookup: Lookup, judged: Sequence[Judged], told: Callable[[int], None]) -> list[Searched]:
    """Every query at the retrievers that its lookup would search."""
    found: list[Searched] = []
    for number, one in enumerate(judged, 1):
        choice = await choose(lookup.sources, one.query, lookup.choosing)
        lists, failed = await asked_of(choice.sources, one.query, DEPTH, None)
        if failed:
            raise ConfigError("; ".join(f"retriever {name}: {why}" for name, why in failed.items()))
        found.append(Searched(one, choice, lists))
        told(number)
    return found


async def measure(
    sources: Sequence[Searchable], judged: Sequence[Judged], told: Callable[[int], None]
) -> list[dict[str, float]]:  # fmt: skip
    """Of every query, retriever -> nDCG@10 of what it finds alone. Raises ConfigError for one that does not answer."""
    rows: list[dict[str, float]] = []
    for number, one in enumerate(judged, 1):
        row: dict[str, float] = {}
        for source in sources:
            lists, failed = await asked_of([source], one.query, BEST, None)
            if failed:
                raise ConfigError("; ".join(f"retriever {name}: {why}" for name, why in failed.items()))
            row[source.retriever.name] = _gained(one, lists[0])
        rows.append(row)
        told(number)
    return rows


def write_measured(file: Path, judged: Sequence[Judged], rows: Sequence[Mapping[str, float]]) -> None:
    """Outcomes, a query a line. Replaced as a whole."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(file.name + ".tmp")
    with partial.open("w", encoding="utf-8") as out:
        for number, (one, scores) in enumerate(zip(judged, rows, strict=True)):
            row = {"id": f"judged-{number}", "task": "retrieval", "split": "train", "prompt": one.query,
                   "scores": {name: round(score, 6) for name, score in scores.items()}}  # fmt: skip
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
    partial.replace(file)


def fit(searched: Sequence[Searched], seed: int = 0) -> Fitted:
    """Raises ConfigError where no passage tells how it was found, or none of those found is relevant."""
    ways = sorted({way for one in searched for found in one.lists for passage in found for way in passage.ways})
    silent = sorted({p.retriever for one in searched for found in one.lists for p in found if not p.ways})
    if silent or not ways:
        raise ConfigError(
            f"ranker: retrievers {', '.join(silent) or 'of this route'} do not tell by what they found a passage "
            "(remote and reranked ones do not), so that their scores cannot be compared; leave them out of the route"
        )
    tables: list[Found] = []
    flags: list[NDArray[np.bool_]] = []
    for one in searched:
        table, passages = found_in(one.lists, one.choice.beliefs, ways)
        tables.append(table)
        flags.append(np.array([one.judged.holds(passage) for passage in passages], np.bool_))
    weights = weights_of(searched)
    ranker = fit_ranker(ways, tables, flags, weights)
    fold = np.random.default_rng(seed).permutation(len(searched)) % FOLDS
    before = [_ndcg(one, None) for one in searched]
    after = [0.0] * len(searched)
    for part in range(FOLDS):
        rest: list[int] = np.flatnonzero(fold != part).tolist()
        other = fit_ranker(ways, [tables[i] for i in rest], [flags[i] for i in rest], weights[rest], ranker.corpora)
        held: list[int] = np.flatnonzero(fold == part).tolist()
        for place in held:
            after[place] = _ndcg(searched[place], other)
    hit = float(np.mean([each.any() for each in flags]))
    return Fitted(ranker, len(searched), hit, float(np.mean(before)), float(np.mean(after)))


def weights_of(searched: Sequence[Searched]) -> NDArray[np.float64]:
    """(n,) how much each query counts in a fit. Corpora count by the root of how many queries they answer: one that was
    judged much should not decide for the others. A query's corpus is that of the first relevant passage found."""
    corpora = [next((p.corpus for found in one.lists for p in found if one.judged.holds(p)), "") for one in searched]
    counts = Counter(corpora)
    return np.array([counts[corpus] ** -0.5 for corpus in corpora])


def _ndcg(one: Searched, ranker: Ranker | None) -> float:
    """nDCG@10 of what was found, ordered as a search would."""
    return _gained(one.judged, merged(one.lists, one.choice, ranker))


def _gained(judged: Judged, order: Sequence[Passage]) -> float:
    """nDCG@10 with gains of 0 and 1, a relevant id counted where it comes first."""
    gain, seen = 0.0, frozenset[str]()
    for rank, passage in enumerate(order[:BEST], 1):
        fresh = judged.named(passage) - seen
        gain += bool(fresh) / log2(rank + 1)
        seen = seen | fresh
    ideal = sum(1 / log2(rank + 1) for rank in range(1, min(len(judged.relevant), BEST) + 1))
    return gain / ideal if ideal else 0.0
