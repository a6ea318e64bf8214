"""The voices of one plan: experts asked under their own limits and the request's budget, every attempt kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from math import inf
from time import perf_counter
from typing import Any

import orjson

from experts.errors import BudgetSpent, ConsiliumError, ExpertError
from experts.language import Answer, Card, Delta, Query, Spoken, Usage
from experts.protocols import Emit, TokenExpert, silent
from experts.speech import Chunks
from router.budget import Budget, Gauges, Room
from router.inforce import Aside, Decide, InForce, cancelled, full
from router.ledger import Ledger
from router.listening import Enough, Listener, by_grant, scarce, within
from router.parts import Part
from router.plan import Estimate, Plan
from router.protocols import Call, Heard
from router.run import Attempt, Run
from router.spans import SPEAKING
from router.telemetry import Telemetry
from router.turnstile import Turnstile
from router.worth import Composing


class Seats:
    """`router.protocols.Voices` over the experts of one snapshot."""

    __slots__ = ("_aside", "_decide", "_gauges", "_ledger", "_run", "_snapshot", "_telemetry", "_turnstile", "answered",
                 "budget", "plan")  # fmt: skip

    def __init__(
        self, plan: Plan, snapshot: InForce, ledger: Ledger, telemetry: Telemetry, run: Run, *,
        budget: Budget | None = None, gauges: Gauges | None = None, aside: Aside | None = None,
        turnstile: Turnstile | None = None, decide: Decide | None = None,
    ) -> None:  # fmt: skip
        self.plan = plan
        self.budget = budget or Budget()
        self.answered = 0
        self._gauges = gauges or Gauges()
        self._turnstile = turnstile or Turnstile()
        self._aside = aside
        self._decide = decide
        self._snapshot = snapshot
        self._ledger = ledger
        self._telemetry = telemetry
        self._run = run

    @property
    def committed(self) -> bool:
        return self._run.committed

    @property
    def estimates(self) -> Mapping[str, Estimate]:
        return {row.expert: row for row in self.plan.estimates}

    @property
    def cards(self) -> Mapping[str, Card]:
        return self._snapshot.cards

    @property
    def abilities(self) -> Mapping[str, float]:
        return self._snapshot.abilities_of(self.plan.route)

    @property
    def composing(self) -> Composing:
        return self._snapshot.composing_of(self.plan.route)

    def note(self, **facts: Any) -> None:
        self._run.notes.update(facts)

    async def progress(self, event: str, **facts: Any) -> None:
        if self._aside is not None:
            await self._aside({"event": event, **facts}, self.answered > 0)

    async def routed(self, query: Query) -> Plan:
        return self.plan if self._decide is None else await self._decide(query)

    async def ask(self, expert: str, query: Query, emit: Emit, *, role: str = "seat") -> Answer:
        """One call whose deltas go to the client. Without a budget nothing stands between expert and `emit`."""
        self._run.speaking = expert
        if self.plan.composer != "single":
            await self._turnstile.enter()
        if fused := self._run.tells_spans and bool(self.cards[expert].members):
            emit = self._telling(expert, emit)
        if self.budget.limited:
            answer = await self._limited(expert, query, emit, role, None)
        else:
            answer = await self._unlimited(expert, query, emit, role)
        if fused and not query.stream:
            await self._tell(expert, answer.spoken)
        return answer

    async def hear(self, expert: str, query: Query, *, role: str = "seat", room: Room | None = None) -> Answer:
        """One call, silently; the answer is whole, whether or not the caller streams."""
        return await self._silent(expert, query, role, room, counted=False)

    async def _silent(self, expert: str, query: Query, role: str, room: Room | None, *, counted: bool) -> Answer:
        """`counted`: what the call has said must be known even if it is cancelled. Else, without a budget and for a
        caller who does not stream, it need not be heard while it speaks (and has the timeouts of such a caller)."""
        await self._turnstile.enter()
        if counted or query.stream or self.budget.limited:
            asked = query if query.stream else replace(query, stream=True)
            answer = await self._limited(expert, asked, None, role, room)
        else:
            answer = await self._unlimited(expert, query, silent, role)
        self.answered += 1
        return answer

    async def hear_all(
        self, calls: Sequence[Call], *, keep: float = 0.0, keep_calls: int = 0,
        enough: Callable[[Sequence[Heard]], bool] | None = None,
    ) -> list[Heard]:  # fmt: skip
        """Several calls at once, none cancelled because another failed. See Voices."""
        affordable = self._affordable(calls, keep, keep_calls)
        room = self.budget.rooms(affordable, keep=keep) if self.budget.limited else None
        heard: list[Heard] = [
            Heard(call, error=BudgetSpent(f"{call.expert} was not asked: the request's budget has no room for it",
                                          limit=self.budget.ended or "tokens"))
            for call in calls[affordable:]
        ]  # fmt: skip

        async def one(call: Call) -> Heard:
            try:
                return Heard(
                    call, await self._silent(call.expert, call.query, call.role, room, counted=enough is not None)
                )
            except (ExpertError, BudgetSpent) as fault:
                return Heard(call, error=fault)

        answered: list[Heard] = []

        async def told(found: Heard) -> bool:
            """Whether that was enough."""
            answered.append(found)
            await self.progress(
                "heard", expert=found.call.expert, role=found.call.role, of=affordable, done=len(answered),
                error=found.error.message if found.error else None,
            )  # fmt: skip
            return enough is not None and enough(answered)

        if affordable == 1:  # needs no task of its own, and none to wait for it
            await told(await one(calls[0]))
            return [*answered, *heard]
        tasks = [asyncio.create_task(one(call)) for call in calls[:affordable]]
        try:
            for next_one in asyncio.as_completed(tasks):
                if await told(await next_one):
                    break
        finally:
            await cancelled(tasks)
        return [*answered, *heard]

    def speaks_tokens(self, expert: str) -> TokenExpert | None:
        """The expert, where it can be asked token by token."""
        found = self._snapshot.experts.get(expert)
        return found if isinstance(found, TokenExpert) else None

    @asynccontextmanager
    async def join(self, expert: str, query: Query, *, role: str, room: Room | None = None) -> AsyncIterator[Part]:
        """An expert's part in an answer that several write: one call, one attempt. See Voices."""
        started, price, budget = perf_counter(), self.cards[expert].price, self.budget
        asked = self.speaks_tokens(expert)
        if asked is None:
            raise ExpertError(f"expert {expert} has no token ids: its provider does not offer them", expert=expert)
        grant = budget.reserve(self._gauges.prompt(expert, query.messages), price, query.max_tokens, room)
        part: Part | None = None
        try:
            if not await self._ledger.enter_expert(expert, self._snapshot.limits[expert]):
                raise full(expert)
            try:
                part = Part(expert, await asked.by_token(query), inf if grant.completion is None else grant.completion)
                yield part
            finally:
                await self._ledger.leave_expert(expert)
        except (ConsiliumError, asyncio.CancelledError) as fault:
            usage = part.usage if part else Usage()
            budget.settle(grant, usage, price)
            if isinstance(fault, ExpertError) and fault.expert != expert:
                self._kept(expert, usage, started, role)
            else:
                self._failed(expert, usage, started, role, fault)
            raise
        usage = part.usage if part else Usage()
        budget.settle(grant, usage, price)
        self._kept(expert, usage, started, role)

    async def spoke(
        self, expert: str, text: str, tokens: int = 1, changed: int | None = None, shift: float = 0.0
    ) -> None:
        """Keep who speaks; whoever asked for voices is told before the text of a new speaker."""
        begun = self._run.spans.spoke(expert, len(text), tokens, changed, shift)
        if begun is not None and self._aside is not None:
            await self._aside({"event": SPEAKING, "expert": expert, "start": begun.start}, True)

    def _telling(self, expert: str, emit: Emit) -> Emit:
        """`emit`, with who speaks told before each delta of a fused model."""

        async def telling(delta: Delta) -> None:
            await self._tell(expert, delta.spoken)
            await emit(delta)

        return telling

    async def _tell(self, expert: str, spoken: Sequence[Spoken]) -> None:
        # After the last expert comes the fused model itself: its router, speaking alone.
        members = (*self.cards[expert].members, expert)
        for said in spoken:
            who = members[said.member] if said.member < len(members) else f"{expert} {said.member + 1}"
            await self.spoke(who, said.text, said.tokens, said.changed, said.shift)

    async def say(self, query: Query, answer: Answer, emit: Emit) -> Answer:
        """Give the client an answer that was heard before: as chunks where it streams, else as it is."""
        self._run.speaking = answer.expert
        if not query.stream:
            return answer
        choice: dict[str, Any] = orjson.loads(answer.body)["choices"][0]
        chunks = Chunks(query, answer.expert, 0)
        said: dict[str, Any] = {"role": "assistant", **(choice.get("message") or {})}
        events = chunks.spoken(said if query.api == "chat" else choice["text"], choice.get("logprobs"))
        await emit(Delta(events + chunks.delta({}, answer.finish) if query.api == "chat" else events))
        return replace(answer, body=b"", streamed_text=answer.text)

    def _affordable(self, calls: Sequence[Call], keep: float, keep_calls: int) -> int:
        """How many of the calls, from the first on, can be made with enough room each."""
        budget = self.budget
        if not budget.limited:
            return len(calls)
        most = min(len(calls), max(int(min(budget.calls_left - keep_calls, len(calls))), 0))
        if most < len(calls):
            budget.cut("calls")
        sizes = [self._gauges.prompt(call.expert, call.query.messages) for call in calls]
        for count in range(most, 0, -1):
            room = budget.rooms(count, keep=keep)
            if all(size + 2 <= room.tokens for size in sizes[:count]):
                if count < most:
                    budget.cut("tokens")
                return count
        return min(most, 1)

    async def _unlimited(self, expert: str, query: Query, emit: Emit, role: str) -> Answer:
        started = perf_counter()
        self.budget.calls += 1
        try:
            answer = await self._enter(expert, query, emit)
        except (ExpertError, asyncio.CancelledError) as fault:
            self._failed(expert, Usage(), started, role, fault)
            raise
        self._kept(expert, answer.usage, started, role)
        return answer

    async def _limited(self, expert: str, query: Query, emit: Emit | None, role: str, room: Room | None) -> Answer:
        """One call under a grant, heard as it speaks; cut off where its grant ends, with what it said until then."""
        started, price, budget = perf_counter(), self.cards[expert].price, self.budget
        prompt = self._gauges.prompt(expert, query.messages)
        grant = budget.reserve(prompt, price, query.max_tokens, room)
        listener = Listener(query, emit, grant)
        asked = within(query, grant)
        late = False
        usage = Usage()
        try:
            try:
                async with asyncio.timeout(None if grant.until == inf else max(grant.until - perf_counter(), 0)):
                    answer = await self._enter(expert, asked, listener.take)
                usage = answer.usage
                ended = listener.finish() or answer.finish
            except Enough:
                answer, ended = Answer(expert), "length"
            except TimeoutError:
                late, answer, ended = True, Answer(expert), "length"
            usage = self._gauges.believed(expert, query.messages, usage, listener.ear.tokens, listener.ear.size)
            cut = late or not answer.finish
            if late and not listener.ear.tokens:
                budget.cut("ms")
                raise BudgetSpent(f"expert {expert} said nothing within the request's time", limit="ms")
            if cut or (ended == "length" and by_grant(query, grant)):
                budget.cut("ms" if late else scarce(grant))
            if emit is not None and cut and query.stream:
                await emit(Delta(Chunks(query, expert, 0).delta({}, "length")))
        except (ConsiliumError, asyncio.CancelledError) as fault:
            spent = self._gauges.believed(expert, query.messages, usage, listener.ear.tokens, listener.ear.size)
            spent = spent if listener.ear.tokens or not isinstance(fault, ExpertError) else Usage()
            budget.settle(grant, spent, price)
            self._failed(expert, spent, started, role, fault)
            raise
        budget.settle(grant, usage, price)
        self._kept(expert, usage, started, role)
        streamed = emit is not None and query.stream
        body = b"" if streamed else listener.ear.body(query, expert, usage, cut=cut)
        text = listener.ear.text if streamed else ""
        first = (listener.first_at or perf_counter()) - started
        return Answer(expert, body, text, usage, ended, answer.endpoint, first, perf_counter() - started, answer.chunks,
                      tuple(listener.spoken))  # fmt: skip

    async def _enter(self, expert: str, query: Query, emit: Emit) -> Answer:
        if not await self._ledger.enter_expert(expert, self._snapshot.limits[expert]):
            raise full(expert)
        try:
            return await self._snapshot.experts[expert].answer(query, emit)
        finally:
            await self._ledger.leave_expert(expert)

    def _kept(self, expert: str, usage: Usage, started: float, role: str) -> None:
        cost = self.cards[expert].price.of(usage)
        self._run.attempts.append(Attempt(expert, usage, cost, perf_counter() - started, None, role))

    def _failed(self, expert: str, usage: Usage, started: float, role: str, fault: BaseException) -> None:
        """Keep the attempt. One that was cancelled (the client left, or the voice is not needed) is no failure."""
        if not isinstance(fault, ConsiliumError):
            fault = ExpertError(f"the call to expert {expert} was cancelled before it ended", expert=expert,
                                code="cancelled")  # fmt: skip
        else:
            self._telemetry.failures.labels(expert, fault.code or "").inc()
        cost = self.cards[expert].price.of(usage)
        self._run.attempts.append(Attempt(expert, usage, cost, perf_counter() - started, fault, role))
