"""How calls of compositions start, and how requests are decided on: one a pass of the event loop, first come first.

However many councils are under way, a request for a single expert then waits for one of each at most, and not for all
seats that are ready, or all requests that arrive, at once. Where nobody waits, passing costs nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque


class Turnstile:
    """A queue of one process, on its event loop."""

    __slots__ = ("_turning", "_waiting")

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._turning = False

    async def enter(self) -> None:
        loop = asyncio.get_running_loop()
        if not self._turning:
            self._turning = True
            loop.call_soon(self._turn, loop)
            return
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.append(turn)
        await turn

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let the next one in who still waits; the one after it gets the next pass."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                loop.call_soon(self._turn, loop)
                return
        self._turning = False
