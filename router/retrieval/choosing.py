"""Which of several retrievers a query is worth searching, and how what they find becomes one list.

Where a route names an estimator, its best are searched (`router.retrieval.estimating`). Otherwise the corpora whose
pilots are near the query are: the fewest that hold `mass` of the belief
(`router.retrieval.corpora`). A retriever that cannot tell, since it has no vectors under the query's encoder, is always
searched. What they find is ordered by a fitted ranker where a route names one, and otherwise by reciprocal ranks, the
less likely corpora's set back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import log
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experts.language import Passage
from experts.protocols import Piloted, Retriever, Telling, Vectors
from router.embedding import Embedding
from router.retrieval.corpora import Pilots
from router.retrieval.estimating import Chooser
from router.retrieval.ranking import Found, Ranker, load_ranker

RRF = 60
SET_BACK = 5.0
"""Ranks that a list is set back by for every factor e of belief."""
MASS = 0.995
"""Of the belief that is searched, where nobody says."""
DEPTH = 30
"""Passages of each retriever that a ranker puts into order, at least."""


@dataclass(frozen=True, slots=True)
class Searchable:
    """A retriever with what embeds its queries: None where it searches by the text alone."""

    retriever: Retriever
    embedding: Embedding | None = None
    timeout_s: float = 2.0

    @property
    def pilots(self) -> Vectors | None:
        """None where they cannot be compared with a query, so that the source is always searched."""
        if self.embedding is None or not isinstance(self.retriever, Piloted):
            return None
        found, wanted = self.retriever.pilots, self.embedding.encoder.dimensions
        return found if found is not None and len(found) and found.shape[1:] == (wanted,) else None


@dataclass(frozen=True, slots=True)
class Choosing:
    """`mass`: of the belief in the corpora, how much is searched; 1 searches all. `chooser`: decides in place of it."""

    mass: float = MASS
    ranker: Ranker | None = None
    chooser: Chooser | None = None

    def depth(self, k: int, sources: Sequence[Searchable]) -> int:
        """How many passages each of the sources is asked for, where k are wanted: more where a ranker orders them."""
        if self.ranker is None or not all(knows(self.ranker, source.retriever) for source in sources):
            return k
        return max(k, DEPTH)


def knows(ranker: Ranker, retriever: Retriever) -> bool:
    """Whether it has weights for all that the retriever's passages tell."""
    return isinstance(retriever, Telling) and {*retriever.ways} <= {*ranker.retrievers}


USUAL = Choosing()


@dataclass(frozen=True, slots=True)
class Choice:
    """`beliefs`: corpus -> probability that it holds what is asked, of those that can tell; `skipped`: retrievers that
    are not searched; `expected`: retriever -> nDCG@10 that a route's estimator expects of it."""

    sources: tuple[Searchable, ...]
    beliefs: Mapping[str, float]
    skipped: tuple[str, ...]
    expected: Mapping[str, float] = field(default_factory=dict[str, float])

    @property
    def reason(self) -> str:
        count = len(self.sources)
        if self.expected:
            told = ", ".join(f"{name} {quality:.2f}" for name, quality in self.expected.items())
            return f"{count} of {count + len(self.skipped)} retrievers, by expected nDCG@10: {told}"
        if not self.beliefs:
            return "the only one" if count == 1 else f"all {count}"
        chosen = {source.retriever.corpus for source in self.sources}
        mass = sum(belief for corpus, belief in self.beliefs.items() if corpus in chosen)
        held = len(chosen & self.beliefs.keys())
        return f"{held} of {len(self.beliefs)} corpora, with {mass:.0%} of the belief"


async def choose(sources: Sequence[Searchable], text: str, choosing: Choosing) -> Choice:
    """The best first, where that is known. Raises what embedding the query raises."""
    chooser = choosing.chooser
    known, logs = await _believed(sources, text) if chooser or choosing.mass < 1 else (None, {})
    chances: list[float] = np.exp(list(logs.values())).tolist()
    beliefs = dict(zip(logs, chances, strict=True))
    if chooser is not None:
        expected = await chooser.expected(text)
        away = set(list(expected)[chooser.top :])
        kept = [source for source in sources if source.retriever.name not in away]
        kept.sort(key=lambda source: -expected.get(source.retriever.name, -1.0))
        skipped = [source for source in sources if source.retriever.name in away]
        return _choice(kept, beliefs, skipped, expected)
    if known is None:
        return Choice(tuple(sources), {}, ())
    searched = known.searched(np.array([list(logs.values())]), choosing.mass)[0].tolist()
    unlikely = {corpus for corpus, inside in zip(logs, searched, strict=True) if not inside}
    skipped = [source for source in sources if source.pilots is not None and source.retriever.corpus in unlikely]
    return _choice([source for source in sources if source not in skipped], beliefs, skipped)


def _choice(
    kept: Sequence[Searchable], beliefs: Mapping[str, float], skipped: Sequence[Searchable],
    expected: Mapping[str, float] | None = None,
) -> Choice:  # fmt: skip
    for source in skipped:
        if isinstance(source.retriever, Piloted):
            source.retriever.look_again()
    ordered = dict(sorted(beliefs.items(), key=lambda item: -item[1]))
    return Choice(tuple(kept), ordered, tuple(source.retriever.name for source in skipped), expected or {})


async def _believed(sources: Sequence[Searchable], text: str) -> tuple[Pilots | None, dict[str, float]]:
    """The pilots of the corpora that can tell, and the log-probability that each holds what is asked; nothing where
    fewer than two can tell under one encoder."""
    telling: dict[str, tuple[Vectors, Embedding]] = {}
    for source in sources:
        pilots, embedding = source.pilots, source.embedding
        if pilots is not None and embedding is not None:
            telling.setdefault(source.retriever.corpus, (pilots, embedding))
    spaces: dict[str, list[str]] = {}
    for corpus, (_, embedding) in telling.items():
        spaces.setdefault(embedding.encoder.fingerprint, []).append(corpus)
    corpora: list[str] = max(spaces.values(), key=len) if spaces else []
    if len(corpora) < 2:
        return None, {}
    vector = await telling[corpora[0]][1].embed([text], [1.0])
    known = Pilots(tuple(telling[corpus][0] for corpus in corpora), (1,) * len(corpora))
    return known, dict(zip(corpora, known.beliefs(vector[None, :])[0].tolist(), strict=True))


def merged(lists: Sequence[Sequence[Passage]], choice: Choice, ranker: Ranker | None) -> list[Passage]:
    """One list from several, a passage that several hold once. `score` is the ranker's, or the sum of 1 / (60 + rank)
    (Cormack, Clarke and Buettcher 2009), where a list's ranks begin 5 later for every factor e that its corpus is less
    likely than the likeliest; one that cannot tell counts as the mean. What the only source found stays as it is
    without a ranker: with one, what a hybrid retriever found by vectors and by words is ordered by its weights."""
    if ranker is not None and all(
        passage.ways and passage.ways.keys() <= {*ranker.retrievers} for found in lists for passage in found
    ):
        table, passages = found_in(lists, choice.beliefs, ranker.retrievers)
        if not passages:
            return []
        scores = ranker.scores(table)
        order: list[int] = np.argsort(-scores, kind="stable").tolist()
        return [replace(passages[int(place)], score=round(float(scores[place]), 6)) for place in order]
    if len(lists) == 1 and len(choice.sources) <= 1:
        return list(lists[0])
    first: dict[tuple[str, str], Passage] = {}
    total: dict[tuple[str, str], float] = {}
    beliefs = choice.beliefs
    typical = float(np.mean(list(beliefs.values()))) if beliefs else 1.0
    likeliest = max(beliefs.values(), default=1.0)
    for found in lists:
        for rank, passage in enumerate(found, 1):
            key = (passage.corpus, passage.id)
            first.setdefault(key, passage)
            belief = max(beliefs.get(passage.corpus, typical), 1e-9)
            total[key] = total.get(key, 0.0) + 1 / (RRF + rank + SET_BACK * log(likeliest / belief))
    best = sorted(total, key=lambda key: -total[key])
    return [replace(first[key], score=round(total[key], 6)) for key in best]


def found_in(
    lists: Sequence[Sequence[Passage]], beliefs: Mapping[str, float], ways: Sequence[str]
) -> tuple[Found, list[Passage]]:
    """What a ranker looks at, and the passages in its order; of a corpus that cannot tell, belief is the mean."""
    first: dict[tuple[str, str], Passage] = {}
    said: dict[tuple[str, str], dict[str, float]] = {}
    for found in lists:
        for passage in found:
            key = (passage.corpus, passage.id)
            first.setdefault(key, passage)
            said.setdefault(key, {}).update(passage.ways)
    corpora = {name: place for place, name in enumerate(dict.fromkeys([*beliefs, *(corpus for corpus, _ in first)]))}
    typical = float(np.mean(list(beliefs.values()))) if beliefs else 1.0
    chances = np.array([beliefs.get(name, typical) for name in corpora], np.float64)
    scores = np.array([[said[key].get(way, np.nan) for way in ways] for key in first], np.float64)
    owners: NDArray[np.int64] = np.array([corpora[corpus] for corpus, _ in first], np.int64)
    belief = np.log(np.maximum(chances, 1e-12) / max(float(chances.sum()), 1e-12))
    return Found(scores.reshape(len(first), len(ways)), owners, belief, tuple(corpora)), list(first.values())


async def open_choosing(mass: float, ranker: str | None, chooser: Chooser | None = None) -> Choosing:
    """Raises ConfigError for a ranker that cannot be read."""
    return Choosing(mass, await asyncio.to_thread(load_ranker, Path(ranker)) if ranker else None, chooser)
