"""State that gateway processes share, as seven methods.

Two kinds: `memory` (one process) and `redis` (any number of gateways). Nothing but `router/ledger.py` calls them.
"""

from __future__ import annotations

from typing import Protocol


class Store(Protocol):
    """Rates, slots and small values under string keys. No method raises because the store cannot be reached."""

    async def take(self, key: str, *, capacity: float, per_s: float, n: float = 1.0) -> float:
        """Take `n` tokens from a bucket of `capacity` that refills at `per_s` tokens a second.

        Returns 0.0 when granted, else the seconds until it would be (and nothing is taken). Raises ValueError where
        it could never be: n > capacity, or a rate that is not positive.
        """
        ...

    async def enter(self, key: str, *, most: int, ttl_s: float) -> bool:
        """Hold one of `most` slots until `leave`; False where all are held.

        Slots of a process that dies without leaving are free again after at most `ttl_s` seconds.
        """
        ...

    async def leave(self, key: str) -> None:
        """Give one slot back; nothing happens where this process holds none."""
        ...

    async def count(self, key: str) -> int:
        """Slots held now, by all processes."""
        ...

    async def get(self, key: str) -> bytes | None:
        """The value last put, None where there is none or its time is over."""
        ...

    async def put(self, key: str, value: bytes, ttl_s: float) -> None: ...

    async def close(self) -> None:
        """Give back everything this process holds."""
        ...


def check_rate(capacity: float, per_s: float, n: float) -> None:
    """Raises ValueError where a bucket could never grant `n` tokens."""
    if not per_s > 0:
        raise ValueError(f"per_s: expected more than 0 tokens a second, got {per_s}")
    if not 0 <= n <= capacity:
        raise ValueError(f"n: expected 0 to {capacity} tokens (the bucket's capacity), got {n}")
