"""Relaying one server-sent event stream: bytes in, whole events out, looked at no closer than must be."""

from __future__ import annotations

import asyncio
import re
from math import inf
from time import perf_counter
from typing import Protocol

import msgspec
import orjson

from experts.errors import ExpertBroke
from experts.language import Answer, Delta, Query, Usage
from experts.protocols import Emit, Timeouts
from experts.wire import event_usage

_USAGE = re.compile(rb'"usage":\s?\{')
_FINISH = re.compile(rb'"finish_reason":\s?"(\w+)"')
_REARM_SHARE = 0.1


class Bytes(Protocol):
    async def readany(self) -> bytes: ...


class Relay:
    """One stream on its way from an expert to `emit`.

    Events leave whole: a piece that ends inside an event waits for its rest. The closing `[DONE]` is held back (who
    ends the client's stream is not the expert's decision), and so is the usage event that only the gateway asked for.
    `begun` tells whether anything has been emitted, after which no other expert may take over; `emitting`, whether it
    is the client who is waited for, or who failed.
    """

    def __init__(self, query: Query, emit: Emit, *, upstream_model: str, name: str) -> None:
        self.begun = False
        self.emitting = False
        self._emit = emit
        self._name = name
        self._keep_usage = query.include_usage
        self._usage = Usage()
        self._rename: tuple[bytes, bytes] | None = None
        if upstream_model != name:
            self._rename = msgspec.json.encode(upstream_model), msgspec.json.encode(name)

    async def run(
        self, content: Bytes, clock: asyncio.Timeout, limits: Timeouts, started: float, until: float = inf
    ) -> Answer:
        """Relay until the stream ends. Raises ExpertBroke for an error event, or an end without an ending.

        `until`, in the loop's time, is when the whole call is over time.
        """
        emit, between = self._emit, limits.between_bytes_s
        rename: tuple[bytes, bytes] | None = None
        carry = tail = before = b""
        chunks, first_at, done = 0, 0.0, False
        found: re.Match[bytes] | None = None
        loop = asyncio.get_running_loop()
        armed = -between
        while piece := await content.readany():
            now = loop.time()
            if now - armed > between * _REARM_SHARE:
                armed = now
                clock.reschedule(min(now + between, until))
            if carry:
                piece, carry = carry + piece, b""
            if not piece.endswith(b"\n\n"):
                if b"\r\n" in piece and not piece.endswith(b"\r"):
                    piece = piece.replace(b"\r\n", b"\n")
                cut = piece.rfind(b"\n\n") + 2
                if cut == 1:
                    carry = piece
                    continue
                piece, carry = piece[:cut], piece[cut:]
            if not first_at:
                first_at = perf_counter()
                rename = self._renaming(piece)
            if b"[DONE]" in piece:
                piece, found_end = _without_done(piece)
                done = done or found_end
            if b'"usage"' in piece and _USAGE.search(piece) is not None:
                piece = self._take_usage(piece)
                found = _FINISH.search(tail) or _FINISH.search(before) or found
            if b'data: {"error"' in piece:
                raise self._error_event(piece)
            if not piece:
                continue
            if rename is not None:
                piece = piece.replace(*rename)
            before, tail = tail, piece
            chunks += piece.count(b"\n\n")
            self.begun = self.emitting = True
            await emit(Delta(piece))
            self.emitting = False
        found = _FINISH.search(tail) or _FINISH.search(before) or found
        if not done and found is None:
            raise ExpertBroke(f"expert {self._name}: its stream ended in the middle of an answer", expert=self._name)
        ended = perf_counter()
        return Answer(
            self._name, usage=self._usage, finish=found.group(1).decode() if found else None,
            ttft_s=(first_at or ended) - started, took_s=ended - started, chunks=chunks,
        )  # fmt: skip

    def _renaming(self, piece: bytes) -> tuple[bytes, bytes] | None:
        """What to replace, as this server writes it: with or without a space after the colon."""
        if self._rename is None:
            return None
        key = b'"model": ' if b'"model": ' in piece else b'"model":'
        return key + self._rename[0], key + self._rename[1]

    def _take_usage(self, piece: bytes) -> bytes:
        kept: list[bytes] = []
        for event in piece.split(b"\n\n"):
            if _USAGE.search(event) is not None:
                try:
                    self._usage, alone = event_usage(event)
                except (msgspec.DecodeError, ValueError) as fault:
                    raise ExpertBroke(
                        f"expert {self._name}: a chunk is not JSON: {fault}", expert=self._name
                    ) from fault
                if alone and not self._keep_usage:
                    continue
            kept.append(event)
        return b"\n\n".join(kept)

    def _error_event(self, piece: bytes) -> ExpertBroke:
        message = "no message"
        for event in piece.split(b"\n\n"):
            if event.startswith(b'data: {"error"'):
                try:
                    error = orjson.loads(event[6:])["error"]
                    message = str(error.get("message", error) if isinstance(error, dict) else error)  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]
                except orjson.JSONDecodeError:
                    message = "unreadable"
        return ExpertBroke(f"expert {self._name}: its server reported an error: {message[:300]}", expert=self._name)


def _without_done(piece: bytes) -> tuple[bytes, bool]:
    """Whole events without the closing one, and whether it was there: a message may say [DONE] too."""
    events = piece.split(b"\n\n")
    kept = [event for event in events if event.removeprefix(b"data:").strip() != b"[DONE]"]
    return b"\n\n".join(kept), len(kept) < len(events)
