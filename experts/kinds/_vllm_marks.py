"""The marks of a fused model's tokens: asked for beside an answer, and taken out of it before anybody sees them.

A fused model tells who spoke a token through the log-probabilities of three reserved token ids
(`experts/fusion/marks.py`). vLLM writes those of the ids that a request names, so they cost one that does not nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import orjson

from experts.fusion.marks import MARKS, Mark, read
from experts.language import Answer, Delta, Query, Spoken
from experts.protocols import Emit


class Token(NamedTuple):
    """A token of the answer: its text, and its note."""

    text: str
    id: int
    mark: Mark


def wanted(query: Query) -> bool:
    """Whether the caller wants to know who spoke, and leaves room for it: vLLM gives either the likeliest tokens, or
    those that are named."""
    if not query.extension.get("voices") or query.api != "chat":
        return False
    return "logprob_token_ids" not in query.fields and not orjson.loads(bytes(query.fields.get("top_logprobs", b"0")))


class Marked:
    """One answer with its marks. `query` is what to send, `emit` and `answer` take what comes back.

    Only the first choice is attributed. Log-probabilities and token ids that the caller did not ask for are removed.
    """

    def __init__(self, query: Query, emit: Emit, first: int) -> None:
        asked = query.fields
        self._keeps_logprobs = bytes(asked.get("logprobs", b"null")) == b"true"
        self._keeps_ids = bytes(asked.get("return_token_ids", b"null")) == b"true"
        self.query = query.with_fields(
            logprobs=True, logprob_token_ids=list(range(first, first + MARKS)), return_token_ids=True, top_logprobs=None
        )
        self._emit = emit
        self._tokens: deque[Token] = deque()
        self._last: Mark | None = None

    async def emit(self, delta: Delta) -> None:
        """Pass events on without the marks. A chunk in which several spoke is cut where one ends."""
        found: list[Delta] = []
        for event in delta.events.split(b"\n\n"):
            if not event:
                continue
            if event.startswith(b"data: {") and b'"choices":[]' not in event:
                found += self._chunks(orjson.loads(event[6:]))
            else:
                found.append(Delta(event + b"\n\n"))
        for piece in found:
            await self._emit(piece)

    def answer(self, answer: Answer) -> Answer:
        """The whole answer without the marks, and with who spoke it."""
        if not answer.body:
            return answer
        body: dict[str, Any] = orjson.loads(answer.body)
        spoken: list[Spoken] = []
        for choice in body.get("choices") or ():
            heard = self._clean(choice)
            if choice.get("index", 0) == 0:
                self._tokens.extend(heard)
                message: dict[str, Any] = choice.get("message") or {}
                spoken = self._said(message.get("content") or "", ended=True)
        if not self._keeps_ids:
            body.pop("prompt_token_ids", None)
        return replace(answer, body=orjson.dumps(body), spoken=tuple(spoken))

    def _chunks(self, chunk: dict[str, Any]) -> list[Delta]:
        spoken: list[Spoken] = []
        for choice in chunk.get("choices") or ():
            heard = self._clean(choice)
            if choice.get("index", 0) == 0:
                self._tokens.extend(heard)
                delta: dict[str, Any] = choice.get("delta") or {}
                spoken = self._said(delta.get("content") or "", ended=choice.get("finish_reason") is not None)
        if not self._keeps_ids:
            chunk.pop("prompt_token_ids", None)
        if len([one for one in spoken if one.text]) < 2:
            return [Delta(_event(chunk), tuple(spoken))]
        first = chunk["choices"][0]
        early = [{**first, "delta": {**first["delta"], "content": one.text}, "logprobs": None, "finish_reason": None,
                  **({"token_ids": None} if "token_ids" in first else {})} for one in spoken[:-1]]  # fmt: skip
        first["delta"]["content"] = spoken[-1].text
        pieces = [*({**chunk, "choices": [choice]} for choice in early), chunk]
        return [Delta(_event(piece), (one,)) for piece, one in zip(pieces, spoken, strict=True)]

    def _clean(self, choice: dict[str, Any]) -> list[Token]:
        """Take the marks out of a choice."""
        logprobs: dict[str, Any] = choice.get("logprobs") or {}
        content: Sequence[dict[str, Any]] = logprobs.get("content") or ()
        ids: Sequence[int] = choice.get("token_ids") or ()
        found: list[Token] = []
        for entry, token in zip(content, ids, strict=False):
            noted = [float(row["logprob"]) for row in entry.get("top_logprobs") or ()][-MARKS:]
            mark = read(*noted) if len(noted) == MARKS else None
            if mark is not None:
                found.append(Token(str(entry.get("token") or ""), token, mark))
            entry["top_logprobs"] = []
        if not self._keeps_logprobs and "logprobs" in choice:
            choice["logprobs"] = None
        if not self._keeps_ids:
            choice.pop("token_ids", None)
        return found

    def _said(self, text: str, *, ended: bool) -> list[Spoken]:
        """Who spoke which part of a text that comes with, or some time after, its tokens.

        A token whose text is not what comes next shows nothing (an end mark, half a character): whoever spoke the
        last of these has what comes instead.
        """
        found: list[Spoken] = []
        while self._tokens and (text or ended):
            token = self._tokens.popleft()
            self._last = token.mark
            shown = ""
            if text.startswith(token.text):
                shown = token.text
            elif token.text.startswith(text) and text and not ended:
                shown = text
                self._tokens.appendleft(token._replace(text=token.text[len(text) :]))
                _add(found, token.mark.expert, shown, 0, False, 0.0)
                return found
            text = text[len(shown) :]
            _add(found, token.mark.expert, shown, 1, token.id != token.mark.own, token.mark.shift)
        if text and self._last is not None:
            _add(found, self._last.expert, text, 0, False, 0.0)
        return found


def _add(found: list[Spoken], member: int, text: str, tokens: int, changed: bool, shift: float) -> None:
    """Add to what the same member says, or begin another's. What shows nothing begins nothing."""
    if found and (found[-1].member == member or not text):
        last = found.pop()
        found.append(Spoken(last.member, last.text + text, last.tokens + tokens, last.changed + changed,
                            last.shift + shift))  # fmt: skip
    else:
        found.append(Spoken(member, text, tokens, int(changed), shift))


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(chunk) + b"\n\n"
