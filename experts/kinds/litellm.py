"""`provider: litellm`: a model of any provider that LiteLLM speaks to, in the OpenAI format.

LiteLLM is imported by the first call, not before, and beside the event loop, with everything off that would call home,
log, or read the caller's text. A call costs about forty times the CPU of `provider: vllm`, which suits every
OpenAI-compatible server better.

What a caller sends reaches LiteLLM only as the fields of the OpenAI API by name and, for all others, inside
`extra_body`: a field called `api_base` or `mock_response` is data for the provider, never an order to LiteLLM.
"""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from importlib import import_module
from time import perf_counter
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from experts.errors import ExpertBroke, ExpertDown, ExpertError, ExpertRefused, ExpertTimeout
from experts.language import Answer, Delta, Load, Query, Usage
from experts.protocols import Emit, Parts

# fmt: off
_CHAT = frozenset({
    "audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs", "max_completion_tokens",
    "max_tokens", "messages", "modalities", "n", "parallel_tool_calls", "prediction", "presence_penalty",
    "reasoning_effort", "response_format", "safety_identifier", "seed", "service_tier", "stop", "temperature",
    "tool_choice", "tools", "top_logprobs", "top_p", "user", "verbosity", "web_search_options",
})
_COMPLETION = frozenset({
    "best_of", "echo", "frequency_penalty", "logit_bias", "logprobs", "max_tokens", "n", "presence_penalty", "prompt",
    "seed", "stop", "suffix", "temperature", "top_p", "user",
})
_EMBEDDING = frozenset({"dimensions", "encoding_format", "input", "user"})
# fmt: on
_FIELDS = {"chat": _CHAT, "completion": _COMPLETION, "embedding": _EMBEDDING}
_OURS = frozenset({"model", "stream", "stream_options", "consilium"})
_CALLS = {"chat": "acompletion", "completion": "atext_completion", "embedding": "aembedding"}
_WITH_IT = ("openai.resources", "httpcore", "anyio._backends._asyncio", "litellm._service_logger")
"""What LiteLLM and its clients would import in the middle of a first call."""
_OPENAI = ("openai", "text-completion-openai")


class Options(BaseModel):
    """Keys of an expert manifest that only this provider has."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(min_length=1, description="LiteLLM's name of it: `provider/model`, such as `mistral/codestral`.")
    api_key: SecretStr | None = Field(
        default=None, description="Such as ${MISTRAL_KEY}. Default: the variable that LiteLLM reads for the provider."
    )
    api_base: str | None = Field(default=None, description="Where the provider is, when not at its usual address.")
    api_version: str | None = Field(default=None, description="For providers that want one, such as Azure.")
    drop_params: bool = Field(
        default=False, description="Leave out what the provider does not support, instead of refusing the request."
    )
    extra: dict[str, Any] = Field(default_factory=dict, description="More arguments of LiteLLM's call, by their names.")


def build(name: str, options: Options, parts: Parts) -> LitellmExpert:
    return LitellmExpert(name, options, parts)


class LitellmExpert:
    """One model of one provider. It has no endpoints of its own: it counts as up, and errors say otherwise."""

    def __init__(self, name: str, options: Options, parts: Parts) -> None:
        self.name = name
        self._options = options
        self._timeouts = parts.timeouts
        self._in_flight = 0
        self._litellm: Any = None
        self._client: Any = None

    def load(self) -> Load:
        return Load(self._in_flight)

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def answer(self, query: Query, emit: Emit) -> Answer:
        if self._litellm is None:
            litellm = await asyncio.to_thread(_import_litellm)  # it takes seconds
            await self._guarded(asyncio.to_thread(self._open, litellm))
        started, loop = perf_counter(), asyncio.get_running_loop()
        until = loop.time() + self._timeouts.total_s
        self._in_flight += 1
        try:
            async with asyncio.timeout_at(min(loop.time() + self._timeouts.first_byte_s, until)) as clock:
                reply = await self._guarded(getattr(self._litellm, _CALLS[query.api])(**self._arguments(query)))
                if not query.stream:
                    return self._whole(reply, perf_counter() - started)
                return await self._relay(query, reply, emit, clock, started, until)
        except TimeoutError as fault:
            raise self._timeout(perf_counter() - started, in_all=loop.time() >= until) from fault
        finally:
            self._in_flight -= 1

    def _arguments(self, query: Query) -> dict[str, Any]:
        options, known = self._options, _FIELDS[query.api]
        sent: dict[str, Any] = {key: orjson.loads(bytes(raw)) for key, raw in query.fields.items() if key not in _OURS}
        named = {key: value for key, value in sent.items() if key in known}
        body = {key: value for key, value in sent.items() if key not in known}
        if query.stream:
            named |= {"stream": True, "stream_options": {"include_usage": True}}
        if self._client is not None:
            named |= {"client": self._client, "allowed_openai_params": sorted(named.keys() - {"messages", "stream"})}
        given = {"api_base": options.api_base, "api_version": options.api_version}
        if options.api_key is not None:
            given["api_key"] = options.api_key.get_secret_value()
        if body:
            named["extra_body"] = body
        return {
            **named,
            "model": options.model,
            "timeout": self._timeouts.total_s,
            "max_retries": 0,
            "num_retries": 0,
            "drop_params": options.drop_params,
            **{key: value for key, value in given.items() if value is not None},
            **options.extra,
        }

    def _open(self, litellm: Any) -> None:
        """In a thread: what the first call would otherwise make the event loop wait for."""
        found = litellm.get_llm_provider(model=self._options.model, api_base=self._options.api_base)
        if str(found[1]) in _OPENAI and self._client is None:
            self._client = self._openai()
        self._litellm = litellm

    def _openai(self) -> Any:
        """A pooled client of this expert's own: LiteLLM's are shared, and those for completions never closed."""
        from openai import AsyncOpenAI

        key = self._options.api_key.get_secret_value() if self._options.api_key else None
        return AsyncOpenAI(
            api_key=key or os.environ.get("OPENAI_API_KEY") or "none",
            base_url=self._options.api_base,
            max_retries=0,
            timeout=self._timeouts.total_s,
        )

    async def _relay(
        self, query: Query, stream: Any, emit: Emit, clock: asyncio.Timeout, started: float, until: float
    ) -> Answer:
        limits, loop = self._timeouts, asyncio.get_running_loop()
        usage, finish, chunks, first_at = Usage(), None, 0, 0.0
        pieces: AsyncIterator[Any] = aiter(stream)
        try:
            while (piece := await self._guarded(anext(pieces, None))) is not None:
                clock.reschedule(min(loop.time() + limits.between_bytes_s, until))
                first_at = first_at or perf_counter()
                chunk: dict[str, Any] = piece.model_dump(mode="json", exclude_none=True)
                chunk["model"] = self.name
                counts = chunk.pop("usage", None)
                choices: list[dict[str, Any]] = [_chunk_choice(choice) for choice in chunk.get("choices") or ()]
                if counts:
                    usage = _usage(counts)
                if any(_says_something(choice) for choice in choices):
                    chunks += 1
                    finish = next((c["finish_reason"] for c in choices if c["finish_reason"]), finish)
                    await emit(Delta(_event({**chunk, "choices": choices})))
                if counts and query.include_usage:
                    chunks += 1
                    await emit(Delta(_event({**chunk, "choices": [], "usage": counts})))
        finally:
            await _close(stream)
        ended = perf_counter()
        return Answer(
            self.name, usage=usage, finish=finish, ttft_s=(first_at or ended) - started, took_s=ended - started,
            chunks=chunks,
        )  # fmt: skip

    def _whole(self, reply: Any, took: float) -> Answer:
        body: dict[str, Any] = reply.model_dump(mode="json")
        body["model"] = self.name
        choices: list[dict[str, Any]] = body.get("choices") or [{}]
        return Answer(
            self.name, orjson.dumps(body), usage=_usage(body.get("usage") or {}),
            finish=choices[0].get("finish_reason"), ttft_s=took, took_s=took,
        )  # fmt: skip

    async def _guarded(self, call: Any) -> Any:
        """What the call gives; its errors as this project's. Only LiteLLM's own work runs inside."""
        from httpx import HTTPError
        from openai import OpenAIError

        try:
            return await call
        except (OpenAIError, HTTPError, ValueError) as fault:
            raise self._error(fault) from None  # the original holds the request, key and all

    def _error(self, fault: Exception) -> ExpertError:
        from openai import APIConnectionError, APITimeoutError

        status = int(getattr(fault, "status_code", None) or 0)
        said = self._redacted(getattr(fault, "message", None) or str(fault) or type(fault).__name__)
        who = f"expert {self.name}"
        if isinstance(fault, APITimeoutError):
            return ExpertTimeout(f"{who}: the provider sent nothing for too long", expert=self.name)
        if _unreachable(fault) or (isinstance(fault, APIConnectionError) and status != 500):
            return ExpertDown(f"{who}: its provider cannot be reached", expert=self.name)
        if not 400 <= status < 500:
            return ExpertBroke(f"{who}: its provider failed ({type(fault).__name__}): {said}", expert=self.name)
        if status in (401, 403):
            said = "the provider did not accept the expert's credentials; see `api_key` in its manifest"
        error = {"message": said, "type": "invalid_request_error", "param": None, "code": getattr(fault, "code", None)}
        reply: Any = getattr(fault, "litellm_response_headers", None) or getattr(fault, "headers", None) or {}
        return ExpertRefused(
            f"{who} refused the request with {status}", expert=self.name, status=status,
            body=orjson.dumps({"error": error}, default=str), retry_after=str(reply.get("retry-after") or ""),
        )  # fmt: skip

    def _timeout(self, waited: float, *, in_all: bool) -> ExpertTimeout:
        how = "took too long in all" if in_all else "sent nothing for too long"
        return ExpertTimeout(
            f"expert {self.name}: its provider {how} (gave up after {waited:.1f} s; `timeouts` in its manifest sets "
            f"the limits)",
            expert=self.name,
        )

    def _redacted(self, text: str) -> str:
        key = self._options.api_key
        secret = key.get_secret_value() if key else os.environ.get("OPENAI_API_KEY", "")
        return (text.replace(secret, "…") if secret else text)[:500]


def _import_litellm() -> Any:
    """LiteLLM with nothing fetched on import, no telemetry, no prints, and errors that reach us."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    os.environ.setdefault("LITELLM_LOG", "ERROR")
    collected = gc.isenabled()
    gc.disable()  # its collections, each of everything that was imported so far, would stop all threads for long
    try:
        litellm: Any = import_module("litellm")
        for name in _WITH_IT:
            import_module(name)
        if gc.get_freeze_count():  # as the gateway does with all that it started with
            gc.freeze()
    finally:
        if collected:
            gc.enable()
    litellm.telemetry = False
    litellm.suppress_debug_info = True
    litellm.turn_off_message_logging = True
    litellm.disable_aiohttp_transport = True  # with aiohttp it takes a stream that breaks off for one that ended
    return litellm


def _chunk_choice(choice: dict[str, Any]) -> dict[str, Any]:
    return {"index": 0, "finish_reason": None, **choice}


def _says_something(choice: dict[str, Any]) -> bool:
    return bool(choice.get("delta") or choice.get("text") or choice["finish_reason"])


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(chunk) + b"\n\n"


def _usage(counts: dict[str, Any]) -> Usage:
    details: dict[str, Any] = counts.get("prompt_tokens_details") or {}
    cached = int(details.get("cached_tokens") or 0)
    return Usage(int(counts.get("prompt_tokens") or 0), int(counts.get("completion_tokens") or 0), cached)


def _unreachable(fault: BaseException | None) -> bool:
    from httpx import ConnectError, ConnectTimeout

    while fault is not None:
        if isinstance(fault, ConnectError | ConnectTimeout):
            return True
        fault = fault.__cause__ or fault.__context__
    return False


async def _close(stream: Any) -> None:
    """Closes the provider's connection under a stream that was not read to its end."""
    wrapper: Any = stream if hasattr(stream, "aclose") else getattr(stream, "completion_stream", None)
    if hasattr(wrapper, "aclose"):
        with suppress(RuntimeError):  # a generator that is already closing
            await wrapper.aclose()
