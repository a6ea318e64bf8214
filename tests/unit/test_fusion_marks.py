"""What a gateway makes of a fused model's marks: who spoke, and an answer that shows no trace of them."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experts.fusion.marks import LARGEST, SHIFTS, note, number, read
from experts.kinds._vllm_marks import Marked, wanted
from experts.language import Answer, Delta, Query, Spoken
from experts.wire import parse
from router.spans import Spans

FIRST = 100
IDS = {"a": 1, "b": 2, "c": 3, "<end>": 9}


def query(**more: Any) -> Query:
    body = {"model": "fused", "messages": [{"role": "user", "content": "hi"}], "consilium": {"voices": True}, **more}
    return parse("chat", orjson.dumps(body), "q1")


def entry(token: str, expert: int, own: int, shift: float = 0.0) -> dict[str, Any]:
    marks = [note(expert), note(own), note(round(shift * SHIFTS))]
    rows = [{"token": token, "logprob": -0.1}, *({"token": "", "logprob": mark} for mark in marks)]
    return {"token": token, "logprob": -0.1, "top_logprobs": rows}


def event(text: str, entries: list[dict[str, Any]], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "logprobs": {"content": entries}, "finish_reason": finish,
              "token_ids": [IDS[one["token"]] for one in entries]}  # fmt: skip
    return b"data: " + orjson.dumps({"id": "x", "choices": [choice]}) + b"\n\n"


async def streamed(asked: Query, *events: bytes) -> list[Delta]:
    found: list[Delta] = []

    async def emit(delta: Delta) -> None:
        found.append(delta)

    marked = Marked(asked, emit, FIRST)
    for one in events:
        await marked.emit(Delta(one))
    return found


def choices(delta: Delta) -> dict[str, Any]:
    return orjson.loads(delta.events[6:])["choices"][0]


@given(st.integers(0, LARGEST))
def test_a_number_survives_as_a_log_probability(value: int) -> None:
    assert number(note(value)) == value
    assert read(note(3), note(value), note(500)) == (3, value, 0.5)
    assert read(-1.0, note(value), note(0)) is None


@pytest.mark.parametrize(
    ("more", "found"),
    [({}, True), ({"top_logprobs": 0, "logprobs": True}, True), ({"top_logprobs": 3, "logprobs": True}, False),
     ({"consilium": True}, False), ({"logprob_token_ids": [4], "logprobs": True}, False)],
)  # fmt: skip
def test_marks_are_asked_for_where_voices_are_and_the_caller_leaves_room(more: dict[str, Any], found: bool) -> None:
    assert wanted(query(**more)) is found


async def test_a_stream_loses_its_marks_and_tells_who_spoke() -> None:
    asked = query(stream=True)
    deltas = await streamed(
        asked, event("a", [entry("a", 0, 1)]), event("b", [entry("b", 1, 7, 0.75)]),
        event("", [entry("<end>", 1, 9)], "stop"),
    )  # fmt: skip
    assert [choices(delta)["delta"]["content"] for delta in deltas] == ["a", "b", ""]
    assert all(choices(delta)["logprobs"] is None for delta in deltas)
    assert not any(b"token_ids" in delta.events for delta in deltas)
    assert [delta.spoken for delta in deltas] == [
        (Spoken(0, "a", 1, 0, 0.0),), (Spoken(1, "b", 1, 1, 0.75),), (Spoken(1, "", 1, 0, 0.0),)
    ]  # fmt: skip
    fields = Marked(asked, lambda _: None, FIRST).query.fields  # type: ignore[arg-type]
    assert bytes(fields["logprob_token_ids"]) == b"[100,101,102]"


async def test_what_the_caller_asked_for_stays() -> None:
    asked = query(stream=True, logprobs=True, return_token_ids=True)
    (delta,) = await streamed(asked, event("a", [entry("a", 0, 1)]))
    said = choices(delta)
    assert said["token_ids"] == [1]
    assert said["logprobs"]["content"] == [{"token": "a", "logprob": -0.1, "top_logprobs": []}]


async def test_a_chunk_of_several_speakers_is_cut_between_them() -> None:
    """So does a server that holds text back while it might be a stop string."""
    entries = [entry("a", 0, 1), entry("b", 0, 2), entry("c", 1, 3)]
    deltas = await streamed(query(stream=True), event("", entries[:2]), event("abc", entries[2:], "stop"))
    assert [choices(delta)["delta"]["content"] for delta in deltas] == ["", "ab", "c"]
    assert [choices(delta)["finish_reason"] for delta in deltas] == [None, None, "stop"]
    assert [one.member for delta in deltas for one in delta.spoken] == [0, 1]


async def test_a_whole_answer() -> None:
    entries = [entry("a", 0, 1), entry("b", 1, 2), entry("<end>", 1, 9)]
    choice = {"index": 0, "message": {"role": "assistant", "content": "ab"}, "logprobs": {"content": entries},
              "token_ids": [1, 2, 9], "finish_reason": "stop"}  # fmt: skip
    body = orjson.dumps({"choices": [choice], "prompt_token_ids": [5]})
    answer = Marked(query(), lambda _: None, FIRST).answer(Answer("fused", body))  # type: ignore[arg-type]
    assert answer.spoken == (Spoken(0, "a", 1, 0, 0.0), Spoken(1, "b", 2, 0, 0.0))
    told = orjson.loads(answer.body)
    assert told["choices"][0]["logprobs"] is None
    assert "prompt_token_ids" not in told


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["ab", "c", "", "d d"])), min_size=1, max_size=20),
       st.data())  # fmt: skip
async def test_every_character_has_a_speaker_however_the_text_is_cut(
    tokens: list[tuple[int, str]], data: st.DataObject
) -> None:
    """Text may come later than its tokens, in any pieces: spans cover it without gaps, and count every token."""
    whole, events = "".join(text for _, text in tokens), list[bytes]()
    sent = arrived = 0
    for place, (member, text) in enumerate(tokens):
        arrived += len(text)
        last = place == len(tokens) - 1
        until = len(whole) if last else data.draw(st.integers(sent, arrived))
        choice = {"index": 0, "delta": {"content": whole[sent:until]}, "finish_reason": "stop" if last else None,
                  "logprobs": {"content": [entry(text, member, 1)]}, "token_ids": [1]}  # fmt: skip
        events.append(b"data: " + orjson.dumps({"choices": [choice]}) + b"\n\n")
        sent = until
    spans = Spans()
    for delta in await streamed(query(stream=True), *events):
        for said in delta.spoken:
            spans.spoke(str(said.member), len(said.text), said.tokens, said.changed, said.shift)
    assert sum(spans.tokens.values()) == len(tokens)
    assert spans.found[-1].end == len(whole)
    heard = "".join(span.expert * (span.end - span.start) for span in spans.found)
    assert heard == "".join(str(member) * len(text) for member, text in tokens)
