"""The store of a gateway that is one process: dictionaries and a clock."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from router.store.protocol import check_rate

SWEEP_FROM = 1024


class MemoryStore:
    """State that ends with the process, so slots need no expiry. Keys whose time is over are swept as others come.

    `take` is the generic cell rate algorithm (ITU-T I.371): one number a key, the time at which its bucket is full.
    """

    def __init__(self, *, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._full_at: dict[str, float] = {}
        self._held: dict[str, int] = {}
        self._values: dict[str, tuple[bytes, float]] = {}
        self._sweep_at = SWEEP_FROM

    async def take(self, key: str, *, capacity: float, per_s: float, n: float = 1.0) -> float:
        check_rate(capacity, per_s, n)
        now = self._clock()
        full_at = max(self._full_at.get(key, now), now) + n / per_s
        wait = full_at - capacity / per_s - now
        if wait > 1e-9:  # clocks have no finer grain: less is rounding, and a wait of 0.0 must mean granted
            return wait
        self._full_at[key] = full_at
        self._sweep(now)
        return 0.0

    async def enter(self, key: str, *, most: int, ttl_s: float) -> bool:
        held = self._held.get(key, 0)
        if held >= most:
            return False
        self._held[key] = held + 1
        return True

    async def leave(self, key: str) -> None:
        held = self._held.get(key, 0)
        if held > 1:
            self._held[key] = held - 1
        else:
            self._held.pop(key, None)

    async def count(self, key: str) -> int:
        return self._held.get(key, 0)

    async def get(self, key: str) -> bytes | None:
        value, until = self._values.get(key, (None, 0.0))
        return value if until > self._clock() else None

    async def put(self, key: str, value: bytes, ttl_s: float) -> None:
        now = self._clock()
        self._values[key] = value, now + ttl_s
        self._sweep(now)

    async def close(self) -> None:
        self._full_at.clear()
        self._held.clear()
        self._values.clear()

    def _sweep(self, now: float) -> None:
        """Drop what time has made meaningless, each time the keys have doubled: constant cost a call on average."""
        if len(self._full_at) + len(self._values) < self._sweep_at:
            return
        self._full_at = {key: full_at for key, full_at in self._full_at.items() if full_at > now}
        self._values = {key: kept for key, kept in self._values.items() if kept[1] > now}
        self._sweep_at = max(SWEEP_FROM, 2 * (len(self._full_at) + len(self._values)))
