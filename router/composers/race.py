"""`race`: several experts at once; the first good answer wins, and the others are cancelled on their servers.

`n` > 1 and tool calls fall to `single`. Log-probabilities are the winner's. Structured output: only a valid answer is a
good one; where there is none, the best is repaired once.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from experts.language import Answer, Query
from experts.protocols import Emit
from router.composers import _seats
from router.plan import Plan
from router.protocols import Heard, Voices


class Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    k: int = Field(default=2, ge=1, le=64, description="Experts that run.")


def build(options: Options) -> Race:
    return Race(options)


class Race:
    def __init__(self, options: Options) -> None:
        self._options = options

    def seated(self, plan: Plan) -> Plan:
        return _seats.recruited(plan, self._options.k, repeat=False)

    async def compose(self, query: Query, voices: Voices, emit: Emit) -> Answer:
        def won(heard: Sequence[Heard]) -> bool:
            last = heard[-1].answer
            return last is not None and not _seats.weakness(query, last)

        runners = _seats.calls(query, [seat.expert for seat in voices.plan.seats])
        heard = await voices.hear_all(runners, enough=won)
        for name in voices.plan.spares if not _seats.answers(heard) else ():
            heard += await voices.hear_all(_seats.calls(query, [name], role="spare"))
            if _seats.answers(heard):
                break
        found = _seats.answers(heard)
        if not found:
            raise _seats.nobody(heard)
        good = [answer for answer in found if not _seats.weakness(query, answer)]
        winner = good[0] if good else _seats.best(found, voices)
        voices.note(winner=winner.expert)
        return await _seats.settled(query, voices, winner, emit)
