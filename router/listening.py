"""Listening to one call: it is counted as it speaks, and ends where its grant ends."""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter
from typing import Any

from experts.hearing import Ear
from experts.language import Delta, Query, Spoken
from experts.protocols import Emit
from router.budget import Grant, Limit


class Enough(Exception):
    """Raised into a call that has said all it may."""


class Listener:
    """Counts what one call says on its way to the client, or to nobody, and ends it where its grant ends."""

    __slots__ = ("_emit", "_grant", "_query", "ear", "first_at", "spoken")

    def __init__(self, query: Query, emit: Emit | None, grant: Grant) -> None:
        self.ear = Ear()
        self.first_at = 0.0
        self.spoken: list[Spoken] = []
        self._emit = emit if query.stream else None
        self._grant = grant
        self._query = query

    def finish(self) -> str | None:
        return self.ear.finish

    async def take(self, delta: Delta) -> None:
        before = self.ear.tokens
        self.ear.feed(delta.events)
        self.spoken += delta.spoken
        if not self.first_at and self.ear.tokens:
            self.first_at = perf_counter()
        if self._emit is not None:
            await self._emit(delta)
        most = self._grant.completion
        if most is not None and self.ear.tokens > before and self.ear.tokens >= most:
            raise Enough


def within(query: Query, grant: Grant) -> Query:
    """What the expert is sent: as a stream, so that it can be counted, and with the tokens of its grant."""
    changes: dict[str, Any] = {"stream": True}
    if query.include_usage:
        changes["stream_options"] = None
    if grant.told != query.max_tokens:
        name = "max_completion_tokens" if "max_completion_tokens" in query.fields else "max_tokens"
        changes[name] = grant.told
    return replace(query.with_fields(**changes), stream=True, include_usage=False, max_tokens=grant.told)


def by_grant(query: Query, grant: Grant) -> bool:
    return grant.told is not None and (query.max_tokens is None or grant.told < query.max_tokens)


def scarce(grant: Grant) -> Limit:
    return grant.binding if grant.binding in ("tokens", "usd") else "tokens"
