"""Passages for a query: searched, merged, cut to a budget, and put before the question.

A retriever that is down, slow or broken costs the answer its passages, never the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import monotonic, perf_counter
from typing import Any, NamedTuple, cast

import msgspec
import orjson

from experts.errors import ConsiliumError
from experts.language import Message, Part, Passage, Query
from experts.retrieval.prompting import TEMPLATE, cited, frame
from router.embedding import Embedding
from router.gate import Gate
from router.outcomes import CHARS_PER_TOKEN
from router.retrieval.choosing import USUAL, Choice, Choosing, Searchable, choose, merged

LATEST = 0.05
"""How much the latest search counts in what the next one is expected to take."""
FORGET_S = 60.0


class Pace:
    """How long the searches of a route take: a moving mean in seconds, 0 before the first one. It halves with every
    minute without a search, so that a slow one keeps nobody from searching for good. `clock`: in seconds."""

    __slots__ = ("_at", "_clock", "_mean_s")

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._mean_s, self._at, self._clock = 0.0, 0.0, clock

    @property
    def expected_s(self) -> float:
        return self._mean_s * 0.5 ** ((self._clock() - self._at) / FORGET_S)

    def took(self, seconds: float) -> None:
        before = self.expected_s
        self._mean_s = before + (seconds - before) * LATEST if before else seconds
        self._at = self._clock()


@dataclass(frozen=True, slots=True)
class Lookup:
    """A route's retrieval, ready. `embedding` embeds the query for the gate, where it was fitted. `price_s`: the gain
    that a second of searching must bring."""

    sources: tuple[Searchable, ...]
    passages: int
    max_tokens: int
    timeout_s: float
    gate: Gate
    template: str = TEMPLATE
    embedding: Embedding | None = None
    choosing: Choosing = USUAL
    price_s: float = 0.0
    pace: Pace = field(default_factory=Pace)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(source.retriever.name for source in self.sources)


class Found(NamedTuple):
    """`choice`: which of the sources were searched. `failed`: retriever -> why it found nothing."""

    passages: list[Passage]
    choice: Choice
    failed: dict[str, str]
    took_s: float


async def search(
    sources: Sequence[Searchable], text: str, k: int, timeout_s: float | None = None, choosing: Choosing = USUAL
) -> Found:  # fmt: skip
    """The best k of the sources that are worth searching. `timeout_s`: for all together; each has its own limit too."""
    started = perf_counter()
    choice = await _chosen(sources, text, timeout_s, choosing)
    left = None if timeout_s is None else max(timeout_s - (perf_counter() - started), 0.0)
    lists, failed = await asked_of(choice.sources, text, choosing.depth(k, choice.sources), left)
    passages = merged(lists, choice, choosing.ranker)[:k]
    return Found(passages, choice, failed, perf_counter() - started)


async def asked_of(
    sources: Sequence[Searchable], text: str, k: int, timeout_s: float | None
) -> tuple[list[list[Passage]], dict[str, str]]:
    """What each source that answers finds; and retriever -> why it found nothing."""
    heard = await asyncio.gather(*(_ask(source, text, k, timeout_s) for source in sources))
    failed = {s.retriever.name: why for s, why in zip(sources, heard, strict=True) if isinstance(why, str)}
    return [found for found in heard if not isinstance(found, str)], failed


async def _chosen(
    sources: Sequence[Searchable], text: str, timeout_s: float | None, choosing: Choosing
) -> Choice:  # fmt: skip
    """Every source where the query cannot be embedded in time: each then says so itself."""
    try:
        async with asyncio.timeout(min([source.timeout_s for source in sources], default=timeout_s)
                                   if timeout_s is None else timeout_s):  # fmt: skip
            return await choose(sources, text, choosing)
    except (TimeoutError, ConsiliumError):
        return Choice(tuple(sources), {}, ())


async def _ask(source: Searchable, text: str, k: int, timeout_s: float | None) -> list[Passage] | str:
    limit = source.timeout_s if timeout_s is None else min(timeout_s, source.timeout_s)
    try:
        async with asyncio.timeout(limit):
            vector = await source.embedding.embed([text], [1.0]) if source.embedding is not None else None
            return await source.retriever.search(text, vector, k)
    except TimeoutError:
        return f"said nothing in {limit:.3g} s"
    except ConsiliumError as fault:
        return fault.message


def within(passages: Sequence[Passage], max_tokens: int) -> list[Passage]:
    """The first passages that fit the budget, the last one perhaps cut at a word."""
    left = int(max_tokens * CHARS_PER_TOKEN)
    kept: list[Passage] = []
    for passage in passages:
        size = len(passage.title) + len(passage.text)
        if size > left:
            room = left - len(passage.title)
            if not kept and room > 0:
                kept.append(replace(passage, text=passage.text[:room].rpartition(" ")[0] or passage.text[:room]))
            break
        kept.append(passage)
        left -= size
    return kept


def tokens_of(passages: Sequence[Passage]) -> float:
    return sum(len(passage.title) + len(passage.text) for passage in passages) / CHARS_PER_TOKEN


def informed(query: Query, passages: Sequence[Passage], template: str) -> Query:
    """The query with the passages in its last user turn (or its prompt). A turn of parts gets one more, before them.
    `frame` tells what was put there, so that whoever reads the question reads what the user said."""
    before, after = frame(passages, template)
    if query.api == "completion":
        prompt = orjson.loads(bytes(query.fields["prompt"]))
        if not isinstance(prompt, str):
            return query
        told = f"{before}{prompt}{after}"
        return replace(query.with_fields(prompt=told), messages=(Message("user", told),), frame=(before, after))
    turns = cast(list[dict[str, Any]], orjson.loads(bytes(query.fields["messages"])))
    place = next((i for i in range(len(turns) - 1, -1, -1) if turns[i].get("role") == "user"), None)
    if place is None:
        return query
    content = turns[place].get("content")
    if isinstance(content, list):
        parts = cast(list[dict[str, Any]], content)
        turns[place] = {**turns[place], "content": [{"type": "text", "text": before + after}, *parts]}
        before, after = f"{before}{after}\n", ""
    else:
        turns[place] = {**turns[place], "content": f"{before}{content or ''}{after}"}
    told = Message(query.messages[place].role, _content(turns[place]["content"]))
    messages = (*query.messages[:place], told, *query.messages[place + 1 :])
    return replace(query.with_fields(messages=turns), messages=messages, frame=(before, after))


def _content(content: Any) -> str | list[Part]:
    return content if isinstance(content, str) else msgspec.convert(content, list[Part])


def asked_text(query: Query) -> str:
    """What is searched for: the last user turn."""
    return query.user_texts()[-1] if query.messages else ""


def citations(passages: Sequence[Passage], answer: str) -> list[dict[str, Any]]:
    """The sources of an answer by their numbers, and which of them it cites as `[1]`."""
    used = cited(answer, len(passages))
    return [{"number": n, **passage_json(passage), "cited": n in used} for n, passage in enumerate(passages, 1)]


def passage_json(passage: Passage, *, text: bool = False) -> dict[str, Any]:
    said: Mapping[str, Any] = {"text": passage.text} if text else {}
    more: Mapping[str, Any] = {"metadata": dict(passage.metadata)} if text and passage.metadata else {}
    return {"id": passage.id, "title": passage.title, "score": round(passage.score, 6),
            "retriever": passage.retriever, "corpus": passage.corpus, **said, **more}  # fmt: skip
