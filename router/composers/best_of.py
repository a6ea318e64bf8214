"""`best-of`: k candidates, the best of which is given.

A registered judge names the best one twice, with the candidates in a shuffled order and in its reverse, so that a
liking for the first or the last place cancels out (position bias: Zheng et al., arXiv 2306.05685). Or a registered
reward model rates each candidate by itself, with no place to like (best-of-n: Stiennon et al., arXiv 2009.01325).
Without either, and where they say nothing, the expert of the highest calibrated P(success) wins.

`n` > 1 and tool calls fall to `single`. Log-probabilities are the winner's. Structured output: candidates that are
invalid lose; where all are, the best is repaired once.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from experts.language import Answer, Query
from experts.protocols import Emit
from router.composers import _seats
from router.plan import Plan
from router.protocols import Call, Voices

_NUMBER = re.compile(r"\d+")
_RATING = re.compile(r"-?\d+(\.\d*)?(e[+-]?\d+)?")
ASK = """Below are {count} answers to the conversation above. Which one is the best: correct, complete, to the point?
Their order says nothing.

{listed}

Reply with the number of the best answer only."""


class Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    k: int = Field(default=3, ge=2, le=64, description="Candidates.")
    judge: str | None = Field(default=None, description="The expert that judges. Default: estimates do.")
    reward: str | None = Field(default=None, description="The reward model that rates each candidate, in its place.")

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if self.judge is not None and self.reward is not None:
            raise ValueError("expected a judge or a reward model, not both")
        return self


def build(options: Options) -> BestOf:
    return BestOf(options)


class BestOf:
    def __init__(self, options: Options) -> None:
        self._options = options

    def seated(self, plan: Plan) -> Plan:
        return _seats.recruited(plan, self._options.k)

    async def compose(self, query: Query, voices: Voices, emit: Emit) -> Answer:
        keep, keep_calls = self._kept(voices.budget.calls_left)
        seats = [seat.expert for seat in voices.plan.seats]
        heard = await voices.hear_all(_seats.calls(query, seats), keep=keep, keep_calls=keep_calls)
        found = _seats.answers(heard)
        if not found:
            raise _seats.nobody(heard)
        good = [answer for answer in found if not _seats.weakness(query, answer)] or found
        names = sum(answer.expert == good[0].expert for answer in good)
        winner = good[0] if names == len(good) else _seats.best(good, voices)
        if len({answer.text for answer in good}) > 1:
            if self._options.judge is not None:
                winner = await self._judged(query, voices, good, winner, self._options.judge)
            elif self._options.reward is not None:
                winner = await self._rated(query, voices, good, winner, self._options.reward)
        voices.note(winner=winner.expert, candidates=len(found))
        return await _seats.settled(query, voices, winner, emit)

    def _kept(self, calls_left: float) -> tuple[float, int]:
        """What candidates must leave: the share of tokens, money and time, and the calls. A judge is asked twice, a
        reward model as often as there are candidates."""
        if self._options.judge is not None:
            return 0.4, 2 if calls_left > 2 else 0
        if self._options.reward is not None:
            return 0.6, int(min(self._options.k, (calls_left + 1) / 2)) if calls_left > 1 else 0
        return 0.0, 0

    async def _rated(
        self, query: Query, voices: Voices, good: Sequence[Answer], otherwise: Answer, reward: str
    ) -> Answer:
        """The candidate of the highest rating; `otherwise` where fewer than two could be rated. One that could not be
        does not win where others were. The most promising are rated first, should the budget not do for all."""
        quality = {name: row.quality for name, row in voices.estimates.items()}
        good = sorted(good, key=lambda answer: -quality.get(answer.expert, 0.0))
        texts = list(dict.fromkeys(answer.text for answer in good))
        heard = await voices.hear_all([
            Call(reward, _seats.extended(query, [("assistant", text)]), f"reward {number}")
            for number, text in enumerate(texts)
        ])  # fmt: skip
        said = {texts[int(one.call.role.split()[-1])]: one.answer.text for one in heard if one.answer is not None}
        ratings = {text: float(rating) for text, rating in said.items() if _RATING.fullmatch(rating)}
        voices.note(reward=reward, ratings=[[answer.expert, ratings.get(answer.text)] for answer in good])
        if len(ratings) < 2:
            return otherwise
        most = max(ratings.values())
        return _seats.best([answer for answer in good if ratings.get(answer.text) == most], voices)

    async def _judged(
        self, query: Query, voices: Voices, good: Sequence[Answer], otherwise: Answer, judge: str
    ) -> Answer:
        order = list(range(len(good)))
        Random(query.id).shuffle(order)
        orders = (order, order[::-1])
        asked = query.with_fields(response_format=None, logprobs=None, top_logprobs=None, temperature=0)
        heard = await voices.hear_all([
            Call(judge, _seats.extended(asked, [("user", _question([good[i].text for i in one]))]), f"judge {number}")
            for number, one in enumerate(orders)
        ])  # fmt: skip
        votes = Counter[int]()
        for one in heard:
            places = _NUMBER.findall(one.answer.text) if one.answer is not None else []
            if places and 1 <= int(places[0]) <= len(good):
                votes[orders[int(one.call.role[-1])][int(places[0]) - 1]] += 1
        voices.note(judge=judge, votes=[votes[i] for i in range(len(good))])
        if not votes:
            return otherwise
        most = max(votes.values())
        return _seats.best([good[i] for i in votes if votes[i] == most], voices)


def _question(texts: Sequence[str]) -> str:
    listed = "\n\n".join(f"[{place}]\n{text}" for place, text in enumerate(texts, 1))
    return ASK.format(count=len(texts), listed=listed)
