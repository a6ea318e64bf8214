"""The contracts of the router's plug-ins: estimators, policies, composers.

A module in `router/estimators/`, `router/policies/` or `router/composers/` exports `Options` (pydantic, frozen,
`extra="forbid"`) and `build(options, ...)`. Its file name is its name in YAML. Nothing registers itself on import.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from experts.errors import ConsiliumError
from experts.language import Answer, Card, Query
from experts.protocols import Emit, Encoder, TokenExpert
from router.budget import UNLIMITED, Allowance, Budget, Room
from router.outcomes import Outcomes
from router.parts import Part
from router.plan import Alternative, Estimate, Estimates, Matrix, Plan, Queries
from router.worth import Composing


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


class Passages(NamedTuple):
    """What passages would do for one expert's answer: the expected `gain` (n,) in quality, how many `tokens` they have,
    and what those cost each expert, `cost_usd` (e,)."""

    gain: Matrix
    cost_usd: Matrix
    tokens: float = 0.0


@dataclass(frozen=True, slots=True)
class Situation:
    """What a policy may know beside the estimates: prices, load, and who is allowed. Shapes as in Estimates.

    `cost_usd`: (n, e) expected cost of each call; `load`: (e,) share of capacity in use, 0 idle to 1 full and
    beyond; `allowed`: (n, e) bool, False where a hard constraint rules the expert out. `tokens`: (n, e) expected
    prompt and completion of each call, where that is known, and `prompt` (n,) the prompt's part of it. `allowance` is
    what one request may take. `texts` (n) are the queries, `composing` what was fitted for composing, `passages` what
    looking them up would do: all three for weighing compositions.
    """

    cost_usd: Matrix
    load: Matrix
    allowed: NDArray[np.bool_]
    allowance: Allowance = UNLIMITED
    texts: Sequence[str] = ()
    composing: Composing | None = None
    passages: Passages | None = None
    tokens: Matrix | None = None
    prompt: Matrix | None = None


class Policy(Protocol):
    """Turns estimates into choices: pure, batched, same inputs, same choice.

    `build(options: Options) -> Policy`.
    """

    def decide(self, estimates: Estimates, situation: Situation) -> list[Choice]: ...


@dataclass(frozen=True, slots=True)
class Choice:
    """A policy's decision for one query: columns of the estimates, best first.

    `seats` are asked by `composer`; `spares` come next in order of preference; `score` (e,) is what was maximised.
    `composer` is empty where the route's own is to be used. `alternatives` are the compositions that were weighed.
    A column may have several seats. `retrieve`: whether passages are looked up, where the policy weighed it.
    """

    seats: tuple[int, ...]
    spares: tuple[int, ...]
    reason: str
    score: Matrix
    composer: str = ""
    alternatives: tuple[Alternative, ...] = ()
    retrieve: bool | None = None


class Call(NamedTuple):
    """One expert to be asked, and what: the caller's query, or one that a composer adapted."""

    expert: str
    query: Query
    role: str = "seat"


class Heard(NamedTuple):
    """What came of a call: an answer, or why there is none."""

    call: Call
    answer: Answer | None = None
    error: ConsiliumError | None = None


class Voices(Protocol):
    """The seats of a plan, ready to be asked. Every call is held to the expert's limits and to the request's budget,
    and its record is kept.

    `committed`: a delta of an answer has left for the client, so that no other expert may start the answer over.
    `estimates` holds what the plan expects of each expert; `cards` what is known of everybody in force; `abilities`
    how well the route's experts aggregate, by name, of those that were measured.
    """

    @property
    def plan(self) -> Plan: ...

    @property
    def committed(self) -> bool: ...

    @property
    def budget(self) -> Budget: ...

    @property
    def estimates(self) -> Mapping[str, Estimate]: ...

    @property
    def cards(self) -> Mapping[str, Card]: ...

    @property
    def abilities(self) -> Mapping[str, float]: ...

    @property
    def composing(self) -> Composing:
        """What was fitted for the route's compositions; the prior where nothing was."""
        ...

    async def ask(self, expert: str, query: Query, emit: Emit, *, role: str = "seat") -> Answer:
        """Ask one expert; what it says goes to the client as it comes. Raises ExpertError, BudgetSpent.

        An answer that the budget cut short is returned with `finish` "length"; its text is what came until then.
        """
        ...

    async def hear(self, expert: str, query: Query, *, role: str = "seat", room: Room | None = None) -> Answer:
        """Ask one expert silently. The answer is whole (`body` is OpenAI JSON, with log-probabilities where the query
        asks for them). `room` is the most this call may take of what is left. Raises ExpertError, BudgetSpent."""
        ...

    async def hear_all(
        self, calls: Sequence[Call], *, keep: float = 0.0, keep_calls: int = 0,
        enough: Callable[[Sequence[Heard]], bool] | None = None,
    ) -> list[Heard]:  # fmt: skip
        """Ask several at once, silently, with an even share of the budget each; in the order in which they ended.

        The share `keep` of tokens, money and time, and `keep_calls` calls, stay for what comes after. Calls for which
        there is no room come back with BudgetSpent, failed ones with their error. As soon as `enough` of what was heard
        so far is true, the other calls are cancelled. Never raises because a call failed.
        """
        ...

    async def routed(self, query: Query) -> Plan:
        """The route's own decision for another query than the caller's, under the same rights and budget; the plan in
        force where an expert was named directly. Raises NoCandidate."""
        ...

    def speaks_tokens(self, expert: str) -> TokenExpert | None:
        """The expert, where it can be asked token by token."""
        ...

    def join(
        self, expert: str, query: Query, *, role: str, room: Room | None = None
    ) -> AbstractAsyncContextManager[Part]:
        """An expert's part in an answer that several write. It is one call of the budget, however many round trips it
        takes, and one attempt. Raises ExpertError, BudgetSpent."""
        ...

    async def spoke(self, expert: str, text: str, tokens: int = 1) -> None:
        """Say who speaks the text that is about to be emitted."""
        ...

    async def say(self, query: Query, answer: Answer, emit: Emit) -> Answer:
        """Give the client a whole answer, streamed or not, as the query asks."""
        ...

    async def progress(self, event: str, **facts: Any) -> None:
        """Tell the client how it goes, beside the answer: an SSE comment, and an event where it asked for them."""
        ...

    def note(self, **facts: Any) -> None:
        """Facts for the `consilium` object of the answer: agreement, scores, what was not done and why."""
        ...


class Composer(Protocol):
    """Carries a plan out. `build(options: Options) -> Composer`.

    `seated` fills in the seats that it will ask, before anybody is: pure, so that a plan can be explained. Seats that
    a policy chose (more than one) are kept; an expert may have several.
    """

    def seated(self, plan: Plan) -> Plan: ...

    async def compose(self, query: Query, voices: Voices, emit: Emit) -> Answer: ...


@runtime_checkable
class Picky(Protocol):
    """A composer that cannot work with just any experts. Asked when a registry is loaded."""

    def check(self, cards: Sequence[Card]) -> None:
        """Raises ConfigError, naming the experts that do not go together."""
        ...
