"""The answer that several experts write: its tokens, its text on the way to the client, and why it ended."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

import orjson

from experts.language import Answer, Delta, Query, Usage
from experts.protocols import Emit
from experts.speech import Chunks, Speech, whole
from router.protocols import Voices

_HALF = "\ufffd"
"""What a decoder makes of a character of which only some bytes are there."""


class Desk:
    """Where the answer is written. `tokens` are ids of the experts' common tokenizer; `text` is what has been said;
    `finish` is set once the answer has ended: "stop", or "length".

    A stop string ends the answer before it; text that may be the beginning of one waits for what follows.
    """

    def __init__(self, query: Query, voices: Voices, emit: Emit, name: str) -> None:
        self.tokens: list[int] = []
        self.text = ""
        self.finish: str | None = None
        self.name = name
        self._query = query
        self._voices = voices
        self._emit = emit
        self._chunks = Chunks(query, name, 0)
        self._stops = stops(query)
        self._waits = max((len(stop) for stop in self._stops), default=1) - 1
        self._sent = 0
        self._emitted = 0
        self._speaker = ""
        self._stopped = False
        self._started = perf_counter()
        self._first_at = 0.0

    @property
    def open(self) -> bool:
        return self.finish is None

    def room(self, most: int) -> int:
        """How many of `most` tokens the caller's `max_tokens` still allows."""
        wanted = self._query.max_tokens
        return most if wanted is None else min(most, wanted - len(self.tokens))

    def end(self, why: str) -> None:
        self.finish = self.finish or why

    async def say(self, expert: str, text: str, tokens: int = 1) -> None:
        """Text of an expert, that comes after what was said. Ends the answer at a stop string."""
        if self._stopped:
            return
        before = len(self.text)
        grown = self.text + text
        for stop in self._stops:
            if (place := grown.find(stop, max(before - len(stop) + 1, 0))) >= 0:
                grown = grown[:place]
                self.finish, self._stopped = "stop", True
        self.text = grown
        if len(grown) > before or (tokens and self._speaker == expert):
            self._speaker = expert
            await self._voices.spoke(expert, grown[before:], tokens)
        await self._send(len(grown) if self._stopped else len(grown) - self._waits)

    async def catch_up(self, expert: str, decoded: str, tokens: int = 1) -> None:
        """Say what the text of all tokens has beyond what was said; a half character waits."""
        whole_part = decoded.rstrip(_HALF)
        if whole_part.startswith(self.text):
            await self.say(expert, whole_part[len(self.text) :], tokens)

    async def close(self) -> Answer:
        """Send what still waits, and the end."""
        query, finish = self._query, self.finish or "length"
        await self._send(len(self.text))
        speech = Speech([self.text], [], finish, Usage())
        if query.stream:
            await self._first()
            await self._emit(Delta(self._chunks.ending(speech)))
        body = b"" if query.stream else orjson.dumps(whole(query, self.name, speech, 1))
        took = perf_counter() - self._started
        return Answer(
            self.name, body, self.text if query.stream else "", finish=finish, ttft_s=self._first_at or took,
            took_s=took, chunks=self._emitted,
        )  # fmt: skip

    async def _send(self, until: int) -> None:
        if until <= self._sent:
            return
        self._first_at = self._first_at or perf_counter() - self._started
        piece, self._sent = self.text[self._sent : until], until
        if self._query.stream:
            await self._first()
            await self._emit(Delta(self._chunks.text(piece)))

    async def _first(self) -> None:
        self._emitted += 1
        if self._emitted == 1 and self._query.api == "chat":
            await self._emit(Delta(self._chunks.delta({"role": "assistant", "content": ""})))


def stops(query: Query) -> Sequence[str]:
    given: str | list[str] | None = orjson.loads(bytes(query.fields["stop"])) if "stop" in query.fields else None
    return [given] if isinstance(given, str) else [stop for stop in given or () if stop]
