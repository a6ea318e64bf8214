"""`cascade`: the cheapest expert first; the next one only where the answer's own evidence is weak.

Weak is: a validator failed (nothing said, cut short, not the structured output, Python that does not parse, or that
fails a test which the question itself states, run in a sandbox), a mean token log-probability below `logprob`, two
samples that disagree (`samples: 2`), or a fitted scorer of all of these below `threshold` (`router.confidence`).
Sources: FrugalGPT (arXiv 2305.05176), AutoMix (arXiv 2310.12963).

`n` > 1 and tool calls fall to `single`. Log-probabilities are those of the answer that is given. Structured output: an
invalid answer is weak; the last one is repaired once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from math import inf
from typing import Self

import orjson
from pydantic import BaseModel, ConfigDict, Field, model_validator

from experts.language import Answer, Query
from experts.protocols import Emit
from router.answers import code
from router.composers import _seats
from router.confidence import Evidence, mean_logprob, score
from router.plan import Plan, Seat
from router.protocols import Heard, Voices


class Options(BaseModel):
    """`weights` and `threshold` are what `consilium fit` found on outcomes, where no evidence is named here."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    k: int = Field(default=3, ge=1, le=16, description="Experts at most, cheapest first.")
    logprob: float | None = Field(default=None, le=0, description="Least mean log-probability of a token.")
    samples: int = Field(default=1, ge=1, le=2, description="Samples of every expert but the last; 2 must agree.")
    weights: Mapping[str, float] | None = Field(default=None, description="A scorer: weights of the evidence.")
    threshold: float = Field(default=0.5, ge=0, le=1, description="Least P(right) of the scorer.")
    tests: bool = Field(
        default=True, description="Whether a program is run, in a sandbox here, on the tests that its question states."
    )
    cost: float | None = Field(
        default=None, gt=0,
        description="What a query may cost on average, of what the best single expert costs: the fitted judge's "
        "threshold is then the best one for that.",
    )  # fmt: skip

    @property
    def own(self) -> bool:
        """Whether they say what is weak themselves, so that a fitted judge is not asked."""
        return self.weights is not None or self.logprob is not None or self.samples > 1

    @model_validator(mode="after")
    def _cost_is_the_fitted_judges(self) -> Self:
        if self.cost is not None and (self.own or "threshold" in self.model_fields_set):
            raise ValueError("cost chooses the threshold of the judge that `consilium fit` makes; leave out weights, "
                             "threshold, logprob and samples, or cost")  # fmt: skip
        return self


def build(options: Options) -> Cascade:
    return Cascade(options)


class Cascade:
    def __init__(self, options: Options) -> None:
        self._options = options
        self._code = code.build(code.Options())
        self._wants_logprobs = options.logprob is not None or "logprob" in (options.weights or {})

    def seated(self, plan: Plan) -> Plan:
        """Cheapest first; a policy's own order is kept where nothing is known of costs."""
        seats = [seat.expert for seat in _seats.recruited(plan, self._options.k, repeat=False).seats]
        cost = {row.expert: row.cost_usd for row in plan.estimates}
        seats.sort(key=lambda name: inf if cost.get(name) is None else float(cost[name] or 0.0))
        spares = tuple(name for name in plan.spares if name not in seats)
        return replace(plan, seats=tuple(Seat(name, 1 / len(seats)) for name in seats), spares=spares)

    async def compose(self, query: Query, voices: Voices, emit: Emit) -> Answer:
        steps = [*(seat.expert for seat in voices.plan.seats)]
        asked = query.with_fields(logprobs=True) if self._wants_logprobs else query
        heard: list[Heard] = []
        trail: list[dict[str, object]] = []
        for place, name in enumerate(steps):
            last = place == len(steps) - 1
            again = self._options.samples if not last else 1
            now = await voices.hear_all(_seats.calls(asked, [name] * again))
            heard += now
            found = _seats.answers(now)
            if not found:
                trail.append({"expert": name, "weak": "it failed"})
                continue
            why = "" if last else await self._weak(query, voices, found, again)
            trail.append({"expert": name, "weak": why})
            if not why:
                break
            await voices.progress("escalated", expert=name, because=why)
        for name in voices.plan.spares if not _seats.answers(heard) else ():
            heard += await voices.hear_all(_seats.calls(asked, [name], role="spare"))
            if _seats.answers(heard):
                break
        voices.note(steps=trail)
        judge = voices.composing.cascade
        if self._options.cost is not None and (judge is None or not judge.curve):
            voices.note(cost="unheeded: `consilium fit` made no judge of answers with costs for this route")
        found = _seats.answers(heard)
        if not found:
            raise _seats.nobody(heard)
        return await _seats.settled(query, voices, self._plain(query, found[-1]), emit)

    async def _weak(self, query: Query, voices: Voices, found: list[Answer], asked: int) -> str:
        """Why the next expert should be asked too; empty where the answer will do."""
        options, answer = self._options, found[-1]
        if why := _seats.weakness(query, answer) or await self._fails(query, voices, answer):
            return why
        logprob = mean_logprob(answer)
        agreed = await _seats.agreement(query, found) if asked > 1 else None
        if options.logprob is not None and logprob is not None and logprob < options.logprob:
            return f"mean log-probability {logprob:.2f}, below {options.logprob:.2f}"
        if agreed is not None and agreed < 1:
            return "its samples disagree"
        fitted = None if options.own else voices.composing.cascade
        weights, threshold = options.weights, options.threshold
        if fitted is not None:
            weights = fitted.weights
            threshold = fitted.threshold if options.cost is None else fitted.at_cost(options.cost)
        if weights is not None:
            row = voices.estimates.get(answer.expert)
            evidence = Evidence(logprob, agreed, row.quality if row else None, answer.usage.completion_tokens)
            sure = score(evidence, weights)
            if sure < threshold:
                return f"P(right) {sure:.2f}, below {threshold:.2f}"
        return ""

    async def _fails(self, query: Query, voices: Voices, answer: Answer) -> str:
        """How a program does on the tests that its question states, where it fails one; empty elsewhere, and where
        the request has no call or no time left for what would follow from it."""
        budget = voices.budget
        if not self._options.tests or query.needs.structured or budget.calls_left < 1:
            return ""
        try:
            async with asyncio.timeout(None if budget.ms_left == inf else max(budget.ms_left, 0.0) / 1e3):
                return await self._code.failure(query.user_texts()[-1], answer.text)
        except TimeoutError:
            return ""

    def _plain(self, query: Query, answer: Answer) -> Answer:
        """Without the log-probabilities that only the cascade asked for."""
        if not self._wants_logprobs or "logprobs" in query.fields:
            return answer
        body = orjson.loads(answer.body)
        for choice in body["choices"]:
            choice["logprobs"] = None
        return replace(answer, body=orjson.dumps(body))
