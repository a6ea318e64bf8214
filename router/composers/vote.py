"""`vote`: answers are extracted and compared, weighed by how far each expert is to be trusted on such a query, and the
winner's full text is given, with the agreement reported.

Sequential: the first seats are asked at once, then one after another, until the rest cannot change the result or the
leading answer is right with the fitted probability (`router.voting`). Sources: self-consistency (arXiv 2203.11171),
Dawid and Skene (1979). Answers that fail a test which the question itself states do not count where others pass it.

`n` > 1 and tool calls fall to `single`; so do questions whose answers cannot be compared (an essay). Log-probabilities
are the winner's. Structured output is compared as a text where nothing else can be; the winner is checked, and repaired
once. Fewer answers than `quorum` are an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from experts.language import Answer, Query
from experts.protocols import Emit
from router.answers import open_extractor, text
from router.answers._reading import Reading, grouped
from router.composers import _seats, single
from router.plan import Plan
from router.protocols import Heard, Voices
from router.recorded import standing
from router.voting import Tally, order, settled, tally


class Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    k: int = Field(default=5, ge=1, le=64, description="Seats, where the policy chose no more than one.")
    extractor: str | Mapping[str, Any] = Field(
        default="auto", description="What reads an answer: a name, or {name, options...}; auto goes by the question."
    )
    sequential: bool = Field(default=True, description="Stop asking when it is settled.")
    first: int = Field(default=2, ge=1, description="Seats that are asked at once to begin with.")
    wave: int = Field(default=1, ge=1, description="Seats that are asked at once after that.")
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
        seats = self._in_order([seat.expert for seat in voices.plan.seats], kind, voices)
        waiting = _seats.calls(query, seats)
        heard, found, readings = list[Heard](), list[Answer](), list[Reading | None]()
        counted, groups, why = None, list[int](), "everybody was asked"
        while waiting:
            size = len(waiting) if not options.sequential else options.wave if heard else options.first
            batch, waiting = waiting[:size], waiting[size:]
            now = await voices.hear_all(batch)
            heard += now
            for answer in _seats.answers(now):
                found.append(answer)
                readings.append(await extractor.read(question, answer.text))
            groups = await grouped(extractor, standing(readings))
            counted = self._counted(kind, found, groups, voices)
            if voices.budget.ended:
                why = "the budget is spent"
                break
            if counted is not None and waiting and len(found) >= options.quorum:
                left = float(self._weights(kind, [call.expert for call in waiting], voices).sum())
                until = voices.composing.voting.of(kind).threshold if options.threshold is None else options.threshold
                if settled(counted, np.array([left]), until)[0]:
                    decided = counted.lead[0] > left + 1e-9
                    why = "the others could not change it" if decided else f"P(right) reached {until:g}"
                    break
        while len(found) < min(options.quorum, len(seats)):
            more = await self._spare(query, voices, heard)
            if more is None:
                raise _seats.too_few(heard, options.quorum)
            found.append(more)
            readings.append(await extractor.read(question, more.text))
            groups = await grouped(extractor, standing(readings))
            counted = self._counted(kind, found, groups, voices)
        winner = _seats.best(found, voices)
        if counted is not None and counted.winner[0] >= 0:
            winner = found[int(counted.winner[0])]
        self._told(voices, kind, found, readings, groups, counted, len(seats), why)
        return await _seats.settled(query, voices, winner, emit)

    def _in_order(self, seats: Sequence[str], kind: str, voices: Voices) -> list[str]:
        """The most information first; an expert's further seats after everybody's first."""
        quality = self._quality(seats, voices)[None, :]
        weights = voices.composing.voting.of(kind).weights(seats, quality)
        columns: list[int] = order(quality, weights)[0].tolist()
        ranked = [seats[column] for column in columns]
        again = {place for place, name in enumerate(ranked) if name in ranked[:place]}
        return [name for place, name in enumerate(ranked) if place not in again] + [ranked[place] for place in again]

    def _quality(self, names: Sequence[str], voices: Voices) -> np.ndarray:
        rows = voices.estimates
        return np.array([rows[name].quality if name in rows else 0.5 for name in names])

    def _weights(self, kind: str, names: Sequence[str], voices: Voices) -> np.ndarray:
        return voices.composing.voting.of(kind).weights(names, self._quality(names, voices))

    def _counted(self, kind: str, found: Sequence[Answer], groups: Sequence[int], voices: Voices) -> Tally | None:
        if not found:
            return None
        names = [answer.expert for answer in found]
        weighing, quality = voices.composing.voting.of(kind), self._quality(names, voices)
        whole = np.array([answer.finish != "length" for answer in found])
        return tally(
            np.array([groups]), weighing.weights(names, quality)[None, :],
            (weighing.prefer(names, quality) + whole)[None, :], weighing.shared(names), weighing.none,
        )  # fmt: skip

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
        groups: Sequence[int], counted: Tally | None, seats: int, why: str,
    ) -> None:  # fmt: skip
        sure, share = 0.0, 0.0
        if counted is not None and counted.winner[0] >= 0:
            sure = float(counted.sure[0])
            share = groups.count(groups[int(counted.winner[0])]) / len(groups)
        voices.note(
            kind=kind, agreement=round(share, 3), confidence=round(sure, 4), answered=len(found), seats=seats,
            stopped=why, votes=[
                {"expert": answer.expert, "answer": reading.shown[:200] if reading else None, "group": group}
                for answer, reading, group in zip(found, readings, groups, strict=True)
            ],
        )  # fmt: skip
