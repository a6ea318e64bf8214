"""What happens to a query, in order. The one file that knows the order.

    resolve   the model's name                -> a route, or one expert named directly
    decide    query, cards, load, rights      -> plan          (embed, estimate, decide; cached)
    seat      plan, experts                   -> voices
    compose   query, voices                   -> deltas -> emit ; answer, once
    record    run                             -> metrics, log line, decision log

Parsing comes before (`experts.wire`), HTTP around (`router.http`).
"""

from __future__ import annotations

import asyncio
from difflib import get_close_matches
from time import perf_counter

from experts.errors import ExpertError, Forbidden, Limited, UnknownModel
from experts.language import Answer, Query, Usage
from experts.protocols import Emit
from registry.load import Registry
from router.artifact import Artifact
from router.assembly import PRESETS, Assembly, Snapshot
from router.decide import Decided, Decider, Route, digest_of
from router.exploration import explored
from router.keys import Key
from router.ledger import Ledger
from router.plan import Plan
from router.records.log import DecisionLog
from router.run import Attempt, Run
from router.situation import prompt_tokens
from router.telemetry import Telemetry
from router.texts import routing_texts

ANYBODY = Key("anonymous")
"""The caller of a gateway without keys: may ask for everything."""


class Seats:
    """The voices of one plan: asks experts under their limits and keeps the record of every attempt."""

    __slots__ = ("_ledger", "_run", "_snapshot", "_telemetry", "plan")

    def __init__(self, plan: Plan, snapshot: Snapshot, ledger: Ledger, telemetry: Telemetry, run: Run) -> None:
        self.plan = plan
        self._snapshot = snapshot
        self._ledger = ledger
        self._telemetry = telemetry
        self._run = run

    @property
    def committed(self) -> bool:
        return self._run.committed

    async def ask(self, expert: str, query: Query, emit: Emit) -> Answer:
        """One call to one expert. Raises ExpertError; an expert that is full counts as one that failed."""
        run, started = self._run, perf_counter()
        limits = self._snapshot.limits[expert]
        try:
            limited = await self._ledger.enter_expert(expert, limits)
            if not limited:
                raise _full(expert)
            run.speaking = expert
            try:
                answer = await self._snapshot.experts[expert].answer(query, emit)
            finally:
                await self._ledger.leave_expert(expert)
        except ExpertError as fault:
            run.attempts.append(Attempt(expert, Usage(), 0.0, perf_counter() - started, fault))
            self._telemetry.failures.labels(expert, fault.code or "").inc()
            raise
        except asyncio.CancelledError:  # the client left, or nobody needs this voice any more: no failure of the expert
            run.attempts.append(Attempt(expert, Usage(), 0.0, perf_counter() - started, _cancelled(expert)))
            raise
        cost = self._snapshot.cards[expert].price.of(answer.usage)
        run.attempts.append(Attempt(expert, answer.usage, cost, answer.took_s))
        return answer


class Router:
    """Routes and answers queries against the snapshot in force. One a process; the harness drives the same class."""

    def __init__(self, assembly: Assembly, snapshot: Snapshot, *, ledger: Ledger, telemetry: Telemetry,
                 log: DecisionLog | None = None, cache_size: int = 10_000) -> None:  # fmt: skip
        self.assembly = assembly
        self.log = log
        self.snapshot = snapshot
        self.telemetry = telemetry
        self.ledger = ledger
        self._decider = Decider(cache_size=cache_size)
        self._adopting = asyncio.Lock()

    def measure(self, telemetry: Telemetry) -> None:
        """Gauges whose state lives here, set when metrics are read."""
        for name, expert in self.snapshot.experts.items():
            load = expert.load()
            telemetry.expert_up.labels(name).set(load.up)
            telemetry.expert_in_flight.labels(name).set(load.in_flight)
        for name, embedding in self.snapshot.embeddings.items():
            telemetry.set_embedding(name, embedding.stats())
        if self.log is not None:
            telemetry.set_records(self.log.stats())

    async def adopt(self, registry: Registry) -> None:
        """Put a new registry in force. Raises RegistryError, and changes nothing, when it cannot be built."""
        async with self._adopting:
            self.snapshot = await self.assembly.build(registry)

    async def adopt_artifact(self, artifact: Artifact) -> None:
        """Put what was fitted elsewhere in force. Raises ConfigError, and changes nothing, when it does not fit."""
        async with self._adopting:
            self.snapshot = await self.assembly.build_on(artifact, self.snapshot.registry)

    def record(self, run: Run) -> None:
        """The run is over, however it ended: count it, and log its decision."""
        self.telemetry.finished(run)
        if self.log is not None:
            self.log.record(run)

    async def plan(self, query: Query, run: Run, caller: Key = ANYBODY) -> tuple[Plan, Snapshot]:
        """Who would answer this query. Raises UnknownModel, Forbidden or NoCandidate."""
        snapshot = self.snapshot
        found = resolve(snapshot, query.model, caller)
        if self.log is not None:
            self._keep(query, run, found)
        if isinstance(found, Plan):
            return found, snapshot
        route, preset = found
        decided = await self._decider.decide(route, query, preset=preset, allowed=caller.experts)
        run.decided, run.cached, run.decide_s = decided, decided.cached, decided.took_s
        plan = explored(decided.plan, route.names, route.explore, query.id) if route.explore else decided.plan
        self.telemetry.decided(route.name, plan.expert, run.cached, run.decide_s)
        return plan, snapshot

    def _keep(self, query: Query, run: Run, found: Plan | tuple[Route, str]) -> None:
        """What the decision log wants of the query itself."""
        assert self.log is not None
        run.max_tokens = query.max_tokens
        direct = isinstance(found, Plan)
        if direct or self.log.texts:
            texts, _ = routing_texts(query)
            run.text = texts[-1] if self.log.texts else ""
            if direct:
                run.decided = Decided(found, False, digest_of(texts), prompt_tokens(query))

    async def answer(self, query: Query, emit: Emit, run: Run, caller: Key = ANYBODY) -> Answer:
        """Answer one query. Deltas of a streamed query go through `emit`; `run` is filled in as it happens."""
        run.plan, snapshot = await self.plan(query, run, caller)
        voices = Seats(run.plan, snapshot, self.ledger, self.telemetry, run)
        composer = snapshot.routes[run.plan.route].composer if run.plan.route else snapshot.single
        run.answer = await composer.compose(query, voices, emit)
        return run.answer


def resolve(snapshot: Snapshot, model: str, caller: Key = ANYBODY) -> Plan | tuple[Route, str]:
    """`model` names a route (`auto`), a route under a preset (`auto:cheap`) or one expert."""
    plan = snapshot.direct.get(model)
    if plan is not None:
        if caller.experts is not None and model not in caller.experts:
            raise Forbidden(f"this key may not ask the expert {model}", param="model")
        return plan
    name, _, preset = model.partition(":")
    route = snapshot.routes.get(name)
    if route is None or preset not in ("", *PRESETS):
        raise _unknown(snapshot, model, caller, preset, name if route is not None else "")
    if caller.routes is not None and name not in caller.routes:
        raise Forbidden(f"this key may not use the route {name}", param="model")
    return route, preset


def _unknown(snapshot: Snapshot, model: str, caller: Key, preset: str, route: str) -> UnknownModel:
    """What to say of a model that is none. `route` is the one it begins with. Only what the caller may use is named."""
    if route and caller.may_route(route):
        return UnknownModel(f"model {model!r}: route {route} has the presets {', '.join(PRESETS)}, not {preset!r}",
                            param="model")  # fmt: skip
    known = [name for name in snapshot.routes if caller.may_route(name)]
    known += [name for name in snapshot.direct if caller.may_ask(name)]
    near = get_close_matches(model, known, 1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return UnknownModel(f"model {model!r} is neither a route nor an expert; {hint}GET /v1/models lists them",
                        param="model")  # fmt: skip


def _cancelled(expert: str) -> ExpertError:
    return ExpertError(f"the call to expert {expert} was cancelled before it ended", expert=expert, code="cancelled")


def _full(expert: str) -> ExpertError:
    fault = ExpertError(f"expert {expert} has as many calls under way as its manifest allows", expert=expert)
    fault.status, fault.type, fault.code = Limited.status, Limited.type, "expert_full"
    return fault
