"""A scripted expert token by token: a token id is its text, so that any id can be read back.

After words that are not its own, it goes on at the same place of its script. Each word has the probability 0.95, or the
one that `unsure` gives it; the word `er` is the next likeliest.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from math import log
from typing import TYPE_CHECKING, Any

from experts.language import Query
from experts.protocols import Said, Top
from experts.speech import Speech

if TYPE_CHECKING:
    from experts.kinds.scripted import ScriptedExpert

WORD = re.compile(r"\S+\s*|\s+")
"""A token: a word with the space after it."""

END = 0
SURE = 0.95
ROOM = 100_000
_FILLER = "er "


def id_of(text: str, tokenizer: str = "words") -> int:
    """The token of a text; another tokenizer has other ids."""
    mark = b"\x01" if tokenizer == "words" else b"\x02"
    return int.from_bytes(mark + text.encode())


def text_of(token: int) -> str:
    return token.to_bytes((token.bit_length() + 7) // 8)[1:].decode() if token != END else ""


class ScriptedCall:
    """`experts.protocols.TokenCall` of a script. Failures and pauses are the script's."""

    def __init__(self, expert: ScriptedExpert, query: Query, speech: Speech) -> None:
        self._expert = expert
        self._speech = speech
        self._options = expert.options
        self.prompt: Sequence[int] = [self._id(message.text) for message in query.messages]
        self.room = ROOM

    async def continued(
        self, answer: Sequence[int], *, most: int, top: int, sampling: Mapping[str, Any]
    ) -> AsyncGenerator[Said]:
        with self._expert.at_work():
            await pause(self._options.delay_s)
            for place in range(len(answer), len(answer) + most):
                said = self._said(place, top)
                yield said if said.end or place < len(answer) + most - 1 else said._replace(end="length")
                if said.end:
                    return
                await pause(self._options.per_token_s)

    async def drafted(self, answer: Sequence[int], most: int, top: int) -> list[Said]:
        return [said async for said in self.continued(answer, most=most, top=top, sampling={})]

    async def scored(self, answer: Sequence[int], draft: Sequence[int], top: int) -> list[Top]:
        with self._expert.at_work():
            return [self._said(place, top).top for place in range(len(answer), len(answer) + len(draft) + 1)]

    async def encoded(self, text: str) -> list[int]:
        return [self._id(word) for word in WORD.findall(text)]

    async def text(self, answer: Sequence[int]) -> str:
        return "".join(text_of(token) for token in answer)

    async def ends(self, token: int) -> bool:
        return token == END

    def _id(self, text: str) -> int:
        return id_of(text, self._options.tokenizer)

    def _said(self, place: int, top: int) -> Said:
        words = self._speech.tokens
        over = place >= len(words)
        text = "" if over else words[place]
        token = END if over else self._id(text)
        sure = self._options.unsure.get(text.strip(), SURE)
        row = {token: log(sure), self._id(_FILLER): log(max(min(1 - sure, 0.9 * sure), 1e-12))}
        likeliest = dict(sorted(row.items(), key=lambda one: (-one[1], one[0]))[: max(top, 1)])
        return Said(token, text, likeliest, "stop" if over else None)


async def pause(seconds: float) -> None:
    if seconds:
        await asyncio.sleep(seconds)
