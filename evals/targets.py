"""Whom a live run asks: a router in this process, or any OpenAI-compatible address. To the run they are the same."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from os import urandom
from time import perf_counter, time
from typing import Any, NamedTuple, Protocol

import aiohttp
import orjson

from evals.journal import Answered
from evals.sample import Ask, Sample, Turn
from experts.errors import AllFailed, ConfigError, ConsiliumError, ExpertBroke, ExpertDown, ExpertError, Limited
from experts.language import Query
from experts.protocols import silent
from experts.wire import parse
from router.explain import plan_json
from router.pipeline import Router
from router.run import Run

TRIES = 4
FIRST_WAIT_S = 0.5
WAITS_FOR = frozenset({408, 429, 500, 502, 503, 504})


class Reply(NamedTuple):
    """What one turn got. `cost_usd` is None where nobody says what it cost; `decision` where nobody says why."""

    text: str
    expert: str
    decision_id: str
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    took_ms: float
    decision: Mapping[str, Any] | None = None


class Target(Protocol):
    """Raises ConsiliumError where there is no answer, after some tries where trying again may help."""

    async def turn(self, model: str, turns: Sequence[Turn]) -> Reply: ...

    def saying(self, fields: Mapping[str, Any]) -> Target:
        """The same, with other fields in every request."""
        ...


async def asked(target: Target, model: str, sample: Sample) -> Answered:
    """A sample, asked with its follow-ups in one conversation."""
    turns, replies = list(sample.turns), list[Reply]()
    for number in range(len(sample.follow_ups) + 1):
        if number:
            turns += [{"role": "assistant", "content": replies[-1].text},
                      {"role": "user", "content": sample.follow_ups[number - 1]}]  # fmt: skip
        replies.append(await target.turn(model, turns))
    costs = [reply.cost_usd for reply in replies if reply.cost_usd is not None]
    return Answered(
        sample.id, model, replies[-1].text, replies[-1].expert, replies[-1].decision_id,
        tuple(reply.text for reply in replies[:-1]), sum(reply.prompt_tokens for reply in replies),
        sum(reply.completion_tokens for reply in replies), sum(costs) if len(costs) == len(replies) else None,
        round(sum(reply.took_ms for reply in replies), 2), round(time(), 3),
        replies[-1].decision,
    )  # fmt: skip


def judge_of(target: Target, model: str) -> Ask:
    """An expert as a judge."""

    async def judge(turns: Sequence[Turn]) -> str:
        return (await target.turn(model, turns)).text

    return judge


class RouterTarget:
    """A router in this process, driven as the gateway drives it. `fields` go into every request."""

    def __init__(self, router: Router, fields: Mapping[str, Any]) -> None:
        self._router = router
        self._fields = dict(fields)

    def saying(self, fields: Mapping[str, Any]) -> RouterTarget:
        return RouterTarget(self._router, fields)

    async def turn(self, model: str, turns: Sequence[Turn]) -> Reply:
        body = orjson.dumps({**self._fields, "model": model, "messages": turns})
        return await _patiently(lambda: self._once(parse("chat", body, "dec-" + urandom(12).hex())))

    async def _once(self, query: Query) -> Reply:
        run = Run(query.id, caller="eval", model=query.model)
        try:
            answer = await self._router.answer(query, silent, run)
            run.status = 200
        except ConsiliumError as fault:
            run.status, run.error = fault.status, fault.code or fault.type
            raise
        finally:
            self._router.record(run)
        usage = run.usage
        return Reply(
            answer.text, answer.expert, run.id, usage.prompt_tokens, usage.completion_tokens, run.cost_usd,
            (perf_counter() - run.started) * 1e3, None if run.plan is None else plan_json(run.plan),
        )  # fmt: skip


class UrlTarget:
    """Any OpenAI-compatible server; a gateway of this project also says who answered, and by which decision."""

    def __init__(self, session: aiohttp.ClientSession, url: str, key: str | None, fields: Mapping[str, Any]) -> None:
        base = url.rstrip("/")
        self._url = base + ("/chat/completions" if base.endswith("/v1") else "/v1/chat/completions")
        self._session = session
        self._key = key
        self._headers = {"authorization": f"Bearer {key}"} if key else {}
        self._fields = dict(fields)

    def saying(self, fields: Mapping[str, Any]) -> UrlTarget:
        return UrlTarget(self._session, self._url.removesuffix("/chat/completions"), self._key, fields)

    async def turn(self, model: str, turns: Sequence[Turn]) -> Reply:
        body = orjson.dumps({**self._fields, "model": model, "messages": turns})
        return await _patiently(lambda: self._once(model, body))

    async def _once(self, model: str, body: bytes) -> Reply:
        started = perf_counter()
        headers = {**self._headers, "content-type": "application/json"}
        try:
            async with self._session.post(self._url, data=body, headers=headers) as response:
                said = await response.read()
                head, status = response.headers, response.status
        except (aiohttp.ClientError, TimeoutError) as fault:
            raise ExpertDown(
                f"no answer from {self._url} ({fault or type(fault).__name__})", expert=model, endpoint=self._url
            ) from fault
        if status == 429:
            wait = head.get("retry-after", "")
            raise Limited(f"{self._url}: too many requests", retry_after_s=float(wait) if wait.isdigit() else 1.0)
        if status >= 400:
            broken = ExpertBroke(f"{self._url} answered {status}: {said[:500].decode('utf-8', 'replace')}",
                                 expert=model, endpoint=self._url)  # fmt: skip
            broken.status = status
            raise broken
        try:
            found = orjson.loads(said)
            text = found["choices"][0]["message"].get("content") or ""
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as fault:
            raise ExpertBroke(f"{self._url}: not a chat completion: {said[:200]!r}", expert=model) from fault
        usage = found.get("usage") or {}  # pyright: ignore[reportUnknownVariableType]
        return Reply(
            text, head.get("x-consilium-expert") or str(found.get("model") or model),
            head.get("x-consilium-decision-id") or str(found.get("id") or ""), int(usage.get("prompt_tokens") or 0),  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]
            int(usage.get("completion_tokens") or 0), None, (perf_counter() - started) * 1e3,  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]
        )  # fmt: skip


async def _patiently(once: Callable[[], Awaitable[Reply]]) -> Reply:
    """Tries again, after a while that doubles, what another try may mend."""
    wait = FIRST_WAIT_S
    for _ in range(TRIES - 1):
        try:
            return await once()
        except Limited as fault:
            await asyncio.sleep(max(wait, fault.retry_after_s))
        except (ExpertError, AllFailed) as fault:
            if fault.status not in WAITS_FOR:
                raise
            await asyncio.sleep(wait)
        wait *= 2
    return await once()


def is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def check_target(model: str, router: Router) -> None:
    """Raises ConfigError where the registry has no such route or expert."""
    known = [*router.snapshot.routes, *router.snapshot.direct]
    if model.partition(":")[0] not in known:
        raise ConfigError(f"--target {model!r}: neither a route nor an expert of the registry: {', '.join(known)}")
