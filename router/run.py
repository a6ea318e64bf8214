"""The record of one request while it is being answered, filled in as it goes."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, NamedTuple

from experts.errors import ConsiliumError
from experts.language import Answer, Passage, Usage
from router.budget import Budget
from router.decide import Decided
from router.plan import Plan
from router.spans import Spans


class Attempt(NamedTuple):
    """One call to one expert: `error` is None when it answered. `role` is its part in the plan: seat, aggregator …"""

    expert: str
    usage: Usage
    cost_usd: float
    took_s: float
    error: ConsiliumError | None = None
    role: str = "seat"


@dataclass(slots=True)
class Run:
    """Mutable on purpose: the one place where a request's stages leave what they found.

    `speaking` is the expert whose deltas are on their way; `committed` is set by the first of them, after which no
    other expert may start the answer over. `text` and `max_tokens` are the query's, for the decision log: a text only
    where texts are kept. `composed`: the usage that the caller is told is summed here.
    `passages` are what the answer was given to read; `retrieval` how looking them up went.
    `notes` is what the composer found: agreement, scores, what it did not do and why.
    `spans`: who spoke which characters, where several wrote one answer; `tells_spans` where the caller asked for them.
    """

    id: str
    request_id: str = ""
    caller: str = ""
    model: str = ""
    stream: bool = False
    started: float = field(default_factory=perf_counter)
    plan: Plan | None = None
    speaking: str = ""
    committed: bool = False
    decided: Decided | None = None
    text: str = ""
    max_tokens: int | None = None
    cached: bool = False
    decide_s: float = 0.0
    attempts: list[Attempt] = field(default_factory=list[Attempt])
    budget: Budget | None = None
    composed: bool = False
    notes: dict[str, Any] = field(default_factory=dict[str, Any])
    passages: list[Passage] = field(default_factory=list[Passage])
    retrieval: dict[str, Any] = field(default_factory=dict[str, Any])
    spans: Spans = field(default_factory=Spans)
    tells_spans: bool = False
    answer: Answer | None = None
    status: int = 0
    error: str = ""

    @property
    def usage(self) -> Usage:
        """Summed over every attempt, the failed ones too."""
        total = Usage()
        for attempt in self.attempts:
            total = total + attempt.usage
        return total

    @property
    def cost_usd(self) -> float:
        return sum(attempt.cost_usd for attempt in self.attempts)
