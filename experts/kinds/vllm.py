"""`provider: vllm`: any OpenAI-compatible server, over one pooled HTTP client. The fast path.

What the server sends is relayed as the bytes it sent; the model's name and the usage chunk are the only things ever
changed. A stream is cut at event boundaries and looked at by substring, never decoded chunk by chunk.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Annotated

import aiohttp
import msgspec
from multidict import CIMultiDict
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from experts.endpoints import Endpoint, least_loaded
from experts.errors import ExpertBroke, ExpertDown, ExpertError, ExpertRefused, ExpertTimeout
from experts.kinds._vllm_marks import Marked, wanted
from experts.kinds._vllm_reward import asked, rated
from experts.kinds._vllm_tokens import Server, VllmTokenCall, begun, tokenizer_of
from experts.language import Answer, Load, Query
from experts.protocols import Emit, Parts, Timeouts
from experts.stream import Relay
from experts.transport import JSON_HEADERS
from experts.wire import renamed, summary, upstream_body


def _http_url(value: str) -> str:
    url = value.rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise ValueError("expected a URL that begins with http:// or https://, such as http://10.0.0.5:8000/v1")
    return url


class Options(BaseModel):
    """Keys of an expert manifest that only this provider has."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(min_length=1, description="The name the server knows the model by; for a LoRA adapter, its own.")
    endpoints: list[Annotated[str, AfterValidator(_http_url)]] = Field(
        min_length=1, description="Base URLs of the replicas, each up to and including /v1."
    )
    api_key: SecretStr | None = Field(default=None, description="Sent as a bearer token, such as ${QWEN_KEY}.")
    headers: dict[str, SecretStr] = Field(default_factory=dict, description="More headers to send with each call.")
    marks: int | None = Field(
        default=None, ge=1,
        description="For a fused model: the first of its reserved token ids, as `consilium fusion inspect` says it. "
        "Answers can then tell which of the `members` spoke each word.",
    )  # fmt: skip
    reward: bool = Field(
        default=False,
        description="A reward model (vLLM `--runner pooling`, one class): it answers a conversation with one number, "
        "how good the last turn is. Routes do not choose it; `composer: {name: best-of, reward: NAME}` asks it.",
    )  # fmt: skip


def build(name: str, options: Options, parts: Parts) -> VllmExpert:
    return VllmExpert(name, options, parts)


class VllmExpert:
    """One model behind one or more replicas of an OpenAI-compatible server.

    The replica with the fewest calls under way is asked; another is tried when one cannot be reached, stalls or
    answers 5xx before the first delta. Raises ExpertError kinds only.
    """

    def __init__(self, name: str, options: Options, parts: Parts) -> None:
        self.name = name
        self._model = options.model
        self._parts = parts
        self._timeouts: Timeouts = parts.timeouts
        self._connect = aiohttp.ClientTimeout(total=None, sock_connect=parts.timeouts.connect_s)
        self._endpoints = parts.endpoints.use(options.endpoints)
        self._headers: CIMultiDict[str] = CIMultiDict(JSON_HEADERS)
        if options.api_key is not None:
            self._headers["authorization"] = f"Bearer {options.api_key.get_secret_value()}"
        for header, value in options.headers.items():
            self._headers[header] = value.get_secret_value()
        self._marks = options.marks
        self._reward = options.reward
        self._in_flight = 0
        self._closed = False
        self._tokenizer = ""
        self._endings: dict[int, bool] = {}

    def load(self) -> Load:
        return Load(self._in_flight, len(self._endpoints), sum(endpoint.up for endpoint in self._endpoints))

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._parts.endpoints.release(self._endpoints)

    async def answer(self, query: Query, emit: Emit) -> Answer:
        if self._reward:
            return await rated(query, await self._answer(asked(query), emit), emit)
        if self._marks is None or not wanted(query):
            return await self._answer(query, emit)
        marked = Marked(query, emit, self._marks)
        return marked.answer(await self._answer(marked.query, marked.emit))

    async def _answer(self, query: Query, emit: Emit) -> Answer:
        body = upstream_body(query, self._model)
        tried: list[Endpoint] = []
        fault: ExpertError | None = None
        relay = Relay(query, emit, upstream_model=self._model, name=self.name) if query.stream else None
        loop = asyncio.get_running_loop()
        until = loop.time() + self._timeouts.total_s
        self._in_flight += 1
        try:
            while True:
                endpoint = least_loaded(self._endpoints, tried)
                if endpoint is None:
                    raise fault or self._down()
                try:
                    return await self._call(endpoint, query, body, relay, until)
                except ExpertError as error:
                    begun = relay is not None and relay.begun
                    if not error.retryable or begun or len(tried) >= 2 or loop.time() >= until:
                        raise
                    fault = error
                    tried.append(endpoint)
        finally:
            self._in_flight -= 1

    async def by_token(self, query: Query) -> VllmTokenCall:
        """Begin an answer on the replica with the fewest calls; it stays there, where its prefix is cached."""
        return await begun(self._server(), query, self._endings)

    async def tokenizer(self) -> str:
        if not self._tokenizer:
            self._tokenizer = await tokenizer_of(self._server())
        return self._tokenizer

    def _server(self) -> Server:
        endpoint = least_loaded(self._endpoints)
        if endpoint is None:
            raise self._down()
        return Server(self.name, self._model, endpoint, self._parts.transport, self._headers, self._timeouts)

    def _down(self) -> ExpertDown:
        errors = "; ".join(f"{e.url}: {e.last_error or 'cooling down'}" for e in self._endpoints)
        return ExpertDown(
            f"expert {self.name} is down: none of its {len(self._endpoints)} endpoint(s) can be called ({errors})",
            expert=self.name,
        )

    async def _call(self, endpoint: Endpoint, query: Query, body: bytes, relay: Relay | None, until: float) -> Answer:
        started, loop = perf_counter(), asyncio.get_running_loop()
        limits = self._timeouts
        headers = self._headers.copy()
        headers["x-request-id"] = query.id
        endpoint.in_flight += 1
        try:
            async with asyncio.timeout_at(min(loop.time() + limits.first_byte_s, until)) as clock:
                async with self._parts.transport.post(endpoint.paths[query.api], body, headers, self._connect) as reply:
                    if reply.status >= 300:
                        raise await self._refusal(reply, endpoint)
                    if relay is not None:
                        self._check_streaming(reply)
                        answer = await relay.run(reply.content, clock, limits, started, until)
                    else:
                        answer = self._whole(await reply.read(), started)
            endpoint.succeeded()
            return answer
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as fault:
            endpoint.unreachable(f"{type(fault).__name__}: {fault}"[:200])
            raise ExpertDown(
                f"expert {self.name}: cannot connect to {endpoint.url}", expert=self.name, endpoint=endpoint.url
            ) from fault
        except TimeoutError as fault:
            if relay is not None and relay.emitting:
                raise ExpertTimeout(
                    f"expert {self.name}: the client did not take what was sent to it in time", expert=self.name
                ) from fault
            waited = perf_counter() - started
            endpoint.failed(f"no answer after {waited:.1f} s")
            how = "took too long in all" if loop.time() >= until else "sent nothing for too long"
            raise ExpertTimeout(
                f"expert {self.name}: {endpoint.url} {how} (gave up after {waited:.1f} s; `timeouts` in its manifest "
                f"sets the limits)",
                expert=self.name, endpoint=endpoint.url,
            ) from fault  # fmt: skip
        except (aiohttp.ClientError, OSError) as fault:
            if relay is not None and relay.emitting:
                raise  # the client's connection, not the expert's
            endpoint.failed(f"{type(fault).__name__}: {fault}"[:200])
            raise ExpertBroke(
                f"expert {self.name}: {endpoint.url} broke off ({type(fault).__name__})",
                expert=self.name, endpoint=endpoint.url,
            ) from fault  # fmt: skip
        except ExpertBroke as fault:
            endpoint.failed(fault.message[:200])
            fault.endpoint = endpoint.url
            raise
        finally:
            endpoint.in_flight -= 1

    def _whole(self, body: bytes, started: float) -> Answer:
        took = perf_counter() - started
        try:
            usage, finish = summary(body)
        except msgspec.DecodeError as fault:
            message = f"expert {self.name}: its answer is not OpenAI JSON: {fault}"
            raise ExpertBroke(message, expert=self.name) from fault
        if self._model != self.name:
            body = renamed(body, self._model, self.name)
        return Answer(self.name, body, usage=usage, finish=finish, ttft_s=took, took_s=took)

    def _check_streaming(self, reply: aiohttp.ClientResponse) -> None:
        kind = reply.headers.get("content-type", "")
        if not kind.startswith("text/event-stream"):
            message = f"expert {self.name}: asked for a stream (text/event-stream), its server sent {kind or 'no type'}"
            raise ExpertBroke(message, expert=self.name)

    async def _refusal(self, reply: aiohttp.ClientResponse, endpoint: Endpoint) -> ExpertError:
        body = await reply.read()
        if not 400 <= reply.status < 500:
            return ExpertBroke(
                f"expert {self.name}: {endpoint.url} answered {reply.status}", expert=self.name, endpoint=endpoint.url
            )
        return ExpertRefused(
            f"expert {self.name} refused the request with {reply.status}", expert=self.name, endpoint=endpoint.url,
            status=reply.status, body=body, retry_after=reply.headers.get("retry-after", ""),
        )  # fmt: skip
