"""Decisions and outcomes in two Redis streams, for gateways that share a Redis.

The decision stream is bounded to about the newest `keep` entries; a small key beside each entry finds it by its id
for as long as FIND_FOR_S. Of the outcome stream the last entry of a key counts when it is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from experts.errors import ConfigError
from router.records.protocol import Unrecorded
from router.records.rows import Decision, Measured, to_decision, to_json, to_measured

FIND_FOR_S = 30 * 86_400
MOST_OUTCOMES = 5_000_000
PAGE = 500
CALL_S = 5.0


class RedisRecords:
    """Connects on the first call. `keep`: decisions kept, about. `prefix` begins every key; `call_s`: the seconds that
    Redis may take to answer. A call that was not answered is not made again: Redis may have carried it out.

    Raises ConfigError where `url` is not a Redis URL.
    """

    def __init__(self, url: str, *, keep: int, prefix: str = "consilium:", call_s: float = CALL_S) -> None:
        try:
            self._redis: Any = cast(Any, redis.Redis).from_url(
                url, socket_timeout=call_s, socket_connect_timeout=call_s, retry=Retry(NoBackoff(), 0)
            )
        except ValueError as fault:
            expected = "redis://[user:password@]host:port[/database], rediss://… or unix:///path"
            raise ConfigError(f"the Redis URL cannot be read: expected {expected}") from fault
        self._keep = keep
        self._decisions, self._outcomes = prefix + "decisions", prefix + "outcomes"
        self._at = prefix + "decision:"

    def log(self, decisions: Sequence[Decision]) -> None:
        with _reaching():
            adding = self._redis.pipeline(transaction=False)
            for row in decisions:
                adding.xadd(self._decisions, _fields(row), maxlen=self._keep, approximate=True)
            entries = adding.execute()
            pointing = self._redis.pipeline(transaction=False)
            for row, entry in zip(decisions, entries, strict=True):
                pointing.set(self._at + row.id, entry, ex=FIND_FOR_S)
            pointing.execute()

    def decision(self, decision_id: str) -> Decision | None:
        with _reaching():
            entry = self._redis.get(self._at + decision_id)
            found = self._redis.xrange(self._decisions, entry, entry, count=1) if entry else []  # pyright: ignore[reportUnknownVariableType]
        return to_decision(*_stored(found[0][1])) if found else None  # pyright: ignore[reportUnknownArgumentType]

    def decisions(self, route: str | None = None) -> Iterator[Decision]:
        for stored in self._all(self._decisions):
            decision = to_decision(*stored)
            if route is None or decision.route == route:
                yield decision

    def measure(self, outcomes: Sequence[Measured]) -> None:
        with _reaching():
            adding = self._redis.pipeline(transaction=False)
            for row in outcomes:
                adding.xadd(self._outcomes, _fields(row), maxlen=MOST_OUTCOMES, approximate=True)
            adding.execute()

    def measured(self) -> list[Measured]:
        rows = [to_measured(*stored) for stored in self._all(self._outcomes)]
        return list({row.key: row for row in rows}.values())

    def close(self) -> None:
        self._redis.close()

    def _all(self, stream: str) -> Iterator[tuple[bytes, bytes]]:
        after = "-"
        while True:
            with _reaching():
                page = self._redis.xrange(stream, after, "+", count=PAGE)
            for entry, fields in page:
                after = "(" + entry.decode()
                yield _stored(fields)
            if len(page) < PAGE:
                return


def _fields(row: Decision | Measured) -> dict[str, bytes]:
    return {"body": to_json(row), "vector": row.vector}


def _stored(fields: dict[bytes, bytes]) -> tuple[bytes, bytes]:
    return fields[b"body"], fields[b"vector"]


@contextmanager
def _reaching() -> Iterator[None]:
    try:
        yield
    except (redis.RedisError, OSError) as fault:
        raise Unrecorded(f"Redis cannot keep decisions and outcomes: {type(fault).__name__}: {fault}") from fault
