"""`span`: one expert speaks; where it is not sure of a token, another says the next stretch, and hands back.

The primary streams as it would alone. At the first token whose confidence is below the threshold the stream is cut, and
the others are asked for that one token, at once. The one that is surest, where it is surer than the primary, speaks for
a stretch (or to its end); then the primary goes on. An expert reads what another said as part of its prompt, of which
its server has all but the last stretch in its cache. Where nobody is surer, the primary goes on over its doubt.

Experts with different tokenizers hand over where a word ends only: each is given the text, cut by its own tokenizer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from experts.errors import ExpertError
from experts.protocols import Said
from router.parts import Part
from router.protocols import Voices
from router.relay.desk import Desk
from router.relay.rule import evenness, top1

VAIN = 4
"""Doubts for each hand-over that is allowed: a primary that is often unsure where nobody knows better goes on alone."""

CONFIDENCE = {"top1": top1, "entropy": evenness}


@dataclass(frozen=True, slots=True)
class Terms:
    """When to hand over, and for how long."""

    threshold: float
    measure: str
    top: int
    stretch: int
    most: int
    sampling: Mapping[str, Any]


class Handing:
    """One answer under way. `hand_overs` and `doubts` count; `alike`: the experts have one tokenizer; `least` is the
    least confidence that was met."""

    def __init__(self, desk: Desk, voices: Voices, terms: Terms, primary: Part) -> None:
        self.hand_overs = self.doubts = 0
        self.least = 1.0
        self.alike = True
        self._desk = desk
        self._voices = voices
        self._terms = terms
        self._primary = primary
        self._sure = CONFIDENCE[terms.measure]

    async def run(self, others: bool, join: Callable[[], Awaitable[list[Part]]]) -> None:
        """Until the answer has ended. `others`: there are some; they `join` when they are first needed, so that an
        answer without a doubt costs nothing more than its primary."""
        desk, terms = self._desk, self._terms
        left: list[Part] | None = None
        brave = 0
        while desk.open:
            answer = await self._given(self._primary)
            doubt = await self._speak(self._primary, answer, None, brave, others)
            if not desk.open or doubt is None:
                break
            self.doubts += 1
            if self.hand_overs >= terms.most or self.doubts > VAIN * terms.most:
                brave = -1
                continue
            if left is None:
                left = await join()
                if not self.alike:
                    continue  # the primary finishes its word
            other = await self._surer(left, self._sure(doubt.top))
            brave = 1
            if other is not None:
                self.hand_overs += 1
                await self._speak(other, await self._given(other), terms.stretch, -1, False)

    async def _speak(self, part: Part, answer: list[int], most: int | None, brave: int, others: bool) -> Said | None:
        """One expert's stretch, to its end, to `most` tokens, or to the doubt that is returned. The first `brave`
        tokens (-1: all) are not doubted."""
        desk, terms, said_before = self._desk, self._terms, 0
        room = desk.room(part.left(answer))
        if room <= 0:
            desk.end("length")
            return None
        stretch = room if most is None else min(most, room)
        late = False
        async with aclosing(part.continued(answer, most=stretch, top=terms.top, sampling=terms.sampling)) as stream:
            async for said in stream:
                if others and said_before >= brave >= 0:
                    sure = self._sure(said.top)
                    self.least = min(self.least, sure)
                    late = late or sure < terms.threshold
                    if late and said.end != "stop" and self._boundary(said):
                        await self._catch_up(part, answer)
                        return said
                said_before += 1
                if said.end != "stop":
                    answer.append(said.token)
                    desk.tokens.append(said.token)
                await desk.say(part.expert, said.text)
                if said.end == "stop":
                    desk.end("stop")
                if not desk.open:
                    return None
        if stretch == room:
            desk.end("length")
        return None

    def _boundary(self, said: Said) -> bool:
        """Whether another tokenizer may take over before this token."""
        text = self._desk.text
        return self.alike or not text or text[-1:].isspace() or said.text[:1].isspace()

    async def _catch_up(self, part: Part, answer: Sequence[int]) -> None:
        """Text that came with a later token of the same piece than the last that was kept."""
        if self.alike and len(answer) > 0:
            await self._desk.catch_up(part.expert, await part.call.text(answer), 0)

    async def _given(self, part: Part) -> list[int]:
        """The answer so far in the expert's own tokens."""
        if self.alike or not self._desk.text:
            return list(self._desk.tokens)
        return await part.call.encoded(self._desk.text)

    async def _surer(self, others: list[Part], than: float) -> Part | None:
        """Who is surer of the next token than the primary; an expert that fails is not asked again."""

        async def sure(part: Part) -> float:
            try:
                answer = await self._given(part)
                if part.left(answer) <= 0:
                    return 0.0
                found = await part.drafted(answer, 1, max(self._terms.top, 1))
            except ExpertError as fault:
                others.remove(part)
                self._voices.note(left=f"{part.expert}: {fault.message}")
                return 0.0
            return self._sure(found[0].top)

        asked = tuple(others)
        found = await asyncio.gather(*(sure(part) for part in asked))
        best = max(range(len(asked)), key=lambda place: found[place], default=-1)
        return asked[best] if best >= 0 and found[best] > than else None
