"""The contracts of the router's plug-ins: estimators, policies, composers.

A module in `router/estimators/`, `router/policies/` or `router/composers/` exports `Options` (pydantic, frozen,
`extra="forbid"`) and `build(options, ...)`. Its file name is its name in YAML. Nothing registers itself on import.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from experts.language import Answer, Card, Query
from experts.protocols import Emit, Encoder
from router.outcomes import Outcomes
from router.plan import Estimates, Matrix, Plan, Queries


@dataclass(frozen=True, slots=True)
class Parts:
    """What an estimator may be built from. `encoder` is None on a route that needs none."""

    encoder: Encoder | None = None
    seed: int = 0


class Estimator(Protocol):
    """Predicts what every expert would make of a query. All work is batched; nothing loops over experts in Python.

    `build(options: Options, parts: Parts) -> Estimator` makes an unfitted one. `fit` replaces whatever was learned
    before; `update` adds outcomes of known experts; `add` adds one expert without refitting the others.
    `save` writes arrays and JSON into a folder (never pickle), `load` reads them back.
    """

    @property
    def uses_vectors(self) -> bool: ...

    def fit(self, cards: Sequence[Card], outcomes: Outcomes) -> None: ...

    def update(self, outcomes: Outcomes) -> None: ...

    def add(self, card: Card, outcomes: Outcomes) -> None: ...

    def estimate(self, queries: Queries) -> Estimates: ...

    def save(self, folder: Path) -> None: ...

    def load(self, folder: Path) -> None: ...


@dataclass(frozen=True, slots=True)
class Situation:
    """What a policy may know beside the estimates: prices, load, and who is allowed. Shapes as in Estimates.

    `cost_usd`: (n, e) expected cost of each call; `load`: (e,) share of capacity in use, 0 idle to 1 full and
    beyond; `allowed`: (n, e) bool, False where a hard constraint rules the expert out.
    """

    cost_usd: Matrix
    load: Matrix
    allowed: NDArray[np.bool_]


class Policy(Protocol):
    """Turns estimates into choices: pure, batched, same inputs, same choice.

    `build(options: Options) -> Policy`.
    """

    def decide(self, estimates: Estimates, situation: Situation) -> list[Choice]: ...


@dataclass(frozen=True, slots=True)
class Choice:
    """A policy's decision for one query: columns of the estimates, best first.

    `seats` are asked by `composer`; `spares` come next in order of preference; `score` (e,) is what was maximised.
    """

    seats: tuple[int, ...]
    spares: tuple[int, ...]
    reason: str
    score: Matrix
    composer: str = "single"


class Voices(Protocol):
    """The seats of a plan, ready to be asked. `ask` enforces the limits of one call and keeps its record.

    `committed`: a delta has left for the client, so that no other expert may start the answer over.
    """

    @property
    def plan(self) -> Plan: ...

    @property
    def committed(self) -> bool: ...

    async def ask(self, expert: str, query: Query, emit: Emit) -> Answer: ...


class Composer(Protocol):
    """Carries a plan out. `build(options: Options) -> Composer`."""

    async def compose(self, query: Query, voices: Voices, emit: Emit) -> Answer: ...
