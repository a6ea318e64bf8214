"""Estimate and decide: one query in, one plan out, every number kept.

A decision is a pure function of the query, the route, the caller's rights and the experts' state (down or not, load
in four steps), so it is cached under exactly these.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from time import monotonic, perf_counter
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from experts.errors import NoCandidate
from experts.language import Card, Load, Query
from experts.protocols import Expert
from router.budget import UNLIMITED, Allowance
from router.embedding import Embedding
from router.passages import Lookup
from router.plan import Estimate, Estimates, Matrix, Plan, Queries, Seat
from router.protocols import Choice, Composer, Estimator, Passages, Policy, Situation
from router.situation import busy, constraint, prompt_tokens, situation
from router.stability import Incumbent
from router.texts import Vector, routing_texts
from router.worth import NOTHING_FITTED, Composing

LOAD_STEPS = 4
LOAD_FRESH_S = 0.05
WORTH = "worth"
"""The preset under which a request weighs compositions, whatever the route's own policy."""


class Learned(NamedTuple):
    """Where a route's estimator got what it knows: a fitted `artifact` (its version), `outcomes` that it was fitted on
    when the router was built (how many queries), or nothing but the manifests: the `prior`. `refused` says why an
    artifact that is there is not used."""

    source: Literal["artifact", "outcomes", "prior"] = "prior"
    version: str = ""
    rows: int = 0
    refused: str = ""

    def __str__(self) -> str:
        match self.source:
            case "artifact":
                said = f"fitted artifact {self.version}"
            case "outcomes":
                said = f"fitted just now on {self.rows:,} outcomes"
            case "prior":
                said = "prior: nothing was measured or fitted, only what the manifests promise is known"
        return f"{said} ({self.refused})" if self.refused else said


PRIOR = Learned()


@dataclass(frozen=True, slots=True)
class Route:
    """A declared route, ready to decide. `estimator` is None where there is nothing to choose between.

    `policies` by preset; the empty name is the route's own. `limits` are the experts' concurrency limits. `explore` is
    the share of its traffic that explores; `allowance` what one request may take; `composers` whom a request may wish
    for, the route's own with its options; `learned` where its estimates come from; `incumbent` what choices hold to;
    `abilities` to aggregate, by expert, of those that were measured.
    """

    name: str
    cards: tuple[Card, ...]
    experts: tuple[Expert, ...]
    limits: tuple[int | None, ...]
    estimator: Estimator | None
    embedding: Embedding | None
    policies: Mapping[str, Policy]
    policy_name: str
    composer: Composer
    composer_name: str
    default: int
    spares: int | tuple[str, ...]
    version: str
    composers: Mapping[str, Composer] = field(default_factory=dict[str, Composer])
    allowance: Allowance = UNLIMITED
    epoch: int = 0
    explore: float = 0.0
    learned: Learned = PRIOR
    incumbent: Incumbent | None = None
    abilities: Mapping[str, float] = field(default_factory=dict[str, float])
    composing: Composing = NOTHING_FITTED
    lookup: Lookup | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(card.name for card in self.cards)


class Decided(NamedTuple):
    """A plan, and what it was made from: the query's vector (d,) under the encoder of that fingerprint, the digest of
    its routing texts, its length in tokens. `cached`: made before, for an equal query; `took_s` seconds just now."""

    plan: Plan
    cached: bool
    digest: bytes
    prompt_tokens: float
    vector: Vector | None = None
    encoder: str = ""
    took_s: float = 0.0


class Decider:
    """Decides for the routes of a gateway, with a bounded cache of decisions.

    `decide` raises NoCandidate when hard constraints leave nobody.
    """

    def __init__(self, *, cache_size: int = 10_000) -> None:
        self._size = cache_size
        self._plans: OrderedDict[tuple[object, ...], Decided] = OrderedDict()
        self._states: dict[str, tuple[float, int, tuple[int, ...], list[Load]]] = {}

    async def decide(
        self, route: Route, query: Query, *, preset: str = "", allowed: frozenset[str] | None = None,
        allowance: Allowance = UNLIMITED,
    ) -> Decided:  # fmt: skip
        """The plan, from the cache where it can. `allowed` None: the caller may ask every expert."""
        started = perf_counter()
        texts, weights = routing_texts(query)
        state, loads = self._state(route)
        digest, tokens = digest_of(texts), prompt_tokens(query)
        key = (
            route.name, route.epoch, preset, allowed, state, digest, query.needs, int(tokens) >> 6, query.max_tokens,
            _too_small(route, tokens + (query.max_tokens or 0)), allowance,
        )  # fmt: skip
        known = self._plans.get(key)
        if known is not None:
            self._plans.move_to_end(key)
            return Decided(known.plan, True, digest, tokens, known.vector, known.encoder, perf_counter() - started)
        vector, encoder = None, ""
        if route.embedding is not None:
            vector = await route.embedding.embed(texts, weights)
            encoder = route.embedding.encoder.fingerprint
            queries = Queries([texts[-1]], vector[None, :])
        else:
            queries = Queries([texts[-1]])
        plan = decide(
            route, query, queries, loads, preset=preset, allowed=allowed, allowance=allowance,
            passages=None if route.lookup is None else _passages(route, route.lookup, vector),
        )  # fmt: skip
        decided = Decided(plan, False, digest, tokens, vector, encoder, perf_counter() - started)
        self._plans[key] = decided
        if len(self._plans) > self._size:
            self._plans.popitem(last=False)
        return decided

    def _state(self, route: Route) -> tuple[tuple[int, ...], list[Load]]:
        """Down or load step of each expert: read anew every LOAD_FRESH_S, since it cannot change faster and matter."""
        now = monotonic()
        known = self._states.get(route.name)
        if known is not None and now - known[0] < LOAD_FRESH_S and known[1] == route.epoch:
            return known[2], known[3]
        loads = [expert.load() for expert in route.experts]
        shares = busy(loads, route.limits)
        steps = tuple(
            min(int(share * LOAD_STEPS), LOAD_STEPS) if load.available else -1
            for load, share in zip(loads, shares, strict=True)
        )
        self._states[route.name] = (now, route.epoch, steps, loads)
        return steps, loads


def _too_small(route: Route, tokens: float) -> int:
    """How many experts have a shorter context: which ones those are follows from their number."""
    return sum(card.context is not None and tokens > card.context for card in route.cards)


def decide(
    route: Route, query: Query, queries: Queries, loads: Sequence[Load], *, preset: str = "",
    allowed: frozenset[str] | None = None, allowance: Allowance = UNLIMITED, passages: Passages | None = None,
) -> Plan:  # fmt: skip
    """The decision itself, without waiting for anything. Raises NoCandidate."""
    tokens = prompt_tokens(query)
    excluded = _excluded(route, query, tokens, loads, allowed)
    names = route.names
    left = [name for name in names if name not in excluded]
    if route.estimator is None or len(left) == 1:
        spares = _spares(route, left[:1], left[1:], excluded)
        why = "the only expert of the route" if len(names) == 1 else "the only expert left by the constraints"
        return Plan(
            route.name, route.composer_name, (Seat(left[0]),), spares, "only",
            f"{left[0]} is {why}" if len(left) == 1 else f"{left[0]} comes first; the route estimates nothing",
            excluded=excluded, registry_version=route.version,
        )  # fmt: skip
    limit = float("nan") if query.max_tokens is None else float(query.max_tokens)
    chosen = choose(
        route, route.estimator, queries, prompt=np.array([tokens], np.float32), limit=np.array([limit], np.float32),
        load=busy(loads, route.limits), allowed=np.array([[name not in excluded for name in names]]), preset=preset,
        allowance=allowance, passages=passages,
    )  # fmt: skip
    return _plan(route, chosen.estimates, chosen.situation, chosen.choices[0], excluded, preset)


class Chosen(NamedTuple):
    """A batch, decided: row i of the estimates and of the situation led to choice i."""

    estimates: Estimates
    situation: Situation
    choices: list[Choice]


def choose(
    route: Route, estimator: Estimator, queries: Queries, *, prompt: Matrix, limit: Matrix, load: Matrix,
    allowed: NDArray[np.bool_], preset: str = "", allowance: Allowance = UNLIMITED, passages: Passages | None = None,
) -> Chosen:  # fmt: skip
    """Estimates and choices of a batch of queries: the gateway's own decision, and what the evaluation replays.

    Shapes: `prompt` and `limit` (n,) tokens, `load` (e,), `allowed` (n, e); e follows the route's cards.
    """
    estimates = estimator.estimate(queries)
    if route.default not in (-1, estimates.default):
        estimates = replace(estimates, default=route.default, margins=())
    state = situation(route.cards, estimates, prompt=prompt, limit=limit, load=load, allowed=allowed)
    state = replace(state, allowance=allowance, texts=queries.texts, composing=route.composing, passages=passages)
    policy = route.policies[preset]
    if route.incumbent is not None:
        before = route.incumbent.chosen(queries, route.names, policy, state, route.default)
        estimates = replace(estimates, incumbents=before)
    return Chosen(estimates, state, policy.decide(estimates, state))


def _excluded(
    route: Route, query: Query, tokens: float, loads: Sequence[Load], allowed: frozenset[str] | None
) -> dict[str, str]:
    excluded: dict[str, str] = {}
    for card in route.cards:
        if allowed is not None and card.name not in allowed:
            excluded[card.name] = "not allowed for this key"
        elif why := constraint(card, query, tokens):
            excluded[card.name] = why
    if len(excluded) == len(route.cards):
        reasons = "; ".join(f"{name}: {why}" for name, why in excluded.items())
        raise NoCandidate(f"route {route.name}: no expert can take this request ({reasons})", param="model")
    down = [card.name for card, load in zip(route.cards, loads, strict=True) if not load.available]
    if len(excluded.keys() | set(down)) < len(route.cards):
        for name in down:
            excluded.setdefault(name, "down")
    return excluded


def _plan(
    route: Route, estimates: Estimates, state: Situation, choice: Choice, excluded: dict[str, str], preset: str
) -> Plan:
    names, quality, doubt = estimates.experts, estimates.quality[0].tolist(), estimates.uncertainty[0].tolist()
    suited = None if estimates.suitability is None else estimates.suitability[0].tolist()
    cost, late, score = state.cost_usd[0].tolist(), estimates.latency_ms[0].tolist(), choice.score.tolist()
    rows = tuple(
        Estimate(
            name, round(quality[i], 4), round(doubt[i], 4), round(cost[i], 9),
            None if late[i] != late[i] else round(late[i], 1), round(score[i], 4),
            None if suited is None else round(suited[i], 4),
        )
        for i, name in enumerate(names)
    )  # fmt: skip
    first, share = choice.seats[0], 1.0 / len(choice.seats)
    policy = preset if preset == WORTH else f"{route.policy_name}:{preset}" if preset else route.policy_name
    return Plan(
        route.name, choice.composer or route.composer_name,
        tuple(Seat(names[i], share) for i in choice.seats),
        _spares(
            route, [names[i] for i in choice.seats], [names[i] for i in choice.spares], excluded
        ),
        policy, choice.reason, quality[first],
        tuple(sorted(rows, key=lambda row: -row.score)), excluded, route.version, skills=estimates.skills,
        alternatives=choice.alternatives, retrieve=choice.retrieve,
    )  # fmt: skip


def _passages(route: Route, lookup: Lookup, vector: Vector | None) -> Passages | None:
    """What the gate foresees for this query, of which it has the vector (its encoder is the route's)."""
    known = lookup.gate.foreseen(vector)
    if known is None:
        return None
    each = [card.price.input * lookup.gate.tokens / 1e6 for card in route.cards]
    return Passages(np.array([known[1] - known[0]], np.float32), np.array(each, np.float32), lookup.gate.tokens)


def _spares(route: Route, seats: Sequence[str], ranked: Sequence[str], excluded: Mapping[str, str]) -> tuple[str, ...]:
    """The next best, or those that the manifest names; never a seat, nor one that a constraint rules out."""
    out = {*excluded, *seats}
    if isinstance(route.spares, tuple):
        return tuple(name for name in route.spares if name not in out)
    return tuple(name for name in ranked if name not in out)[: route.spares]


def digest_of(texts: Sequence[str]) -> bytes:
    """16 bytes that tell equal routing texts from others."""
    if len(texts) == 1:
        return blake2b(texts[0].encode(errors="surrogatepass"), digest_size=16).digest()
    return blake2b("\x00".join(texts).encode(errors="surrogatepass"), digest_size=16).digest()
