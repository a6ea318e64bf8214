"""What happens to a query, in order. The one file that knows the order.

    resolve   the model's name                -> a route, or one expert named directly
    decide    query, cards, load, rights      -> plan          (embed, estimate, decide; cached)
    retrieve  plan, retrievers                -> query with passages   (only where the plan says so)
    seat      plan, experts                   -> voices
    compose   query, voices                   -> deltas -> emit ; answer, once
    record    run                             -> metrics, log line, decision log

Parsing comes before (`experts.wire`), HTTP around (`router.http`).
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from difflib import get_close_matches
from time import perf_counter

from experts.errors import BudgetSpent, Forbidden, UnknownModel
from experts.language import Answer, Query
from experts.protocols import Emit
from experts.retrieval.reranking import asking
from experts.wire import with_usage
from registry.load import Registry
from router.artifact import Artifact
from router.assembly import PRESETS, Assembly
from router.budget import Budget, Gauges
from router.decide import WORTH, Decided, Decider, Route, digest_of
from router.exploration import explored
from router.gate import arithmetic
from router.inforce import Aside, Decide
from router.keys import Key
from router.ledger import Ledger
from router.passages import Lookup, asked_text, informed, search, within
from router.plan import Plan, Retrieval
from router.records.log import DecisionLog
from router.run import Run
from router.situation import prompt_tokens
from router.snapshot import Snapshot
from router.telemetry import Telemetry
from router.texts import routing_texts
from router.turnstile import Turnstile
from router.voices import Seats
from router.wishes import NO_WISH, composed, wished

ANYBODY = Key("anonymous")
"""The caller of a gateway without keys: may ask for everything."""
LOOKING_UP = 0.5
"""Of what a request has left, the most that passages may take: the rest is the answer's."""


class Router:
    """Routes and answers queries against the snapshot in force. One a process; the harness drives the same class."""

    def __init__(self, assembly: Assembly, snapshot: Snapshot, *, ledger: Ledger, telemetry: Telemetry,
                 log: DecisionLog | None = None, cache_size: int = 10_000) -> None:  # fmt: skip
        self.assembly = assembly
        self.log = log
        self.snapshot = snapshot
        self.telemetry = telemetry
        self.ledger = ledger
        self._gauges = Gauges()
        self._starts, self._arrivals = Turnstile(), Turnstile()
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
        """Who would answer this query, in which budget. Raises UnknownModel, Forbidden, NoCandidate, BadRequest."""
        snapshot = self.snapshot
        found = resolve(snapshot, query.model, caller)
        if self.log is not None:
            self._keep(query, run, found)
        wish = wished(query.extension) if query.extension else NO_WISH
        if isinstance(found, Plan):
            run.budget = Budget(wish.allowance, run.started)
            return composed(found, query, wish.composer, snapshot.composers, run), snapshot
        route, preset = found
        run.budget = Budget(route.allowance.tightened(wish.allowance), run.started)
        preset = preset or (WORTH if wish.worth else "")
        plan = await self._decided(route, preset, query, run, caller)
        plan = composed(plan, query, wish.composer, route.composers, run)
        if route.lookup is not None:
            plan = replace(plan, retrieval=await self._weighed(route, route.lookup, query, plan))
        return plan, snapshot

    async def _decided(self, route: Route, preset: str, query: Query, run: Run, caller: Key) -> Plan:
        assert run.budget is not None
        await self._arrivals.enter()
        decided = await self._decider.decide(
            route, query, preset=preset, allowed=caller.experts, allowance=run.budget.allowance
        )
        run.decided, run.cached, run.decide_s = decided, decided.cached, decided.took_s
        plan = explored(decided.plan, route.names, route.explore, query.id) if route.explore else decided.plan
        self.telemetry.decided(route.name, plan.expert, run.cached, run.decide_s)
        return plan

    async def _weighed(self, route: Route, lookup: Lookup, query: Query, plan: Plan) -> Retrieval:
        """The retrieval part of a plan: whether passages are worth their price."""
        started, vector = perf_counter(), None
        if lookup.embedding is not None:
            vector = await lookup.embedding.embed(*routing_texts(query))
        search_s = lookup.pace.expected_s
        verdict = lookup.gate.decide(vector, plan.confidence, lookup.price_s * search_s)
        sighted = plan.retrieve is None and lookup.gate.sight is not None
        if plan.retrieve is not None:
            verdict = verdict._replace(retrieve=plan.retrieve, reason=plan.reason, share=float(plan.retrieve))
        elif sighted:
            verdict = verdict._replace(retrieve=True, reason=f"what is found decides; before, {verdict.reason}")
        seats = [seat.expert for seat in plan.seats]
        prices = {card.name: card.price.input for card in route.cards}
        prompt, expected = prompt_tokens(query), {row.expert: row.cost_usd for row in plan.estimates}
        usd = sum(expected.get(name) or prompt * prices[name] / 1e6 for name in seats)
        costs = arithmetic(
            verdict, usd, prompt, lookup.gate.tokens, [prices[name] for name in seats],
            (perf_counter() - started) * 1e3, search_s * 1e3, sighted=sighted,
        )  # fmt: skip
        return Retrieval(
            verdict.retrieve, lookup.names, lookup.passages, verdict.reason, verdict.without, verdict.using,
            verdict.price, costs,
        )  # fmt: skip

    async def _informed(self, query: Query, plan: Plan, snapshot: Snapshot, run: Run, voices: Seats) -> Query:
        """The query with its passages. A retriever that fails costs the answer its passages, never the answer; an
        expert that reranks is asked within the request's budget, of which it leaves half."""
        lookup = snapshot.routes[plan.route].lookup
        text = asked_text(query)
        if lookup is None or not text:
            return query
        budget = voices.budget
        limit_s = min(lookup.timeout_s, max(budget.ms_left, 0.0) / 1e3 * LOOKING_UP)

        async def ask(expert: str, asked: Query) -> Answer:
            if budget.calls_left < 2:
                raise BudgetSpent("the request's last call is the answer's", limit="calls")
            return await voices.hear(expert, asked, role="rerank", room=budget.rooms(1, keep=LOOKING_UP))

        with asking(ask):
            found = await search(lookup.sources, text, lookup.passages, limit_s, lookup.choosing)
        if limit_s >= lookup.timeout_s:
            lookup.pace.took(found.took_s)
        voices.answered = 0  # who puts passages into order has promised no answer
        passages = within(found.passages, lookup.max_tokens)
        run.retrieval = {"took_ms": round(found.took_s * 1e3, 2), "found": len(passages), "failed": found.failed,
                         "searched": [source.retriever.name for source in found.choice.sources]}  # fmt: skip
        if plan.retrieve is None and lookup.gate.sight is not None and lookup.embedding is not None:
            best = found.passages[0] if found.passages else None
            verdict = lookup.gate.weigh(await lookup.embedding.embed(*routing_texts(query)), best)
            run.retrieval |= {"told": verdict.retrieve, "reason": verdict.reason}
            passages = passages if verdict.retrieve else []
        self.telemetry.retrieved(found, passages)
        if not passages:
            return query
        run.passages = passages
        return informed(query, passages, lookup.template)

    def _deciding(self, plan: Plan, snapshot: Snapshot, run: Run, caller: Key) -> Decide | None:
        """How the plan's route decides on further queries of this request; None where it has no route."""
        if not plan.route:
            return None
        route, budget = snapshot.routes[plan.route], run.budget

        async def decide(query: Query) -> Plan:
            assert budget is not None
            decided = await self._decider.decide(
                route, query, preset=query.model.partition(":")[2], allowed=caller.experts, allowance=budget.allowance
            )
            return decided.plan

        return decide

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

    async def answer(
        self, query: Query, emit: Emit, run: Run, caller: Key = ANYBODY, aside: Aside | None = None
    ) -> Answer:
        """Answer one query. Deltas of a streamed query go through `emit`, how it goes through `aside`; `run` is
        filled in as it happens."""
        plan, snapshot = await self.plan(query, run, caller)
        run.plan = plan
        run.tells_spans = bool(query.extension.get("voices"))
        voices = Seats(plan, snapshot, self.ledger, self.telemetry, run, budget=run.budget, gauges=self._gauges,
                       aside=aside, turnstile=self._starts,
                       decide=self._deciding(plan, snapshot, run, caller))  # fmt: skip
        if plan.retrieval is not None and plan.retrieval.retrieve:
            query = await self._informed(query, plan, snapshot, run, voices)
        composer = snapshot.composers_of(plan.route)[plan.composer]
        if plan.composer == "single" and not voices.budget.limited and not run.attempts:
            run.answer = await composer.compose(query, voices, emit)
            return run.answer
        run.composed = True
        answer = await composer.compose(replace(query, include_usage=False), voices, emit)
        run.answer = answer if query.stream else replace(answer, body=with_usage(answer.body, run.usage))
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
