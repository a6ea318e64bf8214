"""However the network cuts a stream into pieces, the same events come out."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from experts.errors import ExpertBroke
from experts.language import Answer, Delta, Query, Usage
from experts.protocols import Timeouts
from experts.stream import Relay
from experts.wire import parse

UPSTREAM = "org/model"


class Pieces:
    """Bytes as a socket gives them."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = iter(pieces)

    async def readany(self) -> bytes:
        return next(self._pieces, b"")


@dataclass
class Outcome:
    events: list[bytes]
    answer: Answer | None
    fault: ExpertBroke | None
    begun: bool


def query(include_usage: bool) -> Query:
    fields: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": True}
    if include_usage:
        fields["stream_options"] = {"include_usage": True}
    return parse("chat", orjson.dumps(fields), "q")


def relay(pieces: list[bytes], *, include_usage: bool = False, upstream: str = UPSTREAM, name: str = "far") -> Outcome:
    deltas: list[bytes] = []

    async def emit(delta: Delta) -> None:
        deltas.append(delta.events)

    async def run() -> Outcome:
        one = Relay(query(include_usage), emit, upstream_model=upstream, name=name)
        answer = fault = None
        try:
            async with asyncio.timeout(10) as clock:
                answer = await one.run(Pieces([p for p in pieces if p]), clock, Timeouts(), 0.0)
        except ExpertBroke as error:
            fault = error
        return Outcome(deltas, answer, fault, one.begun)

    outcome = asyncio.run(run())
    assert all(delta.endswith(b"\n\n") for delta in outcome.events), "a delta ends inside an event"
    outcome.events = [event for event in b"".join(outcome.events).split(b"\n\n") if event]
    return outcome


# What a model may say, the protocol's own words among it.
texts = st.lists(
    st.one_of(
        st.text(max_size=12),
        st.sampled_from([
            "[DONE]", "data: [DONE]\n\n", "\n\n", "\r\n\r\n", '"usage": {"prompt_tokens": 9}', '"usage":{', "data:",
            f'"model":"{UPSTREAM}"', f'"model": "{UPSTREAM}"', '"finish_reason":"length"', 'data: {"error": {}}',
            "event: x\n", "}\n\n", "\\",
        ]),
    ),
    max_size=8,
)  # fmt: skip
BASE = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": UPSTREAM}


def spaced(value: Any) -> bytes:
    import json

    return json.dumps(value, ensure_ascii=False).encode()


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[str], bytes, str]:
    """Texts, the whole stream as a server would write it, and its line end."""
    said = draw(texts)
    dump = draw(st.sampled_from([orjson.dumps, spaced]))
    end = draw(st.sampled_from([b"\n", b"\r\n"]))
    chunks = [{**BASE, "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]}]
    chunks += [{**BASE, "choices": [{"index": 0, "delta": {"content": t}, "finish_reason": None}]} for t in said]
    chunks += [{**BASE, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}]
    chunks += [{**BASE, "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}}]
    lines = [b"data: " + dump(chunk) for chunk in chunks]
    if draw(st.booleans()):
        lines.append(b"data: [DONE]")
    if draw(st.booleans()):
        lines.insert(draw(st.integers(1, len(lines) - 2)), b": ping")
    return said, b"".join(line + end * 2 for line in lines), draw(st.sampled_from(["far", UPSTREAM]))


def cut(raw: bytes, at: list[int] | str) -> list[bytes]:
    places = range(len(raw)) if isinstance(at, str) else sorted({place % (len(raw) + 1) for place in at})
    return [raw[a:b] for a, b in zip([0, *places], [*places, len(raw)], strict=True)]


cuts = st.one_of(st.lists(st.integers(0, 10_000), max_size=20), st.just("every byte"))


@given(stream=streams(), at=cuts, include_usage=st.booleans())
def test_any_cutting_gives_the_same_events(
    stream: tuple[list[str], bytes, str], at: list[int] | str, include_usage: bool
):
    said, raw, name = stream
    out = relay(cut(raw, at), include_usage=include_usage, name=name)
    assert out.fault is None
    assert out.answer is not None
    assert b"data: [DONE]" not in out.events
    chunks = [orjson.loads(event[6:]) for event in out.events if event.startswith(b"data: ")]
    assert [event for event in out.events if not event.startswith(b"data: ")] in ([], [b": ping"])
    assert {chunk["model"] for chunk in chunks} == {name}
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    assert [delta["content"] for delta in deltas if "content" in delta] == ["", *said]
    assert [chunk["usage"]["total_tokens"] for chunk in chunks if "usage" in chunk] == ([7] if include_usage else [])
    assert (out.answer.usage, out.answer.finish) == (Usage(3, 4), "stop")
    assert out.answer.chunks == len(out.events)


@given(stream=streams(), at=cuts)
def test_an_expert_of_the_same_name_is_relayed_byte_for_byte(stream: tuple[list[str], bytes, str], at: list[int] | str):
    _, raw, _ = stream
    sent = raw.replace(b"\r\n\r\n", b"\n\n").removesuffix(b"data: [DONE]\n\n")
    out = relay(cut(raw, at), include_usage=True, name=UPSTREAM)
    assert b"".join(event + b"\n\n" for event in out.events) == sent


@given(stream=streams(), at=cuts, keep=st.integers(0, 10_000))
def test_a_stream_that_ends_early_is_never_taken_for_a_whole_one(
    stream: tuple[list[str], bytes, str], at: list[int] | str, keep: int
):
    _, raw, _ = stream
    ending = raw.replace(b'"finish_reason": "stop"', b'"finish_reason":"stop"').index(b'"finish_reason":"stop"')
    short = raw[: keep % ending]
    out = relay(cut(short, at))
    assert out.answer is None
    assert out.fault is not None
    assert "ended in the middle" in out.fault.message
    assert out.begun == bool(out.events)


@given(stream=streams(), at=cuts, after=st.integers(0, 3))
def test_an_error_event_ends_the_stream_in_an_error(
    stream: tuple[list[str], bytes, str], at: list[int] | str, after: int
):
    _, raw, _ = stream
    events = raw.replace(b"\r\n\r\n", b"\n\n").split(b"\n\n")[: after + 1]
    raw = (
        b"".join(event + b"\n\n" for event in events)
        + b'data: {"error": {"message": "out of memory", "code": 500}}\n\n'
    )
    out = relay(cut(raw, at))
    assert out.fault is not None
    assert "out of memory" in out.fault.message
    assert not any(b"error" in event and b"out of memory" in event for event in out.events)
