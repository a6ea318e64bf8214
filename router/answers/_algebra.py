"""Whether two LaTeX expressions are one: decided by SymPy in a child process that is killed when it takes too long.

`math-verify` parses with an ANTLR grammar and never evaluates a text as Python, which SymPy's own parser does; but
simplifying what a model wrote can take forever, so it happens apart, within a limit of memory, and one pair has
`seconds`. What is not decided in time counts as different.
"""

from __future__ import annotations

import asyncio
import resource
import sys
from asyncio.subprocess import PIPE, Process
from collections import OrderedDict
from contextlib import suppress
from typing import Any, cast

import orjson

REMEMBERED = 4096
START_S = 30.0
MEMORY = 2 * 2**30


class Algebra:
    """One child at a time, started with the first pair; it ends with its parent's end of the pipe."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._child: Process | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turn = asyncio.Lock()
        self._known: OrderedDict[tuple[str, str], bool] = OrderedDict()

    async def same(self, one: str, other: str) -> bool:
        pair = (one, other) if one <= other else (other, one)
        if pair not in self._known:
            verdict = await self._ask(pair)
            self._known[pair] = verdict
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return self._known[pair]

    async def close(self) -> None:
        child, self._child = self._child, None
        if child is not None and child.returncode is None:
            with suppress(ProcessLookupError):
                child.kill()
            await child.wait()

    async def _ask(self, pair: tuple[str, str]) -> bool:
        if self._loop is not asyncio.get_running_loop():
            self._child, self._loop, self._turn = None, asyncio.get_running_loop(), asyncio.Lock()
        async with self._turn:
            try:
                async with asyncio.timeout(START_S):
                    child = await self._ready()
                assert child.stdin is not None
                assert child.stdout is not None
                async with asyncio.timeout(self._seconds):
                    child.stdin.write(orjson.dumps(pair) + b"\n")
                    await child.stdin.drain()
                    line = await child.stdout.readline()
            except (TimeoutError, ConnectionError):
                await self.close()
                return False
            except asyncio.CancelledError:
                await self.close()
                raise
            if not line:
                await self.close()
            return line == b"true\n"

    async def _ready(self) -> Process:
        if self._child is not None and self._child.returncode is None:
            return self._child
        self._child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", __name__, stdin=PIPE, stdout=PIPE, stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        assert self._child.stdout is not None
        await self._child.stdout.readline()
        return self._child


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    import math_verify

    parse, verify = cast(Any, math_verify).parse, cast(Any, math_verify).verify

    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin.buffer:
        one, other = orjson.loads(line)
        try:
            left, right = (parse(f"${side}$", parsing_timeout=None) for side in (one, other))
            equal = bool(left and right and verify(left, right, timeout_seconds=None))
        except (ArithmeticError, LookupError, MemoryError, RecursionError, RuntimeError, TypeError, ValueError):
            equal = False
        sys.stdout.write("true\n" if equal else "false\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
