"""Oddities of particular servers, each as its bytes."""

from __future__ import annotations

import asyncio

import pytest

from experts.errors import ExpertBroke
from experts.language import Answer, Delta, Usage
from experts.protocols import Timeouts
from experts.stream import Relay
from experts.wire import parse

CHAT = b'{"model":"far","messages":[{"role":"user","content":"x"}],"stream":true'
TEXT = b'data: {"model":"m","choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}]}\n\n'
STOP = b'data: {"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"model":"m","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n'
DONE = b"data: [DONE]\n\n"


class Pieces:
    def __init__(self, *pieces: bytes) -> None:
        self._pieces = iter(pieces)

    async def readany(self) -> bytes:
        return next(self._pieces, b"")


async def relay(*pieces: bytes, wanted: bool = False) -> tuple[Answer, bytes]:
    out: list[bytes] = []

    async def emit(delta: Delta) -> None:
        out.append(delta.events)

    options = b',"stream_options":{"include_usage":true}}' if wanted else b"}"
    one = Relay(parse("chat", CHAT + options, "q"), emit, upstream_model="m", name="m")
    async with asyncio.timeout(10) as clock:
        answer = await one.run(Pieces(*pieces), clock, Timeouts(), 0.0)
    return answer, b"".join(out)


async def test_usage_is_held_back_unless_the_caller_asked():
    answer, out = await relay(TEXT, STOP, USAGE, DONE)
    assert (out, answer.usage, answer.finish, answer.chunks) == (TEXT + STOP, Usage(1, 2), "stop", 2)
    answer, out = await relay(TEXT, STOP, USAGE, DONE, wanted=True)
    assert (out, answer.usage, answer.chunks) == (TEXT + STOP + USAGE, Usage(1, 2), 3)


async def test_usage_beside_choices_stays():
    both = STOP.replace(b"]}\n", b'],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n')
    answer, out = await relay(TEXT, both, DONE)
    assert (out, answer.usage, answer.finish) == (TEXT + both, Usage(1, 2), "stop")


async def test_pings_between_the_end_and_the_usage():
    answer, out = await relay(b": ping\n\n", TEXT, STOP, b": ping\n\n", USAGE, b": ping\n\n", DONE)
    assert (answer.finish, answer.usage) == ("stop", Usage(1, 2))
    assert out.count(b": ping\n\n") == 3


@pytest.mark.parametrize("done", [b"data:[DONE]\n\n", b"data: [DONE]\r\n\r\n", b"data: [DONE]\n\n: bye\n\n"])
async def test_other_spellings_of_the_end(done: bytes):
    answer, out = await relay(TEXT, done)
    assert b"[DONE]" not in out
    assert out.startswith(TEXT)
    assert answer.finish is None


async def test_an_end_that_is_cut_short_after_the_finish_is_an_end():
    answer, out = await relay(TEXT, STOP, b"data: [DO")
    assert (out, answer.finish) == (TEXT + STOP, "stop")


async def test_one_event_in_many_pieces_and_many_events_in_one():
    long = TEXT.replace(b"hi", b"x" * 300_000)
    answer, out = await relay(*(long[i : i + 65_536] for i in range(0, len(long), 65_536)), STOP + USAGE + DONE)
    assert (out, answer.chunks) == (long + STOP, 2)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (b'data: {"error": {"message": "no memory", "type": "x"}}\n\n', "no memory"),
        (b'data: {"error":"plain words"}\n\n', "plain words"),
        (b'data: {"error": {"code": 7}}\n\n', "7"),
        (b'data: {"error": {"message": "cut\n\n', "unreadable"),
    ],
)
async def test_an_error_event_tells_what_the_server_said(error: bytes, said: str):
    with pytest.raises(ExpertBroke, match=said):
        await relay(TEXT, error, DONE)


async def test_usage_that_is_not_json_is_a_broken_stream():
    with pytest.raises(ExpertBroke, match="not JSON"):
        await relay(TEXT, b'data: {"choices":[],"usage":{"prompt_tokens":}}\n\n', DONE)


async def test_nothing_at_all_is_a_broken_stream():
    with pytest.raises(ExpertBroke, match="middle"):
        await relay()
