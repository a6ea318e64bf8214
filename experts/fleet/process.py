"""One guarded process: started, watched until it answers, stopped with everything it started."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from experts.errors import ConfigError, ExpertDown
from experts.fleet import guard as guard_module

GRACE_S = 10.0
"""Seconds a server may take to stop before it is killed."""

TAIL_LINES = 15


@dataclass(frozen=True, slots=True)
class Task:
    """What to run and how to know that it is ready: `url` answers 200. `env` is added to this process's."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    ready_url: str
    log: Path


class Process:
    """A task that is running under its guard."""

    def __init__(self, task: Task, guard: asyncio.subprocess.Process) -> None:
        self.task = task
        self._guard = guard

    @property
    def pid(self) -> int:
        """The guard's. What it guards has another one."""
        return self._guard.pid

    @property
    def status(self) -> int | None:
        """The exit status, or None while it runs."""
        return self._guard.returncode

    async def ended(self) -> int:
        return await self._guard.wait()

    def release(self) -> None:
        """Asks it to stop, by closing the pipe that the guard watches. Returns at once."""
        if self._guard.stdin is not None:
            self._guard.stdin.close()

    async def stop(self) -> None:
        """Stops it; returns when no process of it is left."""
        self.release()
        try:
            async with asyncio.timeout(GRACE_S + 10):
                await self._guard.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                self._guard.kill()
            await self._guard.wait()

    def failure(self) -> ExpertDown:
        """What to say when it has ended without being asked to."""
        return ExpertDown(
            f"{self.task.name} ended with status {self.status}. The last lines of {self.task.log}:\n"
            f"{tail(self.task.log)}",
            expert=self.task.name,
        )


async def start(task: Task, grace_s: float = GRACE_S) -> Process:
    """Starts a task under a guard, its output going to its log file (replaced)."""
    task.log.parent.mkdir(parents=True, exist_ok=True)
    guard_file = guard_module.__file__  # by path: quicker than `-m`, and independent of the working folder
    with task.log.open("wb") as log:
        guard = await asyncio.create_subprocess_exec(
            sys.executable, "-P", guard_file, str(grace_s), "--", *task.argv,
            stdin=asyncio.subprocess.PIPE, stdout=log, stderr=log, start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **task.env},
        )  # fmt: skip
    return Process(task, guard)


def tail(log: Path, lines: int = TAIL_LINES) -> str:
    """The last lines of a log file, empty ones left out."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 16_384))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return "(no output)"
    kept = [line for line in text.splitlines() if line.strip()]
    return "\n".join(kept[-lines:]) or "(no output)"


def check_port(host: str, port: int, who: str, way_out: str) -> None:
    """Raises ConfigError when somebody already listens there. `way_out` says how to choose another port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as fault:
            raise ConfigError(f"port {port} for {who} is taken ({fault.strerror}): {way_out}") from fault
