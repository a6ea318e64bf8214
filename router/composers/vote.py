"""`vote`: answers are extracted and compared, weighed by how far each expert is to be trusted on such a query, and the
winner's full text is given, with the agreement reported.

Sequential: the first seats are asked at once, then as many as must answer before anything can be settled, until the
rest cannot change the result or the leading answer is right with the fitted probability (`router.voting`). Sources:
self-consistency (arXiv 2203.11171), Dawid and Skene (1979). Answers that fail a test which the question itself states
do not count where others pass it.

`n` > 1 and tool calls fall to `single`; so do questions whose answers cannot be compared (an essay). Log-probabilities
are the winner's. Structured output is compared as a text where nothing else can be; the winner is checked, and repaired
once. Fewer answers than `quorum` are an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from experts.language import Answer, Query
from experts.protocols import Emit
from router.answers import open_extractor, text
from router.answers._reading import Reading, grouped
from router.ballots import Ballots, Count
from router.composers import _seats, single
from router.plan import Plan
from router.protocols import Heard, Voices
from router.recorded import standing
from router.voting import SLACK


class Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    k: int = Field(default=5, ge=1, le=64, description="Seats, where the policy chose no more than one.")
    extractor: str | Mapping[str, Any] = Field(
        default="auto", description="What reads an answer: a name, or {name, options...}; auto goes by the question."
    )
    sequential: bool = Field(default=True, description="Stop asking when it is settled.")
    first: int = Field(default=2, ge=1, description="Seats that are asked at once to begin with.")
    wave: int | None = Field(
        default=None, ge=1, description="Seats that are asked at once after that. Default: as many as must answer "
        "before anything can be settled, so that no call is made which one after another would save."
    )  # fmt: skip
    threshold: float | None = Field(default=None, ge=0, le=1, description="P(right) to stop at. Default: as fitted.")
    quorum: int = Field(default=1, ge=1, description="Seats that must answer.")


def build(options: Options) -> Vote:
    return Vote(options)


class Vote:
    def __init__(self, options: Options) -> None:
        self._options = options
        named = {"name": options.extractor} if isinstance(options.extractor, str) else dict(options.extractor)
        self._extractor = open_extractor(str(named.pop("name", "auto")), named)
        self._texts = text.build(text.Options(whole=True, longest=20_000))

    def seated(self, plan: Plan) -> Plan:
        return _seats.recruited(plan, self._options.k)

    async def compose(self, query: Query, voices: Voices, emit: Emit) -> Answer:
        question, options = query.user_texts()[-1], self._options
        extractor = self._extractor
        kind = extractor.kind(question)
        if not kind and query.needs.structured:
            extractor, kind = self._texts, "text"
        if not kind:
            voices.note(single_because="answers to this question cannot be compared")
            everybody = dict.fromkeys([*(seat.expert for seat in voices.plan.seats), *voices.plan.spares])
            return await single.first_of(list(everybody), query, voices, emit)
        weighing = voices.composing.voting.of(kind)
        invited = [seat.expert for seat in voices.plan.seats]
        ballots = Ballots(weighing, self._quality([*invited, *voices.plan.spares], voices))
        seats = self._in_order(invited, ballots)
        until = weighing.threshold if options.threshold is None else options.threshold
        waiting = _seats.calls(query, seats)
        heard, found, readings = list[Heard](), list[Answer](), list[Reading | None]()
        counted, groups, why = Count(), list[int](), "everybody was asked"
        # One at a time where calls would have to share tokens or money out, of which each may else have all that is
        # left; and where a program failed its tests: one that stands them settles more than its own vote.
        scarce = voices.budget.allowance.tokens is not None or voices.budget.allowance.usd is not None
        rounds, size = 0, options.first if options.sequential else len(waiting)
        while waiting:
            batch, waiting = waiting[:size], waiting[size:]
            now = await voices.hear_all(batch)
            heard += now
            rounds += 1
            for answer in _seats.answers(now):
                found.append(answer)
                readings.append(await extractor.read(question, answer.text))
            groups = await grouped(extractor, standing(readings))
            counted = self._counted(ballots, found, groups)
            if voices.budget.ended:
                why = "the budget is spent"
                break
            left = [call.expert for call in waiting]
            needed = ballots.needed([answer.expert for answer in found], groups, left, until)
            if waiting and not needed and len(found) >= options.quorum:
                decided = counted.lead > ballots.weight(left) + SLACK
                why = "the others could not change it" if decided else f"P(right) reached {until:g}"
                break
            size = options.wave or max(needed, options.quorum - len(found), 1)
            if options.wave is None and (scarce or any(one is not None and one.checked is False for one in readings)):
                size = 1
        while len(found) < min(options.quorum, len(seats)):
            more = await self._spare(query, voices, heard)
            if more is None:
                raise _seats.too_few(heard, options.quorum)
            found.append(more)
            readings.append(await extractor.read(question, more.text))
            groups = await grouped(extractor, standing(readings))
            counted = self._counted(ballots, found, groups)
        winner = _seats.best(found, voices)
        if counted.winner >= 0:
            winner = found[counted.winner]
        self._told(voices, kind, found, readings, groups, counted, len(seats), rounds, why)
        return await _seats.settled(query, voices, winner, emit)

    def _in_order(self, seats: Sequence[str], ballots: Ballots) -> list[str]:
        """The most information first; an expert's further seats after everybody's first."""
        ranked = ballots.order(seats)
        again = {place for place, name in enumerate(ranked) if name in ranked[:place]}
        return [name for place, name in enumerate(ranked) if place not in again] + [ranked[place] for place in again]

    def _quality(self, names: Sequence[str], voices: Voices) -> dict[str, float]:
        rows = voices.estimates
        return {name: rows[name].quality if name in rows else 0.5 for name in names}

    def _counted(self, ballots: Ballots, found: Sequence[Answer], groups: Sequence[int]) -> Count:
        return ballots.count(
            [answer.expert for answer in found], groups, [answer.finish != "length" for answer in found]
        )

    async def _spare(self, query: Query, voices: Voices, heard: list[Heard]) -> Answer | None:
        """The next spare that answers, while there are any."""
        asked = {one.call.expert for one in heard}
        for name in voices.plan.spares:
            if name not in asked:
                now = await voices.hear_all(_seats.calls(query, [name], role="spare"))
                heard += now
                if answers := _seats.answers(now):
                    return answers[0]
        return None

    def _told(
        self, voices: Voices, kind: str, found: Sequence[Answer], readings: Sequence[Reading | None],
        groups: Sequence[int], counted: Count, seats: int, rounds: int, why: str,
    ) -> None:  # fmt: skip
        share = groups.count(groups[counted.winner]) / len(groups) if counted.winner >= 0 else 0.0
        voices.note(
            kind=kind, agreement=round(share, 3), confidence=round(counted.sure, 4), answered=len(found), seats=seats,
            rounds=rounds, stopped=why, votes=[
                {"expert": answer.expert, "answer": reading.shown[:200] if reading else None, "group": group}
                for answer, reading, group in zip(found, readings, groups, strict=True)
            ],
        )  # fmt: skip
