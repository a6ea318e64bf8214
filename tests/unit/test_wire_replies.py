"""Whole answers and chunks on their way back."""

from __future__ import annotations

import orjson
import pytest

from experts.language import Usage
from experts.wire import event_usage, extension_event, renamed, summary, with_extension

MESSAGE = {"role": "assistant", "content": 'it says "model":"org/m"'}
CACHED = {"prompt_tokens_details": {"cached_tokens": 4}}
REPLY = {
    "id": "c", "object": "chat.completion", "model": "org/m",
    "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "length"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12, **CACHED},
}  # fmt: skip


def test_usage_and_finish_of_a_reply():
    assert summary(orjson.dumps(REPLY)) == (Usage(5, 7, 4), "length")
    assert summary(orjson.dumps({**REPLY, "usage": None})) == (Usage(), "length")
    assert summary(b'{"data":[],"usage":{"prompt_tokens":3,"total_tokens":3}}') == (Usage(3), None)
    assert summary(b'{"choices":[],"usage":{"prompt_tokens":3,"prompt_tokens_details":null}}') == (Usage(3), None)


def test_usage_of_an_event():
    alone = b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":7}}'
    assert event_usage(alone) == (Usage(5, 7), True)
    assert event_usage(alone.replace(b"[]", b'[{"index":0,"delta":{"content":"x"}}]')) == (Usage(5, 7), False)


@pytest.mark.parametrize("space", [b"", b" "])
def test_only_the_replys_own_model_is_renamed(space: bytes):
    raw = orjson.dumps(REPLY).replace(b'"model":"org/m"', b'"model":' + space + b'"org/m"', 1)
    out = renamed(raw, "org/m", "far")
    assert orjson.loads(out) == {**REPLY, "model": "far"}
    assert out == raw.replace(b'"model":' + space + b'"org/m"', b'"model":' + space + b'"far"', 1)
    assert renamed(raw, "other", "far") == raw


@pytest.mark.parametrize("end", [b"", b"\n", b" \r\n"])
def test_the_extension_comes_last(end: bytes):
    out = with_extension(orjson.dumps(REPLY) + end, {"expert": "far"})
    assert orjson.loads(out) == {**REPLY, "consilium": {"expert": "far"}}


@pytest.mark.parametrize(("api", "kind"), [("chat", "chat.completion.chunk"), ("completion", "text_completion")])
def test_the_extension_as_an_event(api, kind):
    event = extension_event(api, "q", "auto", 3, {"expert": "far"})
    assert event.startswith(b"data: ")
    assert event.endswith(b"}\n\n")
    assert orjson.loads(event[6:]) == {
        "id": "q", "object": kind, "created": 3, "model": "auto", "choices": [], "consilium": {"expert": "far"},
    }  # fmt: skip
