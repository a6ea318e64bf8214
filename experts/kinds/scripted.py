"""`provider: scripted`: says what it is told, when it is told to, and fails where it is told to.

For tests, demos and load tests: no server, no network, the same answer to the same query. It speaks the same OpenAI
format as a real expert, so everything above it runs unchanged. A token is a word with the space after it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from time import perf_counter
from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from experts.errors import ExpertBroke, ExpertDown, ExpertError, ExpertRefused, ExpertTimeout
from experts.kinds._scripted_tokens import WORD, ScriptedCall, pause
from experts.kinds._scripted_vectors import DIMENSIONS, embeddings, items_of
from experts.language import Answer, Delta, Load, Query, Usage
from experts.protocols import Emit, Parts
from experts.speech import Chunks, Speech, whole

_PLACE = re.compile(r"\{(prompt|last|n)\}")


def _regex(value: str) -> str:
    try:
        re.compile(value)
    except re.error as fault:
        raise ValueError(f"expected a regular expression: {fault}") from fault
    return value


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ToolCall(_Section):
    """A call of one of the caller's tools."""

    name: str = Field(min_length=1)
    arguments: dict[str, Any] | str = Field(default_factory=dict, description="An object, or any text as it is.")


class Reply(_Section):
    """One thing to say, and to what."""

    match: Annotated[str, AfterValidator(_regex)] | None = Field(
        default=None,
        description="A regular expression searched for in the last user turn; where a turn of the assistant ends the "
        "conversation, as for a reward model, in that. None: to anything.",
    )
    text: str | None = Field(default=None, description="What to say, as it is.")
    template: str | None = Field(
        default=None,
        description="What to say, with {prompt} (all user turns), {last} (the last one), {n} (the number of the call).",
    )
    tool_calls: tuple[ToolCall, ...] = Field(default=(), description="Tools to call, after the text if there is any.")

    @model_validator(mode="after")
    def _says_one_thing(self) -> Reply:
        if (self.text is None) == (self.template is None) and not (self.tool_calls and self.text is None):
            raise ValueError("expected either `text` or `template` (or `tool_calls` alone)")
        return self


class Failure(_Section):
    """Where and how to fail."""

    at: Literal["connect", "status", "first_byte", "mid_stream"] = Field(
        description="connect: at once, as unreachable. status: with an HTTP status. first_byte: after `delay_s`, as a "
        "timeout. mid_stream: after `after_tokens` tokens."
    )
    status: int = Field(default=500, ge=400, le=599, description="For `at: status`.")
    after_tokens: int = Field(default=1, ge=0, description="For `at: mid_stream`.")
    times: int | None = Field(default=None, ge=1, description="Only the first calls fail. None: every call.")
    kind: Literal["down", "timeout", "broke", "refused"] | None = Field(
        default=None, description="The kind of error, where it should not be the usual one of that point."
    )


class Counts(_Section):
    """Tokens to report, whatever was said."""

    prompt_tokens: int = Field(default=0, ge=0)
    completion_tokens: int = Field(default=0, ge=0)
    cached_tokens: int = Field(default=0, ge=0)


class Options(_Section):
    """Keys of an expert manifest that only this provider has."""

    model: str | None = Field(default=None, description="The model name its answers carry. Default: the expert's name.")
    text: str | None = Field(default=None, description="What to say when no reply matches. Default: `I am NAME.`")
    template: str | None = Field(default=None, description="The same with {prompt}, {last} and {n} filled in.")
    echo: bool = Field(default=False, description="Say the last user turn back when no reply matches.")
    reward: bool = Field(default=False, description="Stands for a reward model: what it says are ratings.")
    replies: tuple[Reply, ...] = Field(default=(), description="The first that matches is said.")
    delay_s: float = Field(default=0.0, ge=0, description="Seconds before the first token.")
    per_token_s: float = Field(default=0.0, ge=0, description="Seconds before each later token.")
    tokens_per_chunk: int = Field(default=1, ge=1, description="Tokens in each streamed chunk.")
    ramble: bool = Field(default=False, description="Say it all, whatever `max_tokens` allows.")
    fail: Failure | None = Field(default=None, description="Where and how to fail.")
    unsure: dict[str, float] = Field(
        default_factory=dict[str, float], description="Token by token: probability of a word, where not 0.95."
    )
    tokenizer: str = Field(default="words", description="Token by token: its tokenizer's name; the ids differ by it.")
    usage: Counts | None = Field(default=None, description="Tokens to report, true or not.")

    @model_validator(mode="after")
    def _says_one_thing(self) -> Options:
        if (self.text is not None) + (self.template is not None) + self.echo > 1:
            raise ValueError("expected one of `text`, `template` and `echo`, got several")
        return self


def build(name: str, options: Options, parts: Parts) -> ScriptedExpert:
    return ScriptedExpert(name, options)


class ScriptedExpert:
    """An expert without a server. `calls`, `cancelled`, `tokens` (said), `last` (the query) tell a test what was."""

    def __init__(self, name: str, options: Options) -> None:
        self.name = name
        self.calls = 0
        self.cancelled = 0
        self.asked = 0
        self.tokens = 0
        self.last: Query | None = None
        self.options = options
        self._model = options.model or name
        self._in_flight = 0

    def load(self) -> Load:
        return Load(self._in_flight)

    async def close(self) -> None:
        """Holds nothing."""

    async def answer(self, query: Query, emit: Emit) -> Answer:
        self.calls += 1
        self.last = query
        self.asked += sum(len(WORD.findall(message.text)) for message in query.messages)
        fail = self.options.fail
        if fail is not None and fail.times is not None and self.calls > fail.times:
            fail = None
        self._in_flight += 1
        try:
            return await self._answer(query, emit, fail, self.calls)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self._in_flight -= 1

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """One call under way, token by token."""
        self._in_flight += 1
        try:
            yield
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self._in_flight -= 1

    async def by_token(self, query: Query) -> ScriptedCall:
        """The same words, token by token."""
        self.calls += 1
        self.last = query
        fail = self.options.fail
        if fail is not None and (fail.times is None or self.calls <= fail.times):
            raise self._error(fail)
        return ScriptedCall(self, query, self._speech(query, self.calls))

    async def tokenizer(self) -> str:
        return self.options.tokenizer

    async def _answer(self, query: Query, emit: Emit, fail: Failure | None, call: int) -> Answer:
        options, started = self.options, perf_counter()
        if fail is not None and fail.at in ("connect", "status"):
            raise self._error(fail)
        await pause(options.delay_s)
        if fail is not None and (fail.at == "first_byte" or query.api == "embedding"):
            raise self._error(fail)
        if query.api == "embedding":
            return self._embed(query, started)
        speech = self._speech(query, call)
        first_at = perf_counter()
        said = emitted = 0
        wires = [Chunks(query, self._model, index) for index in range(_count(query))]

        async def send(events: list[bytes]) -> None:
            nonlocal emitted
            for event in events if query.stream else ():
                emitted += 1
                await emit(Delta(event))

        if query.api == "chat":
            await send([wire.delta({"role": "assistant", "content": ""}) for wire in wires])
        heard = speech.tokens if fail is None else speech.tokens[: fail.after_tokens]
        for piece in _chunked(heard, options.tokens_per_chunk):
            if said:
                await pause(options.per_token_s * len(piece))
            said += len(piece)
            self.tokens += len(piece)
            await send([wire.text("".join(piece)) for wire in wires])
        if fail is not None:
            raise self._error(fail)
        await send([wire.ending(speech) for wire in wires])
        if query.include_usage:
            await send([wires[0].usage(speech.usage)])
        body = b"" if query.stream else orjson.dumps(whole(query, self._model, speech, len(wires)))
        return Answer(
            self.name, body, usage=speech.usage, finish=speech.finish, ttft_s=first_at - started,
            took_s=perf_counter() - started, chunks=emitted,
        )  # fmt: skip

    def _speech(self, query: Query, call: int) -> Speech:
        heard = replace(query, frame=("", ""))  # an expert reads the passages, too
        turns = heard.user_texts()
        last = turns[-1] if turns else ""
        filled = {"prompt": "\n".join(turns), "last": last, "n": str(call)}
        ends = query.messages[-1] if query.messages else None
        reply = self._choose(last, ends.text if ends is not None and ends.role == "assistant" else last)
        text = reply.text or ""
        if reply.template is not None:
            text = _PLACE.sub(lambda place: filled[place.group(1)], reply.template)
        finish = "tool_calls" if reply.tool_calls else "stop"
        stops: str | list[str] = _field(query, "stop") or []
        for stop in [stops] if isinstance(stops, str) else stops:
            text = text.partition(stop)[0] if stop else text
        tokens = WORD.findall(text)
        if query.max_tokens is not None and len(tokens) > query.max_tokens and not self.options.ramble:
            tokens, finish = tokens[: query.max_tokens], "length"
        calls = [
            {"id": f"call_{i}", "type": "function", "function": {"name": tool.name, "arguments": _arguments(tool)}}
            for i, tool in enumerate(reply.tool_calls)
        ]
        asked = sum(len(WORD.findall(message.text)) for message in query.messages)
        counts = self.options.usage
        usage = Usage(**counts.model_dump()) if counts else Usage(asked, len(tokens) * _count(query))
        return Speech(tokens, calls if finish == "tool_calls" else [], finish, usage)

    def _choose(self, last: str, matched: str) -> Reply:
        options = self.options
        for reply in options.replies:
            if reply.match is None or re.search(reply.match, matched):
                return reply
        if options.echo:
            return Reply(text=last)
        if options.template is not None:
            return Reply(template=options.template)
        return Reply(text=options.text if options.text is not None else f"I am {self.name}.")

    def _embed(self, query: Query, started: float) -> Answer:
        items = items_of(_field(query, "input"))
        packed = _field(query, "encoding_format") == "base64"
        data = embeddings(items, _field(query, "dimensions") or DIMENSIONS, packed=packed)
        tokens = sum(len(WORD.findall(item)) if isinstance(item, str) else len(item) for item in items)
        counts = self.options.usage
        usage = Usage(**counts.model_dump()) if counts else Usage(tokens)
        told = {"prompt_tokens": usage.prompt_tokens, "total_tokens": usage.total_tokens}
        body = orjson.dumps({"object": "list", "data": data, "model": self._model, "usage": told})
        took = perf_counter() - started
        return Answer(self.name, body, usage=usage, ttft_s=took, took_s=took)

    def _error(self, fail: Failure) -> ExpertError:
        who = f"expert {self.name}"
        usual = {"connect": "down", "first_byte": "timeout", "mid_stream": "broke"}
        match fail.kind or usual.get(fail.at) or ("refused" if fail.status < 500 else "broke"):
            case "down":
                return ExpertDown(f"{who}: cannot be reached, as its script says", expert=self.name)
            case "timeout":
                return ExpertTimeout(f"{who}: sent nothing in time, as its script says", expert=self.name)
            case "refused":
                error = {"message": "refused, as the script says", "type": "invalid_request_error"}
                return ExpertRefused(
                    f"{who} refused the request with {fail.status}", expert=self.name, status=fail.status,
                    body=orjson.dumps({"error": {**error, "param": None, "code": None}}),
                    retry_after="1" if fail.status == 429 else "",
                )  # fmt: skip
            case _:
                return ExpertBroke(f"{who}: failed ({fail.at}), as its script says", expert=self.name)


def _field(query: Query, name: str) -> Any:
    return orjson.loads(bytes(query.fields[name])) if name in query.fields else None


def _count(query: Query) -> int:
    return _field(query, "n") or 1


def _arguments(tool: ToolCall) -> str:
    return tool.arguments if isinstance(tool.arguments, str) else orjson.dumps(tool.arguments).decode()


def _chunked(tokens: list[str], size: int) -> Iterator[list[str]]:
    return (tokens[i : i + size] for i in range(0, len(tokens), size))
