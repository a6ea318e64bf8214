"""Several processes as one: started together, ready together, stopped together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import Enum
from time import monotonic
from types import TracebackType
from typing import NamedTuple, Self

import aiohttp

from experts.errors import ExpertDown
from experts.fleet.process import Process, Task, start, tail

POLL_S = 0.2


class State(Enum):
    STARTING = "starting"
    READY = "ready"
    ENDED = "ended"


class Standing(NamedTuple):
    """How one process stands: seconds it has taken so far, or took until it was ready."""

    task: Task
    state: State
    took_s: float


class Fleet:
    """Runs tasks for as long as the `async with` block lasts; leaving it leaves no process behind.

    Tasks are started in order. The last one (a gateway, before its servers) is stopped first, then all others.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._tasks = tuple(tasks)
        self._processes: list[Process] = []
        self._took: dict[str, float] = {}
        self._started = 0.0

    async def __aenter__(self) -> Self:
        self._started = monotonic()
        try:
            for task in self._tasks:
                self._processes.append(await start(task))
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.shield(asyncio.create_task(self._stop()))

    async def _stop(self) -> None:
        for process in self._processes[-1:]:
            await process.stop()
        await asyncio.gather(*(process.stop() for process in self._processes))

    def standing(self) -> tuple[Standing, ...]:
        now = monotonic() - self._started
        return tuple(
            Standing(process.task, self._state(process), self._took.get(process.task.name, now))
            for process in self._processes
        )

    def _state(self, process: Process) -> State:
        if process.status is not None:
            return State.ENDED
        return State.READY if process.task.name in self._took else State.STARTING

    async def ready(self, timeout_s: float, watch: Callable[[Sequence[Standing]], None] | None = None) -> None:
        """Waits until every process answers; `watch` is told how they stand, several times a second.

        Raises ExpertDown, with the last lines of its log, when one ends, or takes longer than `timeout_s`.
        """
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
            while True:
                for process in self._processes:
                    if process.task.name not in self._took and await _answers(session, process.task.ready_url):
                        self._took[process.task.name] = monotonic() - self._started
                if watch is not None:
                    watch(self.standing())
                self._check(timeout_s)
                if len(self._took) == len(self._processes):
                    return
                await asyncio.sleep(POLL_S)

    def _check(self, timeout_s: float) -> None:
        for process in self._processes:
            if process.status is not None:
                raise process.failure()
        late = [process.task for process in self._processes if process.task.name not in self._took]
        if late and monotonic() - self._started > timeout_s:
            raise ExpertDown(
                f"{late[0].name} was not ready within {timeout_s:.0f} s (GET {late[0].ready_url}). "
                f"The last lines of {late[0].log}:\n{tail(late[0].log)}",
                expert=late[0].name,
            )

    async def until_one_ends(self) -> Process:
        """Waits; returns the first process that ends."""
        waits = {asyncio.create_task(process.ended()): process for process in self._processes}
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        return waits[done.pop()]


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    with suppress(aiohttp.ClientError, TimeoutError):
        async with session.get(url) as response:
            return response.status == 200
    return False
