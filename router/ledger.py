"""What is counted across processes: who may send another request, and whether an expert takes one more.

The only file that touches the store. Plain calls in pairs (`admit` and `release`, `enter_expert` and `leave_expert`):
where no limit is set they return without touching the store at all.
"""

from __future__ import annotations

from typing import Protocol

from experts.errors import Limited
from router.store.protocol import Store

SLOT_TTL_S = 30.0
"""How long the slots of a gateway that was killed stay taken."""

RETRY_BUSY_S = 1.0
"""What a caller at its concurrency limit is told to wait: nobody knows when one of its calls ends."""


class Limits(Protocol):
    """The part of an expert's manifest that is counted here; None: unlimited."""

    @property
    def concurrency(self) -> int | None: ...

    @property
    def requests_per_minute(self) -> int | None: ...


class Ledger:
    """Limits of callers and experts over one store.

    A limit of r requests a minute is a bucket of r tokens that refills evenly: r at once, then one each 60/r seconds.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._held: dict[
            str, int
        ] = {}  # a limit may come and go while calls are under way: only what was entered leaves

    async def admit(self, who: str, *, rpm: int | None, concurrency: int | None) -> None:
        """Let one request of this caller in; `release` must follow. Raises Limited, and then it must not."""
        if rpm is None and concurrency is None:
            return
        key = "caller:" + who
        if concurrency is not None and not await self._enter(key, concurrency):
            raise Limited(
                f"{who}: {concurrency} requests are under way, its most at a time; wait for one to end",
                retry_after_s=RETRY_BUSY_S,
            )
        if rpm is not None and (wait := await self._take(key, rpm, entered=concurrency is not None)):
            raise Limited(
                f"{who}: its {rpm} requests a minute are spent; try again in {wait:.1f} s", retry_after_s=wait
            )

    async def release(self, who: str) -> None:
        """The request that was admitted has ended, however it ended."""
        if self._held:
            await self._leave("caller:" + who)

    async def enter_expert(self, name: str, limits: Limits) -> bool:
        """Take one of the expert's slots; False where it takes no more now. `leave_expert` must follow a True."""
        concurrency, rpm = limits.concurrency, limits.requests_per_minute
        if concurrency is None and rpm is None:
            return True
        key = "expert:" + name
        if concurrency is not None and not await self._enter(key, concurrency):
            return False
        return rpm is None or not await self._take(key, rpm, entered=concurrency is not None)

    async def leave_expert(self, name: str) -> None:
        """The call has ended, however it ended."""
        if self._held:
            await self._leave("expert:" + name)

    async def close(self) -> None:
        await self._store.close()

    async def _take(self, key: str, rpm: int, *, entered: bool) -> float:
        """Seconds until the rate allows it; a slot that was entered before is given back unless that is 0.0."""
        wait = SLOT_TTL_S
        try:
            wait = await self._store.take(key, capacity=rpm, per_s=rpm / 60)
        finally:
            if wait and entered:
                await self._leave(key)
        return wait

    async def _enter(self, key: str, most: int) -> bool:
        if not await self._store.enter(key, most=most, ttl_s=SLOT_TTL_S):
            return False
        self._held[key] = self._held.get(key, 0) + 1
        return True

    async def _leave(self, key: str) -> None:
        held = self._held.get(key, 0)
        if not held:
            return
        if held == 1:
            del self._held[key]
        else:
            self._held[key] = held - 1
        await self._store.leave(key)
