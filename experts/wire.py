"""OpenAI JSON to the project's language and back, at the least cost.

A request body is decoded twice by msgspec: once into raw top-level values (they travel on untouched) and once into a
typed envelope of the fields that routing and validation must know. Everything else is the expert's business.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec
import orjson

from experts.errors import BadRequest
from experts.language import Api, Asked, Message, Needs, Part, Query, Usage
from experts.speech import usage_object

DONE = b"data: [DONE]\n\n"
TEXT_ONLY: frozenset[str] = frozenset()


class StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool | None = None


class ResponseFormat(msgspec.Struct, frozen=True):
    type: str


class _Common(msgspec.Struct, frozen=True):
    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    n: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    user: str | None = None
    logit_bias: dict[str, float] | None = None
    consilium: bool | dict[str, Any] | None = None


class _Chat(_Common, frozen=True, kw_only=True):
    messages: list[Message]
    max_completion_tokens: int | None = None
    tools: list[msgspec.Raw] | None = None
    response_format: ResponseFormat | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    parallel_tool_calls: bool | None = None


class _Completion(_Common, frozen=True, kw_only=True):
    prompt: str | list[str | int | list[int]]
    logprobs: int | None = None
    echo: bool | None = None
    suffix: str | None = None


class _Embedding(msgspec.Struct, frozen=True):
    model: str
    input: str | list[str | int | list[int]]
    encoding_format: str | None = None
    dimensions: int | None = None


_raw = msgspec.json.Decoder(dict[str, msgspec.Raw])
_chat = msgspec.json.Decoder(_Chat)
_completion = msgspec.json.Decoder(_Completion)
_embedding = msgspec.json.Decoder(_Embedding)
_WHERE = re.compile(r" - at `\$\.?(.*)`$")
_MISSING = re.compile(r"missing required field `(\w+)`")
_EXTENSION_KEYS = frozenset({"budget", "compose", "explain", "progress", "voices"})


def parse(api: Asked, body: bytes, query_id: str) -> Query:
    """A request body as a Query. Raises BadRequest whose `param` names the field that is wrong."""
    try:
        fields = _raw.decode(body)
        match api:
            case "chat":
                return _parse_chat(_chat.decode(body), fields, query_id)
            case "completion":
                return _parse_completion(_completion.decode(body), fields, query_id)
            case "embedding":
                asked = _embedding.decode(body)
                return Query(query_id, api, _name(asked.model), fields, (_prompt_message(asked.input),))
    except msgspec.ValidationError as fault:
        raise _bad_field(str(fault)) from None
    except msgspec.DecodeError as fault:
        raise BadRequest(f"the request body is not valid JSON: {fault}", code="invalid_json") from None
    except RecursionError:
        raise BadRequest("the request body is nested too deeply", code="invalid_json") from None
    except UnicodeDecodeError as fault:
        raise BadRequest(f"the request body is not valid UTF-8: {fault.reason}", code="invalid_json") from None


def _parse_chat(asked: _Chat, fields: dict[str, msgspec.Raw], query_id: str) -> Query:
    if not asked.messages:
        raise BadRequest("messages: expected at least one message, got an empty list", param="messages")
    modalities = TEXT_ONLY
    for message in asked.messages:
        if isinstance(message.content, list):
            modalities |= message.modalities
    form = asked.response_format
    needs = Needs(bool(asked.tools), form is not None and form.type != "text", modalities)
    limit = asked.max_tokens
    if asked.max_completion_tokens is not None:
        limit = _at_least("max_completion_tokens", asked.max_completion_tokens, 0)
    return _query("chat", asked, fields, query_id, tuple(asked.messages), needs, limit)


def _parse_completion(asked: _Completion, fields: dict[str, msgspec.Raw], query_id: str) -> Query:
    return _query("completion", asked, fields, query_id, (_prompt_message(asked.prompt),), Needs(), asked.max_tokens)


def _query(
    api: Api, asked: _Common, fields: dict[str, msgspec.Raw], query_id: str, messages: tuple[Message, ...],
    needs: Needs, limit: int | None,
) -> Query:  # fmt: skip
    if asked.max_tokens is not None:
        _at_least("max_tokens", asked.max_tokens, 0)
    if asked.n is not None:
        _at_least("n", asked.n, 1)
    return Query(
        query_id, api, _name(asked.model), fields, messages, bool(asked.stream),
        asked.stream_options is not None and bool(asked.stream_options.include_usage), limit, needs,
        _extension(asked.consilium),
    )  # fmt: skip


def _at_least(field: str, value: int, least: int) -> int:
    if value < least:
        raise BadRequest(f"{field}: expected a number of at least {least}, got {value}", param=field)
    return value


def _name(model: str) -> str:
    if not model:
        raise BadRequest("model: expected the name of a route or an expert, got an empty string", param="model")
    return model


def _extension(asked: bool | dict[str, Any] | None) -> Mapping[str, Any]:
    if not asked:
        return {}
    if asked is True:
        return {"explain": True}
    for key in asked:
        if key not in _EXTENSION_KEYS:
            known = ", ".join(sorted(_EXTENSION_KEYS))
            raise BadRequest(f"consilium.{key}: unknown key; known: {known}", param=f"consilium.{key}")
    for key in ("explain", "progress", "voices"):
        if not isinstance(asked.get(key, False), bool):
            raise BadRequest(f"consilium.{key}: expected true or false", param=f"consilium.{key}")
    return asked


def _prompt_message(prompt: str | list[str | int | list[int]]) -> Message:
    """A prompt of token ids has no text to route by; several prompts are routed as one."""
    if isinstance(prompt, str):
        return Message("user", prompt)
    return Message("user", [Part("text", text) for text in prompt if isinstance(text, str)])


def _bad_field(message: str) -> BadRequest:
    """msgspec says where as a JSON path; OpenAI's `param` wants it without the leading `$.`."""
    at = _WHERE.search(message)
    where = at.group(1) if at else ""
    what = message[: at.start()] if at else message
    if missing := _MISSING.search(what):
        where = f"{where}.{missing.group(1)}" if where else missing.group(1)
        return BadRequest(f"{where}: this field is required", param=where, code="missing_required_parameter")
    what = what.replace("Expected", "expected").replace("`", "")
    return BadRequest(f"{where or 'body'}: {what}", param=where or None, code="invalid_type")


def upstream_body(query: Query, model: str) -> bytes:
    """The caller's fields with the server's own model name, and usage always asked for on a stream."""
    fields = dict(query.fields)
    fields["model"] = msgspec.Raw(msgspec.json.encode(model))
    fields.pop("consilium", None)
    if query.stream and not query.include_usage:
        options: dict[str, Any] = orjson.loads(bytes(fields["stream_options"])) if "stream_options" in fields else {}
        fields["stream_options"] = msgspec.Raw(orjson.dumps({**(options or {}), "include_usage": True}))
    return msgspec.json.encode(fields)


class _Details(msgspec.Struct, frozen=True):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None

    def language(self) -> Usage:
        cached = self.prompt_tokens_details.cached_tokens if self.prompt_tokens_details else 0
        return Usage(self.prompt_tokens or 0, self.completion_tokens or 0, cached or 0)


class _Choice(msgspec.Struct, frozen=True):
    finish_reason: str | None = None


class _Reply(msgspec.Struct, frozen=True):
    usage: _Usage | None = None
    choices: list[_Choice] | None = None


_reply = msgspec.json.Decoder(_Reply)


def summary(body: bytes) -> tuple[Usage, str | None]:
    """Usage and finish reason of a whole OpenAI response; the rest is skipped, not decoded."""
    reply = _reply.decode(body)
    finish = reply.choices[0].finish_reason if reply.choices else None
    return (reply.usage.language() if reply.usage else Usage()), finish


def event_usage(event: bytes) -> tuple[Usage, bool]:
    """Usage of one `data: {…}` event, and whether that is all the event carries."""
    reply = _reply.decode(event[event.index(b"{") :])
    return (reply.usage.language() if reply.usage else Usage()), not reply.choices


def renamed(body: bytes, old: str, new: str) -> bytes:
    """A whole response under another model name, whether or not its server writes a space after the colon."""
    for key in (b'"model":', b'"model": '):
        before = key + msgspec.json.encode(old)
        if before in body:
            return body.replace(before, key + msgspec.json.encode(new), 1)
    return body


def with_usage(body: bytes, usage: Usage) -> bytes:
    """An OpenAI response with another usage: the sum over every call that it took."""
    return orjson.dumps({**orjson.loads(body), "usage": usage_object(usage)})


def usage_event(api: Api, query_id: str, model: str, created: int, usage: Usage) -> bytes:
    """The chunk without choices that tells the usage of a whole stream."""
    chunk = {**_bare_chunk(api, query_id, model, created), "usage": usage_object(usage)}
    return b"data: " + orjson.dumps(chunk) + b"\n\n"


def with_extension(body: bytes, extension: Mapping[str, Any]) -> bytes:
    """An OpenAI response with a `consilium` object as its last member."""
    return body.rstrip()[:-1] + b',"consilium":' + orjson.dumps(extension) + b"}"


def extension_event(api: Api, query_id: str, model: str, created: int, extension: Mapping[str, Any]) -> bytes:
    """A chunk without choices that carries the `consilium` object, in the place where usage chunks come."""
    return b"data: " + orjson.dumps({**_bare_chunk(api, query_id, model, created), "consilium": extension}) + b"\n\n"


def progress_event(query_id: str, created: int, progress: Mapping[str, Any]) -> bytes:
    """An event `consilium.progress`: in itself a chunk without choices, for clients that do not look at names."""
    chunk = {**_bare_chunk("chat", query_id, "consilium", created), "consilium": {"progress": progress}}
    return b"event: consilium.progress\ndata: " + orjson.dumps(chunk) + b"\n\n"


def _bare_chunk(api: Api, query_id: str, model: str, created: int) -> dict[str, Any]:
    kind = "chat.completion.chunk" if api == "chat" else "text_completion"
    return {"id": query_id, "object": kind, "created": created, "model": model, "choices": []}
