"""A vLLM server by token ids: its `/v1/completions` with a prompt of ids, `/tokenize` and `/detokenize`.

Nothing of the server need be changed. Log-probabilities are read by token id (`return_tokens_as_token_ids`), since the
texts of two tokens may be equal. Prefix caching makes going on after another expert's words cheap.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import aiohttp
import orjson
from multidict import CIMultiDict
from yarl import URL

from experts.endpoints import Endpoint
from experts.errors import ExpertBroke, ExpertDown, ExpertRefused, ExpertTimeout
from experts.language import Query
from experts.protocols import Said, Timeouts, Top
from experts.transport import Transport

PROBE = "The quick brown fox: 1,234.50 + 0x7F = {[naïve]} Ünïcode 東京 \n\tdef f(x): return x**2"
"""Cut alike by two tokenizers, it makes them one for a relay (which also wants their templates to end alike)."""

_TEMPLATE_FIELDS = ("messages", "tools", "chat_template", "chat_template_kwargs", "add_generation_prompt")
_ID = len("token_id:")


class Server:
    """One model on one server, as a place to send JSON to."""

    def __init__(
        self,
        name: str,
        model: str,
        endpoint: Endpoint,
        transport: Transport,
        headers: CIMultiDict[str],
        limits: Timeouts,
    ) -> None:
        self.name = name
        self.model = model
        self._endpoint = endpoint
        self._transport = transport
        self._headers = headers
        self._limits = limits
        self._connect = aiohttp.ClientTimeout(total=None, sock_connect=limits.connect_s)

    async def tokenize(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return await self._json(self._endpoint.tokenize_urls[0], body)

    async def detokenize(self, tokens: Sequence[int]) -> str:
        return (await self._json(self._endpoint.tokenize_urls[1], {"tokens": tokens}))["prompt"]

    async def complete(self, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The choices: one a prompt."""
        return (await self._json(self._endpoint.paths["completion"], body))["choices"]

    async def stream(self, body: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        """The choices of a streamed completion, one by one."""
        limit = self._limits.first_byte_s
        async with self._open(self._endpoint.paths["completion"], {**body, "stream": True}) as reply:
            rest = b""
            while True:
                async with asyncio.timeout(limit):
                    piece = await reply.content.readany()
                if not piece:
                    raise self._broke("ended its stream without [DONE]")
                limit = self._limits.between_bytes_s
                *events, rest = (rest + piece).split(b"\n\n")
                for event in events:
                    data = event.removeprefix(b"data:").strip()
                    if data == b"[DONE]":
                        return
                    found = orjson.loads(data)
                    if "error" in found:
                        raise self._broke(f"sent an error in its stream: {found['error']}"[:300])
                    for choice in found["choices"]:
                        yield choice

    async def _json(self, url: URL, body: Mapping[str, Any]) -> dict[str, Any]:
        async with asyncio.timeout(self._limits.first_byte_s), self._open(url, body) as reply:
            return orjson.loads(await reply.read())

    @asynccontextmanager
    async def _open(self, url: URL, body: Mapping[str, Any]) -> AsyncIterator[aiohttp.ClientResponse]:
        endpoint = self._endpoint
        endpoint.in_flight += 1
        try:
            data = orjson.dumps({"model": self.model, **body})
            async with self._transport.post(url, data, self._headers, self._connect) as reply:
                if reply.status >= 300:
                    said = await reply.read()
                    if not 400 <= reply.status < 500:
                        raise self._broke(f"answered {reply.status} to {url.path}")
                    raise ExpertRefused(
                        f"expert {self.name}: {endpoint.url} refused {url.path} with {reply.status}; token-level work "
                        f"wants a vLLM server with /tokenize and prompts of token ids", expert=self.name,
                        endpoint=endpoint.url, status=reply.status, body=said,
                    )  # fmt: skip
                yield reply
            endpoint.succeeded()
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as fault:
            endpoint.unreachable(f"{type(fault).__name__}: {fault}"[:200])
            raise ExpertDown(
                f"expert {self.name}: cannot connect to {endpoint.url}", expert=self.name, endpoint=endpoint.url
            ) from fault
        except TimeoutError as fault:
            endpoint.failed("no token in time")
            raise ExpertTimeout(
                f"expert {self.name}: {endpoint.url} sent nothing for too long; `timeouts` in its manifest sets it",
                expert=self.name, endpoint=endpoint.url,
            ) from fault  # fmt: skip
        except (aiohttp.ClientError, OSError, orjson.JSONDecodeError, KeyError) as fault:
            raise self._broke(f"broke off, or did not answer as vLLM does ({type(fault).__name__})") from fault
        finally:
            endpoint.in_flight -= 1

    def _broke(self, what: str) -> ExpertBroke:
        self._endpoint.failed(what[:200])
        return ExpertBroke(
            f"expert {self.name}: {self._endpoint.url} {what}", expert=self.name, endpoint=self._endpoint.url
        )


class VllmTokenCall:
    """`experts.protocols.TokenCall` over one server. `endings` is what is known of tokens that end an answer; kept by
    the expert, since it never changes."""

    def __init__(self, server: Server, prompt: Sequence[int], room: int, endings: dict[int, bool]) -> None:
        self.prompt = prompt
        self.room = room
        self._server = server
        self._endings = endings

    async def continued(
        self, answer: Sequence[int], *, most: int, top: int, sampling: Mapping[str, Any]
    ) -> AsyncGenerator[Said]:
        async with aclosing(self._server.stream(self._body(answer, most, top) | dict(sampling))) as stream:
            async for choice in stream:
                for said in self._said(choice, top):
                    yield said

    async def drafted(self, answer: Sequence[int], most: int, top: int) -> list[Said]:
        (choice,) = await self._server.complete(self._body(answer, most, top) | {"temperature": 0})
        return self._said(choice, top)

    async def scored(self, answer: Sequence[int], draft: Sequence[int], top: int) -> list[Top]:
        """As one call with a prompt for each place: the server batches them, and reads what it has cached. Not by
        `prompt_logprobs`: it would read the whole prompt anew, and on a server of LoRA adapters vLLM 0.32 dies of it
        as soon as another request is in the same batch."""
        prompts = [[*self.prompt, *answer, *draft[:place]] for place in range(len(draft) + 1)]
        body = self._body((), 1, top) | {"temperature": 0, "prompt": prompts}
        choices = sorted(await self._server.complete(body), key=lambda choice: choice["index"])
        return [_tops(choice, top)[0] for choice in choices]

    async def encoded(self, text: str) -> list[int]:
        return (await self._server.tokenize({"prompt": text, "add_special_tokens": False}))["tokens"]

    async def text(self, answer: Sequence[int]) -> str:
        return await self._server.detokenize(answer) if answer else ""

    async def ends(self, token: int) -> bool:
        """Found out by having the server say it: a call of two tokens that may only be this one stops after the first
        where it is an end."""
        known = self._endings.get(token)
        if known is None:
            body = self._body((), 2, 0) | {"allowed_token_ids": [token], "temperature": 0}
            (choice,) = await self._server.complete(body)
            known = self._endings[token] = choice["finish_reason"] == "stop"
        return known

    def _body(self, answer: Sequence[int], most: int, top: int) -> dict[str, Any]:
        return {"prompt": [*self.prompt, *answer], "max_tokens": most, "logprobs": top,
                "return_token_ids": True, "return_tokens_as_token_ids": True}  # fmt: skip

    def _said(self, choice: dict[str, Any], top: int) -> list[Said]:
        """The tokens of one piece. Its text goes with the last of them: a server cuts text where it can be read."""
        tokens: list[int] = choice["token_ids"]
        if not tokens:
            return []
        tops, end = _tops(choice, top), choice["finish_reason"]
        last = len(tokens) - 1
        if end == "stop" and choice.get("stop_reason") is None:
            self._endings[tokens[last]] = True
        return [
            Said(token, choice["text"] if place == last else "", row, end if place == last else None)
            for place, (token, row) in enumerate(zip(tokens, tops, strict=True))
        ]


async def begun(server: Server, query: Query, endings: dict[int, bool]) -> VllmTokenCall:
    asked = {name: orjson.loads(bytes(query.fields[name])) for name in _TEMPLATE_FIELDS if name in query.fields}
    found = await server.tokenize({"add_generation_prompt": True, **asked})
    return VllmTokenCall(server, found["tokens"], found["max_model_len"] - found["count"], endings)


async def tokenizer_of(server: Server) -> str:
    tokens = (await server.tokenize({"prompt": PROBE, "add_special_tokens": False}))["tokens"]
    return hashlib.sha256(orjson.dumps(tokens)).hexdigest()[:16]


def _tops(choice: dict[str, Any], most: int) -> list[Top]:
    rows: list[dict[str, float]] = choice["logprobs"]["top_logprobs"]
    return [likeliest({int(key[_ID:]): value for key, value in row.items()}, most) for row in rows]


def likeliest(row: Mapping[int, float], most: int) -> Top:
    """The `most` (0: all) likeliest of a position; ties go to the lower id. Servers add the token that was said where
    it is not among the likeliest, which a sum over experts must not see."""
    ordered = sorted(row.items(), key=lambda one: (-one[1], one[0]))
    return dict(ordered[: most or None])
