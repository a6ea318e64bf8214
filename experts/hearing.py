"""Hearing out one expert's stream: chunks in, one whole OpenAI answer out, counted as it arrives."""

from __future__ import annotations

from typing import Any

import orjson

from experts.language import Query, Usage
from experts.speech import envelope, usage_object

BYTES_A_TOKEN = 16
"""Nearly no token is longer: what a server that sends big chunks is counted by."""


class Ear:
    """What one call has said so far. `tokens` counts what arrived, whatever the server claims: no tokenizer makes fewer
    than one token a chunk that says something, nor (nearly) fewer than the words of the text."""

    __slots__ = ("_choices", "_chunks", "size", "tokens")

    def __init__(self) -> None:
        self._choices: dict[int, dict[str, Any]] = {}
        self._chunks = 0
        self.size = 0
        self.tokens = 0

    def feed(self, events: bytes) -> None:
        """Whole server-sent events, as experts send them."""
        for event in events.split(b"\n\n"):
            start = event.find(b"{")
            if start < 0 or not event.startswith(b"data:"):
                continue
            for choice in orjson.loads(event[start:]).get("choices") or ():
                self._take(choice)

    @property
    def text(self) -> str:
        """The first choice's."""
        first = self._choices.get(0)
        return "".join(first["text"]) if first else ""

    @property
    def finish(self) -> str | None:
        first = self._choices.get(0)
        return first["finish"] if first else None

    def body(self, query: Query, model: str, usage: Usage, *, cut: bool = False) -> bytes:
        """The OpenAI response that the same call without a stream would have had; `cut`: it was ended early."""
        choices = [self._whole(query, index, said, cut) for index, said in sorted(self._choices.items())]
        reply = {**envelope(query, model, chunk=False), "choices": choices, "usage": usage_object(usage)}
        return orjson.dumps(reply)

    def _take(self, choice: dict[str, Any]) -> None:
        said = self._choices.setdefault(
            choice.get("index", 0),
            {"text": [], "reasoning": [], "tools": {}, "logprobs": [], "finish": None, "role": "assistant"},
        )
        delta: dict[str, Any] = choice.get("delta") or {}
        text: str = delta.get("content") or choice.get("text") or ""
        reasoning: str = delta.get("reasoning_content") or delta.get("reasoning") or ""
        words = 0
        for kind, piece in (("text", text), ("reasoning", reasoning)):
            if piece:
                said[kind].append(piece)
                size = len(piece.encode(errors="surrogatepass"))
                self.size += size
                words += max(1, len(piece.split()), size // BYTES_A_TOKEN)
        for call in delta.get("tool_calls") or ():
            words += 1
            self.size += len(orjson.dumps(call))
            _merge_call(said["tools"].setdefault(call.get("index", 0), {}), call)
        self.tokens += words
        if choice.get("logprobs"):
            said["logprobs"].append(choice["logprobs"])
        said["finish"] = choice.get("finish_reason") or said["finish"]

    def _whole(self, query: Query, index: int, said: dict[str, Any], cut: bool) -> dict[str, Any]:
        text = "".join(said["text"])
        whole: dict[str, Any] = {"text": text}
        if query.api == "chat":
            message: dict[str, Any] = {"role": "assistant", "content": text}
            if said["reasoning"]:
                message["reasoning_content"] = "".join(said["reasoning"])
            if said["tools"]:
                message |= {"content": text or None, "tool_calls": [said["tools"][i] for i in sorted(said["tools"])]}
            whole = {"message": message}
        finish = "length" if cut else said["finish"]
        return {"index": index, **whole, "logprobs": _joined(said["logprobs"]), "finish_reason": finish}


def _merge_call(whole: dict[str, Any], piece: dict[str, Any]) -> None:
    function: dict[str, Any] = whole.setdefault("function", {"name": "", "arguments": ""})
    part: dict[str, str] = piece.get("function") or {}
    for key in ("id", "type"):
        if piece.get(key):
            whole[key] = piece[key]
    for key in ("name", "arguments"):
        function[key] += part.get(key) or ""


def _joined(pieces: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Log-probabilities of all chunks: every list of theirs, end to end."""
    if not pieces:
        return None
    whole: dict[str, Any] = {}
    for piece in pieces:
        for key, value in piece.items():
            if isinstance(value, list):
                whole.setdefault(key, []).extend(value)
            else:
                whole.setdefault(key, value)
    return whole
