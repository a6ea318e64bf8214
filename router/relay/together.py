"""`token` and `verify`: every token of the answer is one that the experts' fused rule picks.

`token` asks every expert for one token at a time, in lock-step. `verify` has one expert draft several, and the others
score the draft in one pass; it is kept as far as the rule would have picked the same, and the rule's own token follows
(speculative decoding, arXiv 2211.17192, with the product of experts as the target). Both pick by the same rule from the
same rows, so both write the same answer, as far as a server's prefill and its decoding agree in the last digits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import TypeVar

from experts.errors import ExpertError
from experts.protocols import Said, Top
from router.parts import Part
from router.protocols import Voices
from router.relay.desk import Desk
from router.relay.rule import Draw, Pick, pick

LEAST_DRAFT = 2
FIRST_DRAFT = 8

T = TypeVar("T")


class Together:
    """The experts at work on one answer, with their weights. One that fails leaves; the others go on."""

    def __init__(self, desk: Desk, voices: Voices, parts: Sequence[Part], weights: Sequence[float], top: int,
                 draw: Draw) -> None:  # fmt: skip
        self._desk = desk
        self._voices = voices
        self._parts = list(parts)
        self._weights = dict(zip((part.expert for part in parts), weights, strict=True))
        self._top = top
        self._draw = draw
        self._speakers: list[str] = []
        self._told = 0
        self.drafted = self.accepted = self.rounds = 0

    async def token(self) -> None:
        """Lock-step, until the answer has ended."""
        desk = self._desk
        while desk.open and self._room():
            answer = list(desk.tokens)
            rows, _ = await asyncio.gather(
                self._each([part.drafted(answer, 1, self._top) for part in self._parts]), self._tell()
            )
            self.rounds += 1
            said = [row[0] for row in rows]
            await self._take(self._pick([one.top for one in said]), said)
        await self._tell()

    async def verify(self, most: int) -> None:
        """Draft and judge, until the answer has ended. Drafts have at most `most` tokens: twice as many as the last
        where that was kept whole, else one more than was kept. Who liked the rule's own token best drafts next."""
        desk = self._desk
        length = min(FIRST_DRAFT, most)
        drafter: Part = self._parts[0]
        while desk.open and (room := self._room()):
            if drafter not in self._parts:
                drafter = self._parts[0]
            answer = list(desk.tokens)
            drafting = self._one(drafter, drafter.drafted(answer, min(length, room), self._top))
            draft, _ = await asyncio.gather(drafting, self._tell())
            if draft is None:
                continue
            words = [said.token for said in draft]
            scored = await self._each([self._judged(part, drafter, answer, draft) for part in self._parts])
            self.rounds += 1
            self.drafted += len(draft)
            kept = 0
            for place, said in enumerate(draft):
                found = self._pick([row[place] for row in scored])
                await self._take(found, [said])
                if found.token != words[place]:
                    drafter = self._parts[found.voice]
                    break
                kept += 1
                if not desk.open:
                    break
            self.accepted += kept
            length = min(2 * length, most) if kept == len(draft) else max(LEAST_DRAFT, kept + 1)
        await self._tell()

    async def _judged(self, part: Part, drafter: Part, answer: list[int], draft: Sequence[Said]) -> list[Top]:
        if part is drafter:
            return [said.top for said in draft]
        return await part.scored(answer, [said.token for said in draft[:-1]], self._top)

    async def _tell(self) -> None:
        """Give the client what has been written since, each stretch as its speaker's."""
        tokens, start = list(self._desk.tokens), self._told
        if start == len(tokens):
            return
        self._told = len(tokens)
        ends = [i for i in range(start + 1, len(tokens)) if self._speakers[i] != self._speakers[i - 1]] + [len(tokens)]
        texts = await asyncio.gather(*(self._parts[0].call.text(tokens[:end]) for end in ends))
        for end, text in zip(ends, texts, strict=True):
            await self._desk.catch_up(self._speakers[end - 1], text, end - start)
            start = end

    async def _take(self, found: Pick, said: Sequence[Said]) -> None:
        """The rule's token, unless the answer ends with it."""
        if await self._ends(found.token, said):
            self._desk.end("stop")
        else:
            self._desk.tokens.append(found.token)
            self._speakers.append(self._parts[found.voice].expert)

    def _pick(self, rows: Sequence[Top]) -> Pick:
        weights = [self._weights[part.expert] for part in self._parts]
        return pick(rows, weights, len(self._desk.tokens), self._draw)

    async def _ends(self, token: int, said: Sequence[Said]) -> bool:
        """Whoever said the token knows; where nobody did, it is found out."""
        for one in said:
            if one.token == token:
                return one.end == "stop"
        return await self._parts[0].call.ends(token)

    def _room(self) -> int:
        """Tokens that the answer may still grow by. Ends it where there are none."""
        answer = self._desk.tokens
        most = self._desk.room(min(part.left(answer) for part in self._parts))
        if most <= 0:
            self._desk.end("length")
        return max(most, 0)

    async def _each(self, asked: Sequence[Awaitable[T]]) -> list[T]:
        """What every expert says, in the order of `_parts`; those that fail have left it. Raises the last failure
        where nobody is left."""
        pairs = zip(tuple(self._parts), asked, strict=True)
        found = await asyncio.gather(*(self._one(part, one) for part, one in pairs))
        return [one for one in found if one is not None]

    async def _one(self, part: Part, asked: Awaitable[T]) -> T | None:
        try:
            return await asked
        except ExpertError as fault:
            if len(self._parts) == 1:
                raise
            self._parts.remove(part)
            self._voices.note(left=f"{part.expert}: {fault.message}")
            return None
