"""A draft under way: what one expert says by itself, read in the background while others judge what there is."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from types import TracebackType

from experts.errors import ExpertError
from experts.protocols import Said
from router.inforce import cancelled
from router.parts import Part


class Drafting:
    """An open stream of the likeliest tokens after an answer, at most `most`, with `top` log-probabilities each.
    Leaving the context ends the work on the server. `fault`: why the expert broke off, if it did."""

    def __init__(self, part: Part, answer: list[int], most: int, top: int) -> None:
        self.fault: ExpertError | None = None
        self._part = part
        self._call = (answer, most, top)
        self._said: list[Said] = []
        self._taken = 0
        self._ended = False
        self._grown = asyncio.Event()

    async def __aenter__(self) -> Drafting:
        self._task = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        await cancelled([self._task])

    async def began(self) -> bool:
        """Whether anything is drafted, once that is known: the prompt has been read."""
        await self._grew(1)
        return bool(self._said)

    async def following(self, count: int) -> list[Said]:
        """The next `count` tokens, once they are there; fewer, or none, where the expert says no more."""
        await self._grew(self._taken + count)
        found = self._said[self._taken : self._taken + count]
        self._taken += len(found)
        return found

    async def _grew(self, length: int) -> None:
        while len(self._said) < length and not self._ended:
            self._grown.clear()
            await self._grown.wait()

    async def _read(self) -> None:
        answer, most, top = self._call
        try:
            said = self._part.continued(answer, most=most, top=top, sampling={"temperature": 0})
            async with aclosing(said):
                async for one in said:
                    self._said.append(one)
                    self._grown.set()
        except ExpertError as fault:
            self.fault = fault
        finally:
            self._ended = True
            self._grown.set()
