"""Request bodies: what is understood, what is refused with which field's name, and what travels untouched."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import orjson
import pytest

from experts.errors import BadRequest
from experts.language import Api, Needs, Query
from experts.wire import parse, upstream_body

HI = [{"role": "user", "content": "hi"}]


def body(**fields: Any) -> bytes:
    return orjson.dumps({"model": "auto", "messages": HI, **fields})


def refused(api: Api, raw: bytes) -> BadRequest:
    with pytest.raises(BadRequest) as fault:
        parse(api, raw, "q")
    assert fault.value.status == 400
    return fault.value


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"model": 5}, "model"),
        ({"model": ""}, "model"),
        ({"messages": None}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": ["hi"]}, "messages[0]"),
        ({"messages": [*HI, {"content": "x"}]}, "messages[1].role"),
        ({"messages": [{"role": 1, "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]}, "messages[0].content[0].text"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"stream_options": []}, "stream_options"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_completion_tokens": -3}, "max_completion_tokens"),
        ({"n": "two"}, "n"),
        ({"n": 0}, "n"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": []}, "top_p"),
        ({"presence_penalty": "x"}, "presence_penalty"),
        ({"frequency_penalty": "x"}, "frequency_penalty"),
        ({"seed": 0.5}, "seed"),
        ({"stop": ["a", 3]}, "stop[1]"),
        ({"stop": 3}, "stop"),
        ({"user": 3}, "user"),
        ({"logit_bias": [1]}, "logit_bias"),
        ({"logit_bias": {"1": "x"}}, "logit_bias[...]"),
        ({"tools": {"a": 1}}, "tools"),
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {}}, "response_format.type"),
        ({"logprobs": 3}, "logprobs"),
        ({"top_logprobs": True}, "top_logprobs"),
        ({"parallel_tool_calls": 1}, "parallel_tool_calls"),
        ({"consilium": 1}, "consilium"),
        ({"consilium": {"explian": True}}, "consilium.explian"),
        ({"consilium": {"explain": 1}}, "consilium.explain"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], param: str):
    fault = refused("chat", body(**fields))
    assert fault.param == param
    assert fault.message.startswith(f"{param}: ")
    assert fault.type == "invalid_request_error"
    assert "`" not in fault.message


@pytest.mark.parametrize(("api", "name"), [("chat", "messages"), ("completion", "prompt"), ("embedding", "input")])
@pytest.mark.parametrize("missing", ["model", "content"])
def test_a_missing_field_is_named(api: Api, name: str, missing: str):
    full = {"model": "auto", name: HI if api == "chat" else "hi"}
    parse(api, orjson.dumps(full), "q")
    left_out = "model" if missing == "model" else name
    del full[left_out]
    fault = refused(api, orjson.dumps(full))
    assert (fault.param, fault.code) == (left_out, "missing_required_parameter")


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "not valid JSON"),
        (b'{"model": "auto", "messages"', "not valid JSON"),
        (b'{"model": "auto",}', "not valid JSON"),
        (b'{"model": "auto", "messages": [{"role": "user", "content": "\xff\xfe"}]}', "not valid UTF-8"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"model": "auto", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b"[1, 2]", "expected object"),
        (b"null", "expected object"),
    ],
    ids=["empty", "cut off", "trailing comma", "latin-1", "deep, open", "deep, closed", "array", "null"],
)
@pytest.mark.parametrize("api", ["chat", "completion", "embedding"])
def test_a_body_that_cannot_be_read_is_a_bad_request(api: Api, raw: bytes, said: str):
    if api == "chat" or b"messages" not in raw or b"\xff" not in raw:
        assert said in refused(api, raw).message


def test_what_routing_may_know():
    query = parse("chat", body(stream=True, stream_options={"include_usage": True}, max_tokens=7), "q7")
    assert query == Query("q7", "chat", "auto", query.fields, query.messages, True, True, 7)
    assert query.user_texts() == ["hi"]
    query = parse("chat", body(stream=None, stream_options=None, max_tokens=7, max_completion_tokens=5, stop=None), "q")
    assert (query.stream, query.include_usage, query.max_tokens) == (False, False, 5)


def test_several_turns_and_parts():
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function", "function": {}}]},
        {"role": "tool", "tool_call_id": "c", "content": "42"},
        {"role": "user", "content": [
            {"type": "text", "text": "two"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
            {"type": "something_new", "payload": [1]},
            {"type": "text", "text": "three"},
        ]},
    ]  # fmt: skip
    query = parse("chat", body(messages=messages), "q")
    assert query.user_texts() == ["one", "two\nthree"]
    assert query.needs == Needs(modalities=frozenset({"image", "audio"}))


@pytest.mark.parametrize(
    ("fields", "needs"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, Needs(tools=True)),
        ({"tools": []}, Needs()),
        ({"tools": None}, Needs()),
        ({"response_format": {"type": "json_object"}}, Needs(structured=True)),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "s"}}}, Needs(structured=True)),
        ({"response_format": {"type": "text"}}, Needs()),
    ],
)
def test_hard_constraints(fields: dict[str, Any], needs: Needs):
    assert parse("chat", body(**fields), "q").needs == needs


@pytest.mark.parametrize(
    ("prompt", "texts"),
    [("hi", ["hi"]), (["a", "b"], ["a\nb"]), ([1, 2, 3], [""]), ([[1, 2], [3]], [""])],
)
def test_prompts_and_inputs(prompt: Any, texts: list[str]):
    assert parse("completion", orjson.dumps({"model": "m", "prompt": prompt, "logprobs": 3}), "q").user_texts() == texts
    assert parse("embedding", orjson.dumps({"model": "m", "input": prompt}), "q").user_texts() == texts


def test_the_extension():
    assert parse("chat", body(consilium=True), "q").extension == {"explain": True}
    assert parse("chat", body(consilium={"explain": False}), "q").extension == {"explain": False}
    assert parse("chat", body(consilium=False), "q").extension == {}
    assert b"consilium" not in upstream_body(parse("chat", body(consilium=True), "q"), "m")


RAW = {
    "messages": b'[ {"role":"user","content":"h\\u00e9, \\/ \\ud83d\\ude00", "x_new":{"deep":[1e400, 1.0]}} ]',
    "temperature": b"0.70",
    "top_k": b"40",
    "guided_json": b'{"type": "object",  "a": 1}',
    "cache_salt": b'"s\\u0061lt"',
    "priority": b"-3",
    "chat_template_kwargs": b'{"enable_thinking": false}',
    "logit_bias": b'{"50256":-100}',
    "tools": b'[{"type":"function","function":{"name":"f","parameters":{"b":1,"a":2}}}]',
    "brand_new": b"123456789012345678901234567890",
}


def test_every_field_travels_byte_for_byte():
    raw = b'{"model": "auto", ' + b", ".join(b'"%s": %s' % (k.encode(), v) for k, v in RAW.items()) + b"}"
    sent = msgspec.json.decode(upstream_body(parse("chat", raw, "q"), "org/Model-7B"), type=dict[str, msgspec.Raw])
    assert {k: bytes(v) for k, v in sent.items()} == {"model": b'"org/Model-7B"', **RAW}


def test_big_bodies_are_quick_and_untouched():
    words = random.Random(7)
    tools = [
        {"type": "function", "function": {"name": f"f{i}", "description": "x" * words.randrange(500)}}
        for i in range(64)
    ]
    messages = [
        {"role": "user", "content": "word " * 40_000},
        *({"role": "user", "content": f"t{i}"} for i in range(2000)),
    ]
    query = parse("chat", body(messages=messages, tools=tools), "q")
    assert query.prompt_chars() > 200_000
    assert len(query.user_texts()) == 2001
    sent = orjson.loads(upstream_body(query, "m"))
    assert sent == {"model": "m", "messages": messages, "tools": tools}


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        (b"", b'{"include_usage":true}'),
        (b',"stream_options":null', b'{"include_usage":true}'),
        (b',"stream_options":{}', b'{"include_usage":true}'),
        (b',"stream_options":{"include_usage":false,"continuous_usage_stats":true}',
         b'{"include_usage":true,"continuous_usage_stats":true}'),
        (b',"stream_options": {"include_usage": true, "x": 1}', b'{"include_usage": true, "x": 1}'),
    ],
)  # fmt: skip
def test_usage_is_always_asked_for_on_a_stream(options: bytes, sent: bytes):
    query = parse(
        "chat", b'{"model":"a","messages":[{"role":"user","content":"x"}],"stream":true' + options + b"}", "q"
    )
    fields = msgspec.json.decode(upstream_body(query, "m"), type=dict[str, msgspec.Raw])
    assert bytes(fields["stream_options"]) == sent


def test_without_a_stream_no_usage_is_asked_for():
    assert b"stream_options" not in upstream_body(parse("chat", body(), "q"), "m")


def test_a_models_name_is_encoded():
    assert orjson.loads(upstream_body(parse("chat", body(), "q"), 'a"b\\c é'))["model"] == 'a"b\\c é'


def test_fields_can_be_replaced_and_removed():
    query = parse("chat", body(temperature=1, seed=3), "q").with_fields(temperature=0.5, seed=None, messages=HI * 2)
    assert orjson.loads(upstream_body(query, "m")) == {"model": "m", "messages": HI * 2, "temperature": 0.5}
