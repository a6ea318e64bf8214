"""`provider: scripted`: it says what it is told, when, and fails where it is told to."""

from __future__ import annotations

import asyncio
import base64
import struct
from time import perf_counter
from typing import Any

import orjson
import pytest

from experts.errors import ExpertBroke, ExpertDown, ExpertError, ExpertRefused, ExpertTimeout
from experts.kinds import scripted as kind
from experts.kinds.scripted import ScriptedExpert
from experts.language import Answer, Api, Delta, Load, Usage
from experts.protocols import Parts, silent
from experts.wire import parse
from tests.events import delta_texts


def expert(name: str = "e", **options: Any) -> ScriptedExpert:
    return kind.build(name, kind.Options.model_validate(options), Parts(None, None))  # pyright: ignore[reportArgumentType]


async def ask(
    one: ScriptedExpert, *turns: str, api: Api = "chat", **fields: Any
) -> tuple[Answer, list[dict[str, Any]]]:
    events: list[bytes] = []

    async def emit(delta: Delta) -> None:
        events.append(delta.events)

    key = {"chat": "messages", "completion": "prompt", "embedding": "input"}[api]
    messages: Any = [{"role": "user", "content": turn} for turn in turns]
    body = {"model": "e", key: messages if api == "chat" else turns[0], **fields}
    answer = await one.answer(parse(api, orjson.dumps(body), "q"), emit)
    return answer, [orjson.loads(event[6:]) for event in b"".join(events).split(b"\n\n") if event]


def text(chunks: list[dict[str, Any]], index: int = 0) -> str:
    return "".join(
        (choice.get("delta") or {}).get("content") or choice.get("text") or ""
        for chunk in chunks
        for choice in chunk["choices"]
        if choice["index"] == index
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "I am e."),
        ({"text": "fixed {last}"}, "fixed {last}"),
        ({"echo": True}, "second {n}"),
        ({"template": "{n}|{last}|{prompt}"}, "1|second {n}|first\nsecond {n}"),
        ({"template": "{last.__class__} {0} {unknown} {{n}}"}, "{last.__class__} {0} {unknown} {1}"),
        ({"replies": [{"match": "^first", "text": "no"}, {"match": "sec.nd", "text": "yes"}]}, "yes"),
        ({"replies": [{"match": "nothing", "text": "no"}], "text": "else"}, "else"),
        ({"replies": [{"text": "anything"}, {"match": "second", "text": "no"}]}, "anything"),
        ({"text": ""}, ""),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_it_says(options: dict[str, Any], said: str, stream: bool):
    answer, chunks = await ask(expert(**options), "first", "second {n}", stream=stream)
    assert (text(chunks) if stream else answer.text) == said
    assert answer.finish == "stop"


async def test_a_stream_has_openais_shape():
    answer, chunks = await ask(expert(text="one two three", model="m-7b"), "a b", stream=True)
    assert [chunk["choices"][0]["delta"] for chunk in chunks] == [
        {"role": "assistant", "content": ""}, {"content": "one "}, {"content": "two "}, {"content": "three"}, {},
    ]  # fmt: skip
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * 4 + ["stop"]
    assert {(chunk["object"], chunk["model"], chunk["id"]) for chunk in chunks} == {
        ("chat.completion.chunk", "m-7b", "chatcmpl-q")
    }
    assert (answer.usage, answer.chunks, answer.body) == (Usage(2, 3), 5, b"")
    _, chunks = await ask(expert(text="x"), "a b", stream=True, stream_options={"include_usage": True})
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == 3


async def test_a_whole_answer_has_openais_shape():
    answer, chunks = await ask(expert(text="one two"), "a b c")
    assert chunks == []
    assert orjson.loads(answer.body) == {
        "id": "chatcmpl-q", "object": "chat.completion", "created": 0, "model": "e",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "one two"}, "logprobs": None,
                     "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5,
                  "prompt_tokens_details": {"cached_tokens": 0}},
    }  # fmt: skip


@pytest.mark.parametrize("stream", [False, True])
async def test_n_stop_and_max_tokens(stream: bool):
    one = expert(text="one two three four")
    answer, chunks = await ask(one, "x", n=3, max_tokens=2, stream=stream)
    assert (answer.finish, answer.usage) == ("length", Usage(1, 6))
    if stream:
        assert [text(chunks, index) for index in range(4)] == ["one two "] * 3 + [""]
    else:
        assert [c["message"]["content"] for c in orjson.loads(answer.body)["choices"]] == ["one two "] * 3
    for stop, left in (
        ("three", "one two "),
        (["four", "two"], "one "),
        ([], "one two three four"),
        (None, "one two three four"),
    ):
        answer, chunks = await ask(one, "x", stop=stop, stream=stream)
        assert (text(chunks) if stream else answer.text, answer.finish) == (left, "stop")


@pytest.mark.parametrize("stream", [False, True])
async def test_tool_calls(stream: bool):
    one = expert(replies=[{"tool_calls": [{"name": "f", "arguments": {"a": 1}}, {"name": "g", "arguments": "raw"}]}])
    answer, chunks = await ask(one, "x", stream=stream)
    assert answer.finish == "tool_calls"
    message = chunks[-2]["choices"][0]["delta"] if stream else orjson.loads(answer.body)["choices"][0]["message"]
    assert [call["function"] for call in message["tool_calls"]] == [
        {"name": "f", "arguments": '{"a":1}'}, {"name": "g", "arguments": "raw"},
    ]  # fmt: skip


@pytest.mark.parametrize("stream", [False, True])
async def test_completions(stream: bool):
    answer, chunks = await ask(expert(text="one two"), "a", api="completion", stream=stream, n=2)
    assert (text(chunks, 1) if stream else orjson.loads(answer.body)["choices"][1]["text"]) == "one two"
    assert answer.usage == Usage(1, 4)
    if stream:
        assert {chunk["object"] for chunk in chunks} == {"text_completion"}
        assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


async def test_embeddings_depend_on_the_text_alone():
    one = expert()

    async def embed(given: Any, **fields: Any) -> list[Any]:
        body = orjson.dumps({"model": "e", "input": given, **fields})
        answer = await one.answer(parse("embedding", body, "q"), silent)
        return [item["embedding"] for item in orjson.loads(answer.body)["data"]]

    first, second = await embed(["a", "b"])
    assert first != second
    assert sum(x * x for x in first) == pytest.approx(1)
    assert await embed("a") == [first]
    assert len((await embed("a", dimensions=40))[0]) == 40
    (packed,) = await embed("a", encoding_format="base64")
    assert struct.unpack("<16f", base64.b64decode(packed)) == pytest.approx(first, rel=1e-6)
    assert len(await embed([1, 2, 3])) == 1
    assert len(await embed([[1, 2], [3]])) == 2


async def test_usage_can_be_a_lie():
    one = expert(text="one", usage={"prompt_tokens": 1000, "completion_tokens": 7, "cached_tokens": 3})
    answer, _ = await ask(one, "x")
    assert answer.usage == Usage(1000, 7, 3)
    assert orjson.loads(answer.body)["usage"]["total_tokens"] == 1007


async def test_delays_and_chunk_sizes():
    started = perf_counter()
    answer, chunks = await ask(
        expert(text="a b c d e", delay_s=0.1, per_token_s=0.05, tokens_per_chunk=2), "x", stream=True
    )
    assert perf_counter() - started >= 0.1 + 3 * 0.05
    assert 0.1 <= answer.ttft_s < answer.took_s
    assert [chunk["choices"][0]["delta"].get("content") for chunk in chunks[1:-1]] == ["a b ", "c d ", "e"]


@pytest.mark.parametrize(
    ("fail", "error"),
    [
        ({"at": "connect"}, ExpertDown),
        ({"at": "first_byte"}, ExpertTimeout),
        ({"at": "mid_stream"}, ExpertBroke),
        ({"at": "status"}, ExpertBroke),
        ({"at": "status", "status": 503}, ExpertBroke),
        ({"at": "status", "status": 400}, ExpertRefused),
        ({"at": "status", "status": 429}, ExpertRefused),
        ({"at": "mid_stream", "kind": "timeout"}, ExpertTimeout),
        ({"at": "connect", "kind": "refused", "status": 404}, ExpertRefused),
    ],
)
@pytest.mark.parametrize("api", ["chat", "completion", "embedding"])
async def test_failures(fail: dict[str, Any], error: type[ExpertError], api: Api):
    one = expert(fail=fail)
    with pytest.raises(ExpertError) as raised:
        await ask(one, "x", api=api)
    assert type(raised.value) is error
    assert raised.value.expert == "e"
    if isinstance(raised.value, ExpertRefused):
        assert raised.value.status == fail["status"]
        assert orjson.loads(raised.value.body)["error"]["message"]
        assert (raised.value.retry_after != "") == (fail["status"] == 429)
    assert one.load() == Load()


@pytest.mark.parametrize("after", [0, 1, 3])
async def test_a_stream_fails_after_so_many_tokens(after: int):
    heard: list[str] = []

    async def emit(delta: Delta) -> None:
        heard.append(delta_texts(delta.events))

    one = expert(text="a b c d", fail={"at": "mid_stream", "after_tokens": after}, tokens_per_chunk=2)
    query = parse("chat", b'{"model":"e","messages":[{"role":"user","content":"x"}],"stream":true}', "q")
    with pytest.raises(ExpertBroke):
        await one.answer(query, emit)
    assert "".join(heard) == "a b c d"[: 2 * after]


async def test_only_the_first_calls_fail():
    one = expert(fail={"at": "connect", "times": 2}, template="{n}")
    for _ in range(2):
        with pytest.raises(ExpertDown):
            await ask(one, "x")
    assert (await ask(one, "x"))[0].text == "3"
    assert one.calls == 3


async def test_cancelling_ends_it_and_is_counted():
    one, heard = expert(text="a b c", per_token_s=3600), asyncio.Event()

    async def emit(_: Delta) -> None:
        heard.set()

    query = parse("chat", b'{"model":"e","messages":[{"role":"user","content":"x"}],"stream":true}', "q")
    call = asyncio.create_task(one.answer(query, emit))
    await asyncio.wait_for(heard.wait(), 10)
    assert one.load().in_flight == 1
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (one.cancelled, one.calls, one.load().in_flight) == (1, 1, 0)
    assert one.last is query


async def test_the_same_query_gives_the_same_bytes():
    one, two = expert(text="a b"), expert(text="a b")
    assert (await ask(one, "x"))[0].body == (await ask(two, "x"))[0].body
    assert (await ask(one, "x", stream=True))[1] == (await ask(two, "x", stream=True))[1]


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"text": "a", "template": "b"}, "text"),
        ({"echo": True, "text": "a"}, "echo"),
        ({"replies": [{"match": "(", "text": "x"}]}, "regular expression"),
        ({"replies": [{"match": "x"}]}, "text"),
        ({"replies": [{"text": "x", "template": "y"}]}, "template"),
        ({"fail": {"at": "lunch"}}, "fail.at"),
        ({"fail": {"at": "status", "status": 200}}, "fail.status"),
        ({"delay_s": -1}, "delay_s"),
        ({"tokens_per_chunk": 0}, "tokens_per_chunk"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], where: str):
    with pytest.raises(ValueError, match=where):
        kind.Options.model_validate(options)
