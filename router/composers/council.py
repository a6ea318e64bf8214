"""`council`: recruited experts reason, each on its own, and an aggregator writes the answer, streaming.

Sources: Symbolic-MoE (arXiv 2503.05641): k experts recruited by the skills that the query takes (where the route's
estimator knows of skills), a repeat being self-consistency, and an aggregator chosen for its measured ability.
Mixture-of-Agents (arXiv 2406.04692): with `layers` > 1, every seat of a further layer sees the answers of the layer
before. Where the seats agree already, nobody aggregates.

`n` > 1 and tool calls fall to `single`. Log-probabilities are those of whoever wrote the answer. Structured output: the
aggregator is heard whole, checked, and repaired once. Without a quorum of seats the request fails; an aggregator that
fails, or that the budget has no room for, leaves the best seat's answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict, Field

from experts.errors import BudgetSpent, ExpertError
from experts.language import Answer, Query
from experts.protocols import Emit
from router.composers import _seats
from router.plan import Plan
from router.protocols import Heard, Voices

KEEP = 0.5
"""The share of a budget that stays for the aggregator: it reads all that the seats wrote."""

ASK = """Several experts answered the conversation above, each on its own. Some may be wrong.

{listed}

Weigh them critically and write the one best answer to the conversation, as if it were your own. Do not mention them."""


class Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    k: int = Field(default=3, ge=1, le=64, description="Seats, where the policy chose no more than one.")
    layers: int = Field(default=1, ge=1, le=8, description="Rounds of the seats; above 1 it is a Mixture-of-Agents.")
    aggregator: str | None = Field(default=None, description="Who writes the answer. Default: the ablest.")
    abilities: Mapping[str, float] = Field(
        default_factory=dict[str, float],
        description="Ability to aggregate, by expert. Default: what was measured, else expected quality.",
    )
    quorum: int = Field(default=1, ge=1, description="Seats that must answer.")
    skip: bool = Field(default=True, description="Give the seats' answer where all of them agree.")


def build(options: Options) -> Council:
    return Council(options)


class Council:
    def __init__(self, options: Options) -> None:
        self._options = options

    def seated(self, plan: Plan) -> Plan:
        return _seats.recruited(plan, self._options.k)

    async def compose(self, query: Query, voices: Voices, emit: Emit) -> Answer:
        options, seats = self._options, [seat.expert for seat in voices.plan.seats]
        asked, found, agreed = query, list[Answer](), 0.0
        heard: list[Heard] = []
        for layer in range(options.layers):
            left = options.layers - layer
            asking = _seats.calls(asked, seats, role="seat" if layer == 0 else f"seat of layer {layer + 1}")
            now = await voices.hear_all(
                asking, keep=1 - (1 - KEEP) / left, keep_calls=1 if voices.budget.calls_left > 1 else 0,
            )  # fmt: skip
            heard += now
            place = {id(call): number for number, call in enumerate(asking)}
            now.sort(key=lambda one: place[id(one.call)])  # who reads them reads the same, whoever was faster
            found = _seats.answers(now) or found
            quorum = min(options.quorum, len(seats))
            while layer == 0 and len(found) < quorum and (more := await self._spare(asked, voices, heard)):
                found.append(more)
            agreed = await _seats.agreement(query, found)
            if agreed == 1.0 and len(found) > 1 and options.skip:
                break
            asked = _reading(query, found)
        if len(found) < min(options.quorum, len(seats)):
            raise _seats.too_few(heard, options.quorum)
        voices.note(agreement=round(agreed, 3), answered=len(found))
        if len(found) == 1 or (options.skip and agreed == 1.0):
            voices.note(aggregator=None, skipped="the seats agree" if len(found) > 1 else "one seat answered")
            return await _seats.settled(query, voices, _seats.best(found, voices), emit)
        return await self._aggregated(query, voices, found, emit)

    async def _spare(self, query: Query, voices: Voices, heard: list[Heard]) -> Answer | None:
        """The next spare that answers, while there are any."""
        asked = {one.call.expert for one in heard}
        for name in voices.plan.spares:
            if name not in asked:
                now = await voices.hear_all(_seats.calls(query, [name], role="spare"))
                heard += now
                if found := _seats.answers(now):
                    return found[0]
        return None

    async def _aggregated(self, query: Query, voices: Voices, found: Sequence[Answer], emit: Emit) -> Answer:
        reading = _reading(query, found)
        for name in self._aggregators(voices, found)[:2]:
            await voices.progress("aggregating", expert=name)
            try:
                if query.needs.structured:
                    heard = await voices.hear(name, reading, role="aggregator")
                    voices.note(aggregator=name)
                    return await _seats.settled(query, voices, heard, emit)
                answer = await voices.ask(name, reading, emit, role="aggregator")
            except (ExpertError, BudgetSpent) as fault:
                if voices.committed:
                    raise
                voices.note(aggregator_failed=fault.message)
                continue
            voices.note(aggregator=name)
            return answer
        voices.note(aggregator=None)
        return await _seats.settled(query, voices, _seats.best(found, voices), emit)

    def _aggregators(self, voices: Voices, found: Sequence[Answer]) -> list[str]:
        """The ablest first: by what was measured, else by expected quality."""
        rows, measured = voices.estimates, self._options.abilities or voices.abilities
        names = list(dict.fromkeys([*(answer.expert for answer in found), *measured]))

        def ability(name: str) -> float:
            return measured.get(name, rows[name].quality if name in rows and not measured else -1.0)

        usable = [name for name in names if name in voices.cards and name not in voices.plan.excluded]
        names = sorted(usable, key=ability, reverse=True)
        first = self._options.aggregator
        return [first, *(name for name in names if name != first)] if first in voices.cards and first else names


def _reading(query: Query, found: Sequence[Answer]) -> Query:
    return _seats.extended(query, [("user", question([answer.text for answer in found]))])


def question(texts: Sequence[str]) -> str:
    """What an aggregator is asked of these answers."""
    return ASK.format(listed="\n\n".join(f"[Expert {place}]\n{text.strip()}" for place, text in enumerate(texts, 1)))
