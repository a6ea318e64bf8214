"""The budget of one request: calls, tokens, money and time, kept at every call.

Before a call, `reserve` says whether it may start, with how many tokens and until when; what is reserved is nobody
else's, so that calls made at once cannot overspend together. After it, `settle` charges what it took and gives back the
rest. While a call runs, whoever listens counts what arrives: a server's own count of its tokens is believed only as far
as the text that was sent and received can bear it.

Tokens of a prompt are estimated before a call, on the high side (`prompt_size`); an expert whose tokenizer is found to
need more raises the estimate for its next calls (`Gauges`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from time import perf_counter
from typing import Any, Literal, NamedTuple

from experts.errors import BudgetSpent
from experts.language import Message, Price, Usage

Limit = Literal["calls", "tokens", "usd", "ms"]
LIMITS: tuple[Limit, ...] = ("calls", "tokens", "usd", "ms")
LEAST_TOKENS = 4
"""A call that may not say this many tokens (or the fewer it was asked for) is not worth starting."""

SLACK = 1
"""Tokens of a share that a server is not told of: what it costs to find out that it ignores `max_tokens`."""

TEMPLATE_TOKENS = 8
"""What a chat template adds to a message, about."""

_PIECE = re.compile(r"[A-Za-z]{1,4}|[^\sA-Za-z]|\n")


@dataclass(frozen=True, slots=True)
class Allowance:
    """What one request may take, from its first to its last call; None: as much as it likes.

    `tokens` counts input and output of every call; `ms` is wall-clock time from the request's arrival.
    """

    calls: int | None = None
    tokens: int | None = None
    usd: float | None = None
    ms: float | None = None

    @property
    def limited(self) -> bool:
        return any(getattr(self, name) is not None for name in LIMITS)

    @property
    def metered(self) -> bool:
        """Whether what a call says must be counted while it speaks."""
        return self.tokens is not None or self.usd is not None

    def tightened(self, other: Allowance) -> Allowance:
        """The narrower of both, limit by limit."""

        def least(mine: Any, theirs: Any) -> Any:
            return theirs if mine is None else mine if theirs is None else min(mine, theirs)

        return Allowance(*(least(getattr(self, name), getattr(other, name)) for name in LIMITS))

    def as_json(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in LIMITS if getattr(self, name) is not None}


UNLIMITED = Allowance()


class Room(NamedTuple):
    """What one of several calls may take at most. `until` is in seconds of `perf_counter`."""

    tokens: float = inf
    usd: float = inf
    until: float = inf


@dataclass(frozen=True, slots=True)
class Grant:
    """Leave to make one call, and what is set aside for it.

    `completion` is the most it may say (None: no limit of ours); `told` what its server is told as max_tokens;
    `until` when it is over, in seconds of `perf_counter`. `binding` is the limit that would end it.
    """

    prompt: int
    completion: int | None
    told: int | None
    usd: float
    until: float
    binding: Limit | None


@dataclass(slots=True)
class Budget:
    """The state of one request's allowance. `ended` is the limit that first refused or cut a call short."""

    allowance: Allowance = UNLIMITED
    started: float = field(default_factory=perf_counter)
    calls: int = 0
    tokens: int = 0
    usd: float = 0.0
    ended: Limit | None = None
    _held_tokens: int = 0
    _held_usd: float = 0.0

    @property
    def limited(self) -> bool:
        return self.allowance.limited

    @property
    def calls_left(self) -> float:
        return inf if self.allowance.calls is None else self.allowance.calls - self.calls

    @property
    def tokens_left(self) -> float:
        """Neither spent nor set aside for a call under way."""
        return inf if self.allowance.tokens is None else self.allowance.tokens - self.tokens - self._held_tokens

    @property
    def usd_left(self) -> float:
        return inf if self.allowance.usd is None else max(self.allowance.usd - self.usd - self._held_usd, 0.0)

    @property
    def until(self) -> float:
        return inf if self.allowance.ms is None else self.started + self.allowance.ms / 1e3

    @property
    def ms_left(self) -> float:
        return (self.until - perf_counter()) * 1e3

    def rooms(self, count: int, *, keep: float = 0.0) -> Room:
        """An even share of what is left for each of `count` calls made at once, when a share `keep` of it is to
        stay for what comes after them."""
        part = (1.0 - keep) / max(count, 1)
        now = perf_counter()
        until = inf if self.until == inf else now + max(self.until - now, 0.0) * (1.0 - keep)
        return Room(self.tokens_left * part, self.usd_left * part, until)

    def reserve(self, prompt: int, price: Price, wanted: int | None, room: Room | None = None) -> Grant:
        """Leave for one call with a prompt of so many tokens. Raises BudgetSpent, which says of what."""
        if not self.limited:
            self.calls += 1
            return Grant(prompt, None, wanted, 0.0, inf, None)
        room = room or Room()
        if self.calls_left < 1:
            raise self._spent("calls", f"its {self.allowance.calls} calls are made")
        until = min(self.until, room.until)
        if until <= perf_counter():
            raise self._spent("ms", f"its {self.allowance.ms:g} ms are over")
        by_tokens = min(self.tokens_left, room.tokens) - prompt
        money, cost_in = min(self.usd_left, room.usd), prompt * price.input / 1e6
        by_usd = inf if money == inf or not price.output else (money - cost_in) / (price.output / 1e6)
        if money < cost_in:
            by_usd = -1.0
        most = min(by_tokens, by_usd)
        least = LEAST_TOKENS if wanted is None else min(wanted, LEAST_TOKENS)
        scarce: Limit = "tokens" if by_tokens <= by_usd else "usd"
        if most < least + SLACK:
            left = f"{self.tokens_left:g} tokens" if scarce == "tokens" else f"{self.usd_left:.3g} USD"
            raise self._spent(scarce, f"{left} are left, too little for a prompt of about {prompt} tokens")
        self.calls += 1
        binding: Limit | None = None if self.until == inf else "ms"
        if most == inf:
            return Grant(prompt, None, wanted, 0.0, until, binding)
        cap = int(most) if wanted is None else min(int(most), wanted + SLACK)
        if wanted is None or cap < wanted + SLACK:
            binding = scarce
        usd = cost_in + cap * price.output / 1e6
        self._held_tokens += prompt + cap
        self._held_usd += usd
        return Grant(prompt, cap, cap - SLACK, usd, until, binding)

    def settle(self, grant: Grant, usage: Usage, price: Price) -> None:
        """The call has ended: charge what it took, within what was set aside for it, and give back the rest."""
        if grant.completion is None:
            self.tokens += usage.total_tokens
            self.usd += price.of(usage)
            return
        took = Usage(min(usage.prompt_tokens, grant.prompt), min(usage.completion_tokens, grant.completion))
        self._held_tokens -= grant.prompt + grant.completion
        self._held_usd -= grant.usd
        self.tokens += took.total_tokens
        self.usd += price.of(took)

    def cut(self, limit: Limit) -> None:
        """A call was ended early, or refused, by this limit."""
        self.ended = self.ended or limit

    def as_json(self) -> dict[str, Any]:
        """`consilium.budget`: the limits, what was spent, and which limit ended it (None: none did)."""
        spent = {"calls": self.calls, "tokens": self.tokens, "usd": round(self.usd, 9),
                 "ms": round((perf_counter() - self.started) * 1e3, 1)}  # fmt: skip
        return {"limits": self.allowance.as_json(), "spent": spent, "ended_by": self.ended}

    def _spent(self, limit: Limit, what: str) -> BudgetSpent:
        self.cut(limit)
        return BudgetSpent(f"the request's budget is spent: {what}", limit=limit)


class Gauges:
    """How many tokens an expert makes of a text, against the estimate: 1 until its server has said more."""

    def __init__(self) -> None:
        self._factors: dict[str, float] = {}

    def prompt(self, expert: str, messages: Sequence[Message]) -> int:
        return round(prompt_size(messages) * self._factors.get(expert, 1.0))

    def believed(self, expert: str, messages: Sequence[Message], claim: Usage, received: int, most: int) -> Usage:
        """A server's count, as far as it can be true: no more tokens than bytes, no fewer than arrived.

        `received` tokens were counted as they came; `most` (bytes) is the length of the text that came.
        """
        own, bound = prompt_size(messages), _byte_bound(messages)
        prompt = claim.prompt_tokens if 0 < claim.prompt_tokens <= bound else own
        if prompt > own * self._factors.get(expert, 1.0):
            self._factors[expert] = prompt / own
        said = claim.completion_tokens if received <= claim.completion_tokens <= max(most, received) else received
        return Usage(prompt, said, min(claim.cached_tokens, prompt))


def prompt_size(messages: Sequence[Message]) -> int:
    """Tokens of a prompt, estimated on the high side: a token for each four letters of a word, for each other sign,
    and for each further byte of a sign outside of ASCII."""
    return sum(text_size(message.text) + TEMPLATE_TOKENS for message in messages)


def text_size(text: str) -> int:
    further = 0 if text.isascii() else len(text.encode(errors="surrogatepass")) - len(text)
    return len(_PIECE.findall(text)) + further


def _byte_bound(messages: Sequence[Message]) -> int:
    return sum(len(message.text.encode(errors="surrogatepass")) + 8 * TEMPLATE_TOKENS for message in messages)


def allowance_of(values: Mapping[str, Any]) -> Allowance:
    """From validated keys of a manifest, a body or headers."""
    return Allowance(**{name: values.get(name) for name in LIMITS})
