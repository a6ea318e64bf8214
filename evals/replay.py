"""Replaying outcomes through the router: the estimator fitted as a gateway fits it, the policy deciding as it decides.

Nothing here chooses an expert: choices come from `router.decide.choose`, which the gateway calls for every request.
Task labels are read when fitting and when judging, never when deciding: an estimator sees texts and vectors only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter, process_time
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from evals.outcomes import OutcomeSet
from experts.errors import ConfigError
from experts.protocols import Encoder, Vectors
from registry.route import Plugged, RouteManifest
from router.composers import open_composer
from router.decide import Chosen, Route, choose
from router.estimators import open_estimator
from router.outcomes import CHARS_PER_TOKEN, Outcomes
from router.plan import Estimates, Matrix, Queries
from router.policies import open_policy
from router.protocols import Choice, Parts
from router.texts import weighted_texts
from router.vectors import VectorCache

BATCH = 1024
TIMED_QUERIES = 4096
MOST_RUNS = 60

Ints = NDArray[np.int64]


def default_of(slot: str) -> Plugged:
    """What a route gets that names no `estimator` or no `policy`: the harness judges the same default."""
    return cast(Plugged, RouteManifest.model_fields[slot].default)


@dataclass(frozen=True, slots=True)
class Decisions:
    """What a router did with every query of a test split.

    `seats` (n,) the expert that was asked first, `others` the further seats of the queries that have them;
    `quality` and `uncertainty` (n, e) what was estimated, `default` the best single expert on the estimator's evidence.
    """

    estimates: Estimates
    seats: Ints
    others: Mapping[int, tuple[int, ...]] = field(default_factory=dict[int, tuple[int, ...]])

    def calls(self) -> Ints:
        out = np.ones(len(self.seats), np.int64)
        for row, more in self.others.items():
            out[row] += len(more)
        return out

    def cost(self, cost: Matrix) -> Matrix:
        """What the calls cost, (n,), from each call's (n, e)."""
        out = cost[np.arange(len(self.seats)), self.seats].copy()
        for row, more in self.others.items():
            out[row] += cost[row, list(more)].sum()
        return out


class Took(NamedTuple):
    """Time by the clock, and of the processor (all threads)."""

    clock: float
    processor: float


@dataclass(frozen=True, slots=True)
class FittedRoute:
    """A route as the gateway holds it, without experts to ask. `fit_s`: seconds that its estimator took to fit, by the
    clock; `fit_cpu_s`: of processor time, all threads together, which a busy machine does not stretch."""

    route: Route
    fit_s: float
    fit_cpu_s: float

    def decide(self, queries: Queries) -> Decisions:
        """Every query, in batches. Memory beside the estimates does not grow with the number of queries."""
        parts = [self._batch(queries, start) for start in range(0, len(queries), BATCH)]
        choices = [choice for part in parts for choice in part.choices]
        return decisions(joined([part.estimates for part in parts]), choices)

    def time(self, queries: Queries, *, repeats: int = 10) -> Took:
        """Microseconds a query, estimated and decided in batches: the best of some runs, since neighbours on the same
        processor share its caches. So many more as long as one of the last `repeats` was the best, `MOST_RUNS` at most.
        """
        few = Queries(queries.texts[:TIMED_QUERIES], _head(queries.vectors))
        runs: list[Took] = []
        best = 0
        while len(runs) < min(best + 1 + repeats, MOST_RUNS):
            clock, processor = perf_counter(), process_time()
            for first in range(0, len(few), BATCH):
                self._batch(few, first)
            runs.append(Took(perf_counter() - clock, process_time() - processor))
            best = min(range(len(runs)), key=lambda run: runs[run].processor)
        scale = 1e6 / len(few)
        return Took(min(run.clock for run in runs) * scale, min(run.processor for run in runs) * scale)

    def _batch(self, queries: Queries, start: int) -> Chosen:
        texts = queries.texts[start : start + BATCH]
        vectors = None if queries.vectors is None else queries.vectors[start : start + BATCH]
        if self.route.estimator is None:
            raise ConfigError(f"route {self.route.name}: expected an estimator, got none")
        experts = len(self.route.cards)
        return choose(
            self.route, self.route.estimator, Queries(texts, vectors),
            prompt=np.array([len(text) / CHARS_PER_TOKEN for text in texts], np.float32),
            limit=np.full(len(texts), np.nan, np.float32), load=np.zeros(experts, np.float32),
            allowed=np.ones((len(texts), experts), np.bool_),
        )  # fmt: skip


def decisions(estimates: Estimates, choices: Sequence[Choice]) -> Decisions:
    """Raises ConfigError where a policy chose nobody, though everybody is allowed."""
    empty = next((row for row, choice in enumerate(choices) if not choice.seats), None)
    if empty is not None:
        raise ConfigError(f"query {empty}: the policy chose no expert: {choices[empty].reason}")
    seats = np.array([choice.seats[0] for choice in choices], np.int64)
    others = {row: choice.seats[1:] for row, choice in enumerate(choices) if len(choice.seats) > 1}
    return Decisions(estimates, seats, others)


def joined(parts: Sequence[Estimates]) -> Estimates:
    """One table of estimates from those of its batches."""
    names = ("quality", "uncertainty", "tokens", "latency_ms")
    tables: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return replace(parts[0], **tables)


def fit(
    train: OutcomeSet, estimator: Plugged, policy: Plugged, *, encoder: Encoder | None = None, seed: int = 0
) -> FittedRoute:
    """A route over the set's experts, fitted on its outcomes (embedded already where the estimator needs vectors).

    Raises ConfigError for an unknown plug-in or option.
    """
    opened = open_estimator(estimator.name, estimator.options, Parts(encoder, seed))
    clock, processor = perf_counter(), process_time()
    opened.fit(train.cards, train.outcomes)
    took = Took(perf_counter() - clock, process_time() - processor)
    policies = {"": open_policy(policy.name, policy.options)}
    route = Route(
        name=train.name, cards=train.cards, experts=(), limits=(None,) * len(train.cards), estimator=opened,
        embedding=None, policies=policies, policy_name=policy.name, composer=open_composer("single", {}),
        composer_name="single", default=-1, spares=0, version="",
    )  # fmt: skip
    return FittedRoute(route, took.clock, took.processor)


def with_policy(fitted: FittedRoute, policy: Plugged) -> FittedRoute:
    """The same estimator under another policy."""
    policies = {"": open_policy(policy.name, policy.options)}
    return replace(fitted, route=replace(fitted.route, policies=policies, policy_name=policy.name))


@dataclass(frozen=True, slots=True)
class Reporting:
    """An encoder that tells how many texts it has encoded; otherwise the encoder that it wraps."""

    encoder: Encoder
    encoded: Callable[[int], None]
    chunk: int = 256

    @property
    def fingerprint(self) -> str:
        return self.encoder.fingerprint

    @property
    def dimensions(self) -> int:
        return self.encoder.dimensions

    def encode(self, texts: Sequence[str]) -> Vectors:
        parts: list[Vectors] = []
        for start in range(0, len(texts), self.chunk):
            parts.append(self.encoder.encode(texts[start : start + self.chunk]))
            self.encoded(len(parts[-1]))
        return np.concatenate(parts) if parts else np.zeros((0, self.dimensions), np.float32)


def embed(outcomes: Outcomes, encoder: Encoder, cache: VectorCache) -> Outcomes:
    """Vectors for every row, as a gateway embeds the outcomes that it is fitted on; kept on disk."""
    return cache.embedded(outcomes, encoder)


def queries_of(outcomes: Outcomes) -> Queries:
    """The rows as a gateway sees them arrive. Their vectors are those already: the ones that are fitted on are made of
    the same pieces of a text as a query's (`router.texts`)."""
    return Queries([weighted_texts([text])[0][-1] for text in outcomes.texts], outcomes.vectors)


def _head(vectors: Vectors | None) -> Vectors | None:
    return None if vectors is None else vectors[:TIMED_QUERIES]
