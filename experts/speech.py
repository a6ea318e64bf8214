"""Text as OpenAI chunks and bodies, for experts and composers that speak for themselves."""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from experts.language import Query, Usage


class Speech(NamedTuple):
    """What is said: its tokens (joined, they are the text), OpenAI tool calls, why it ended, what it took."""

    tokens: list[str]
    tool_calls: list[dict[str, Any]]
    finish: str
    usage: Usage


class Chunks:
    """The chunks of one choice of one call, all of one shape: only what changes is encoded each time."""

    def __init__(self, query: Query, model: str, index: int) -> None:
        self._chat = query.api == "chat"
        head = orjson.dumps(envelope(query, model, chunk=True))[:-1]
        self._bare = b"data: " + head + b',"choices":'
        key = b'"delta":{"content":' if self._chat else b'"text":'
        self._open = self._bare + b'[{"index":%d,' % index + key
        self._close = (b"}" if self._chat else b"") + b',"logprobs":null,"finish_reason":null}]}\n\n'
        self._index = index

    def text(self, text: str) -> bytes:
        return self._open + orjson.dumps(text) + self._close

    def delta(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": self._index, "delta": delta, "logprobs": None, "finish_reason": finish}
        return self._bare + orjson.dumps([choice]) + b"}\n\n"

    def spoken(self, said: dict[str, Any] | str, logprobs: Any = None) -> bytes:
        """A whole answer as one chunk: a chat message, or the text of a completion (then with its end)."""
        what: dict[str, Any] = {"text": said} if isinstance(said, str) else {"delta": said}
        finish = "stop" if isinstance(said, str) else None
        choice = {"index": self._index, **what, "logprobs": logprobs, "finish_reason": finish}
        return self._bare + orjson.dumps([choice]) + b"}\n\n"

    def ending(self, speech: Speech) -> bytes:
        """Tool calls, if any, and the chunk with the finish reason."""
        if not self._chat:
            choice = {"index": self._index, "text": "", "logprobs": None, "finish_reason": speech.finish}
            return self._bare + orjson.dumps([choice]) + b"}\n\n"
        calls = [{"index": i, **call} for i, call in enumerate(speech.tool_calls)]
        before = self.delta({"tool_calls": calls}) if calls else b""
        return before + self.delta({}, speech.finish)

    def usage(self, usage: Usage) -> bytes:
        return self._bare + b'[],"usage":' + orjson.dumps(usage_object(usage)) + b"}\n\n"


def envelope(query: Query, model: str, *, chunk: bool) -> dict[str, Any]:
    """`created` is 0: the same query gives the same bytes."""
    if query.api == "chat":
        kind, prefix = "chat.completion.chunk" if chunk else "chat.completion", "chatcmpl"
    else:
        kind, prefix = "text_completion", "cmpl"
    return {"id": f"{prefix}-{query.id}", "object": kind, "created": 0, "model": model}


def whole(query: Query, model: str, speech: Speech, count: int) -> dict[str, Any]:
    text = "".join(speech.tokens)
    said: dict[str, Any] = {"text": text}
    if query.api == "chat":
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if speech.tool_calls:
            message |= {"content": text or None, "tool_calls": speech.tool_calls}
        said = {"message": message}
    choices = [{"index": i, **said, "logprobs": None, "finish_reason": speech.finish} for i in range(count)]
    return {**envelope(query, model, chunk=False), "choices": choices, "usage": usage_object(speech.usage)}


def usage_object(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }
