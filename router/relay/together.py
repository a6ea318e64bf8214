"""`token` and `verify`: every token of the answer is one that the experts' fused rule picks.

`token` asks every expert for one token at a time, in lock-step. `verify` has one expert draft its likeliest tokens;
the others score what there is in one pass, while it goes on; it is kept as far as the rule would have picked the same,
and the rule's own token follows (speculative decoding, arXiv 2211.17192, with the product of experts as the target).
Both pick by the same rule from the same rows, so both write the same answer, as far as a server's prefill and its
decoding agree in the last digits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from time import perf_counter
from typing import TypeVar

from experts.errors import ExpertError
from experts.protocols import Said, Top
from router.parts import Part
from router.protocols import Voices
from router.relay.desk import Desk
from router.relay.drafting import Drafting
from router.relay.pace import Pace
from router.relay.rule import Draw, Pick, pick

AHEAD = 4
"""A drafter says this many times as many tokens as are judged at a time, before it is asked again. Where tokens are
limited, no more than are judged: those that are not kept count too."""

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

    async def verify(self, pace: Pace) -> None:
        """Draft and judge, until the answer has ended. `pace` says how much is judged at a time; who liked the rule's
        own token best drafts next."""
        length, drafter = pace.first(), self._parts[0]
        while self._desk.open and (room := self._room()):
            if drafter not in self._parts:
                drafter = self._parts[0]
            most = min(room, length if self._voices.budget.limited else AHEAD * length)
            async with Drafting(drafter, list(self._desk.tokens), most, self._top) as drafting:
                length, drafter = await self._kept(drafter, drafting, pace, length)
        await self._tell()

    async def _kept(self, drafter: Part, drafting: Drafting, pace: Pace, length: int) -> tuple[int, Part]:
        """Judge a draft behind its drafter, who goes on meanwhile, until the rule picks another token, or it ends.
        Returns how much to judge next, and who drafts."""
        desk = self._desk
        await asyncio.gather(drafting.began(), self._tell())
        while desk.open:
            started, answer = perf_counter(), list(desk.tokens)
            draft, _ = await asyncio.gather(drafting.following(length), self._tell())
            if not desk.open:
                break
            if not draft:
                await self._ended(drafter, drafting)
                break
            scored = await self._each([self._judged(part, drafter, answer, draft) for part in self._parts])
            kept, picked = await self._agreed(draft, scored)
            self.rounds += 1
            self.drafted += len(draft)
            self.accepted += kept
            if len(draft) == length:  # the end of a draft is shorter than what was asked for
                pace.took(length, perf_counter() - started, len(desk.tokens) - len(answer))
            length = pace.following(length, len(draft), kept)
            if picked is not None:
                return length, self._parts[picked.voice]
        return length, drafter

    async def _agreed(self, draft: Sequence[Said], scored: Sequence[Sequence[Top]]) -> tuple[int, Pick | None]:
        """Takes a draft as far as the rule picks the same: how many of its tokens, and the rule's own after them, if
        there is one."""
        for place, said in enumerate(draft):
            if not self._desk.open:
                return place, None
            picked = self._pick([row[place] for row in scored])
            await self._take(picked, [said])
            if picked.token != said.token:
                return place, picked
        return len(draft), None

    async def _ended(self, drafter: Part, drafting: Drafting) -> None:
        """The drafter says no more, and the answer goes on: it failed, or its server's room is used up."""
        if drafting.fault is not None:
            self._left(drafter, drafting.fault)
        elif not await drafting.began():
            self._desk.end("length")

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
            self._left(part, fault)
            return None

    def _left(self, part: Part, fault: ExpertError) -> None:
        """Go on without an expert that failed. Raises the fault where nobody else is left."""
        if len(self._parts) == 1:
            raise fault
        self._parts.remove(part)
        self._voices.note(left=f"{part.expert}: {fault.message}")
