"""A router over scripted experts, for tests of composers and budgets: real parts, no server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from experts.kinds.scripted import Options, ScriptedExpert
from experts.language import Card, Delta, Price, Query
from experts.wire import parse
from registry.expert import Limits
from router.budget import UNLIMITED, Allowance, Budget
from router.composers import open_composer
from router.ledger import Ledger
from router.plan import Estimate, Plan, Seat
from router.protocols import Composer
from router.run import Run
from router.store.memory import MemoryStore
from router.telemetry import Log, Telemetry
from router.voices import Seats
from router.worth import NOTHING_FITTED, Composing
from tests.events import delta_texts

PRICE = Price(1.0, 2.0)
THREE = {"a": {"text": "The answer is 4."}, "b": {"text": "The answer is 5."}, "c": {"text": "The answer is 6."}}
QUIET = Telemetry(Log(level="warning"))


@dataclass
class Room:
    """What is said in here is kept: deltas in `said`, what goes on beside in `aside`."""

    voices: Seats
    run: Run
    experts: Mapping[str, ScriptedExpert]
    said: list[bytes] = field(default_factory=list[bytes])
    aside: list[Mapping[str, Any]] = field(default_factory=list[Mapping[str, Any]])

    async def emit(self, delta: Delta) -> None:
        self.run.committed = True
        self.said.append(delta.events)

    @property
    def text(self) -> str:
        return delta_texts(b"".join(self.said))


@dataclass(frozen=True)
class InForce:
    experts: Mapping[str, ScriptedExpert]
    cards: Mapping[str, Card]
    limits: Mapping[str, Limits]
    abilities: Mapping[str, float]
    composing: Composing = NOTHING_FITTED

    def abilities_of(self, route: str) -> Mapping[str, float]:
        return self.abilities

    def composing_of(self, route: str) -> Composing:
        return self.composing


def room(
    scripts: Mapping[str, Mapping[str, Any]], *, plan: Plan | None = None, allowance: Allowance = UNLIMITED,
    price: Price = PRICE, abilities: Mapping[str, float] | None = None, composing: Composing = NOTHING_FITTED,
) -> Room:  # fmt: skip
    """Experts by name with their scripts; the plan seats the first, and expects less of each further one."""
    experts = {name: ScriptedExpert(name, Options.model_validate(dict(script))) for name, script in scripts.items()}
    names = list(experts)
    plan = plan or planned(names)
    force = InForce(
        experts, {name: Card(name, price=price) for name in names},
        {name: Limits(concurrency=None, requests_per_minute=None) for name in names}, abilities or {}, composing,
    )  # fmt: skip
    run = Run("dec-1", plan=plan)
    found: list[Mapping[str, Any]] = []

    async def aside(progress: Mapping[str, Any], sure: bool) -> None:
        found.append(progress)

    voices = Seats(plan, force, Ledger(MemoryStore()), QUIET, run, budget=Budget(allowance), aside=aside)
    return Room(voices, run, experts, aside=found)


def planned(names: Sequence[str], composer: str = "single") -> Plan:
    rows = tuple(
        Estimate(name, 0.9 - 0.1 * place, 0.05, 1e-4 * (place + 1), None, 0.9 - 0.1 * place)
        for place, name in enumerate(names)
    )
    return Plan("auto", composer, (Seat(names[0]),), tuple(names[1:]), estimates=rows)


def asked(text: str = "What is 2 + 2?", **more: Any) -> Query:
    return parse("chat", orjson.dumps({"model": "auto", "messages": [{"role": "user", "content": text}], **more}), "q")


def seated(name: str, scripts: Mapping[str, Mapping[str, Any]], options: Mapping[str, Any] | None = None,
           **more: Any) -> tuple[Composer, Room]:  # fmt: skip
    composer = open_composer(name, options or {})
    return composer, room(scripts, plan=composer.seated(planned(list(scripts), name)), **more)


def roles(where: Room) -> list[str]:
    return [attempt.role for attempt in where.run.attempts]
