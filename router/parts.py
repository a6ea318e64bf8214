"""One expert's part in an answer that several experts write token by token: what it reads and says is counted once."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from math import inf
from typing import Any

from experts.language import Usage
from experts.protocols import Said, TokenCall, Top


class Part:
    """A token call under its share of the budget: `most` tokens, read beyond the prompt or said.

    Tokens that are read again (the server caches prefixes, or a draft is judged) are not counted again.
    """

    __slots__ = ("_most", "_seen", "call", "expert", "read", "said")

    def __init__(self, expert: str, call: TokenCall, most: float = inf) -> None:
        self.expert = expert
        self.call = call
        self.read = 0
        self.said = 0
        self._most = most
        self._seen = 0

    @property
    def usage(self) -> Usage:
        return Usage(len(self.call.prompt) + self.read, self.said)

    def left(self, answer: Sequence[int]) -> int:
        """Tokens that the answer may still grow by, as far as this expert is concerned."""
        unread = max(len(answer) - self._seen, 0)
        return max(int(min(self._most - self.read - self.said - unread, self.call.room - len(answer))), 0)

    async def continued(
        self, answer: Sequence[int], *, most: int, top: int, sampling: Mapping[str, Any]
    ) -> AsyncGenerator[Said]:
        self._reads(len(answer))
        said = self.call.continued(answer, most=most, top=top, sampling=sampling)
        try:
            async for one in said:
                self._says(1)
                yield one
        finally:
            await said.aclose()

    async def drafted(self, answer: Sequence[int], most: int, top: int) -> list[Said]:
        self._reads(len(answer))
        said = await self.call.drafted(answer, most, top)
        self._says(len(said))
        return said

    async def scored(self, answer: Sequence[int], draft: Sequence[int], top: int) -> list[Top]:
        """A draft that is judged is read when it has become part of the answer."""
        self._reads(len(answer))
        return await self.call.scored(answer, draft, top)

    def _reads(self, length: int) -> None:
        self.read += max(length - self._seen, 0)
        self._seen = length

    def _says(self, count: int) -> None:
        self.said += count
        self._seen += count
