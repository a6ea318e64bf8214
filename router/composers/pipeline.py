"""`pipeline`: a planner splits a query into sub-queries, each is routed on its own, and their results are joined.

    1: What is the capital of Peru?
    2: Reverse the word {1:lower}.

The route's decision is made anew for every sub-query, those that need no other's result run at once, and results are
read from the answers (`router.answers`) and put where a later sub-query names them. What no other sub-query uses is the
answer, joined with commas where it is several results.

A query of one part, and one whose plan cannot be read, falls to `single`, as do `n` > 1 and tool calls. A sub-query
that fails is asked of its next best expert once; what needs its result is left out, and where nothing is left, `single`
answers. Log-probabilities are left out: the answer is nobody's own text. Structured output: sub-queries are asked
without it, the joined answer is checked, and repaired once by the expert of the last sub-query.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import orjson
from pydantic import BaseModel, ConfigDict, Field, field_validator

from experts.errors import BudgetSpent, ConsiliumError, ExpertError
from experts.language import Answer, Message, Needs, Query, Usage
from experts.protocols import Emit
from experts.speech import Speech, whole
from router.composers import _plans, _seats
from router.composers import single as one
from router.composers._plans import Step
from router.plan import Plan, Seat
from router.protocols import Call, Voices

KEEP = 0.75
"""The share of a budget that stays for the sub-queries while the planner writes."""

PROMPT = """Split the question below into sub-questions that can each be answered by a different specialist who sees
nothing else. Write one numbered line for each, `1: ...`, `2: ...`. Where a sub-question needs the result of an earlier
one, write {1}, {2} in its place, or {1:lower}, {1:upper}, {1:number} for it in lower case, in upper case, or only its
number. Use no result before it is there. If the question has only one part, write the single line `1: {query}`. Write
nothing else.

Example question: How many inhabitants does the capital of Peru have, and what is 12 x 34?
1: What is the capital of Peru?
2: How many inhabitants does {1} have?
3: What is 12 x 34?

Question: {question}"""


class Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    planner: str | None = Field(default=None, description="The expert that writes the plan. Default: the chosen one.")
    prompt: str = Field(default=PROMPT, description="What the planner is asked; {question} is the query's text.")
    most: int = Field(default=6, ge=2, le=32, description="Sub-queries of a plan; one with more falls to single.")
    tokens: int = Field(default=400, ge=16, description="Tokens that the planner may write.")
    shown: bool = Field(default=True, description="Whether the answer shows the sub-queries and their results.")

    @field_validator("prompt")
    @classmethod
    def _asks(cls, value: str) -> str:
        if "{question}" not in value:
            raise ValueError("expected {question} in it, where the query's text goes")
        return value


def build(options: Options) -> Pipeline:
    return Pipeline(options)


class Pipeline:
    def __init__(self, options: Options) -> None:
        self._options = options
        self._single = one.build(one.Options())

    def seated(self, plan: Plan) -> Plan:
        return replace(plan, seats=(Seat(plan.expert),))

    async def compose(self, query: Query, voices: Voices, emit: Emit) -> Answer:
        try:
            steps = await self._planned(query, voices)
        except (ExpertError, BudgetSpent, ValueError) as fault:
            voices.note(single_because=f"no plan: {fault}")
            return await self._single.compose(query, voices, emit)
        if len(steps) == 1:
            voices.note(single_because="the query has one part")
            return await self._single.compose(query, voices, emit)
        await voices.progress("planned", steps=[step.text for step in steps])
        work = _Work(query, voices, steps)
        await work.done()
        voices.note(steps=work.shown())
        found = [step for step in _plans.leaves(steps) if step.number in work.results]
        if not found:
            voices.note(single_because="no sub-query that the answer needs was answered")
            return await self._single.compose(query, voices, emit)
        said = ", ".join(work.results[step.number] for step in found)
        if self._options.shown and not query.needs.structured:
            said = f"{work.told()}\nAnswer: {said}"
        return await _seats.settled(query, voices, _spoken(query, work.by[found[-1].number], said), emit)

    async def _planned(self, query: Query, voices: Voices) -> list[Step]:
        """The plan. Raises ExpertError, BudgetSpent, and ValueError for one that cannot be read."""
        options = self._options
        planner = options.planner or voices.plan.expert
        if planner not in voices.cards:
            raise ValueError(f"the planner {planner} is no expert of the registry")
        text = query.user_texts()[-1] if query.messages else ""
        asked = _posed(query, options.prompt.replace("{question}", text), limit=options.tokens)
        room = voices.budget.rooms(1, keep=KEEP) if voices.budget.limited else None
        await voices.progress("planning", expert=planner)
        answer = await voices.hear(planner, asked, role="planner", room=room)
        return _plans.parse(answer.text, options.most)


class _Work:
    """The sub-queries of one plan while they are asked: results and who gave them, by number."""

    def __init__(self, query: Query, voices: Voices, steps: Sequence[Step]) -> None:
        self.results: dict[int, str] = {}
        self.by: dict[int, str] = {}
        self._query = query
        self._voices = voices
        self._steps = steps
        self._asked: dict[int, str] = {}
        self._faults: dict[int, str] = {}

    async def done(self) -> None:
        """Ask all that can be asked, round by round."""
        rounds = _plans.depth(self._steps)
        while ready := [step for step in self._steps if self._ready(step)]:
            rounds -= 1
            waiting = sum(step.number not in self._asked for step in self._steps) - len(ready)
            keep = max(rounds, 0) / (max(rounds, 0) + 1) if waiting else 0.0
            failed = await self._round([(step, ()) for step in ready], keep, waiting)
            if failed:
                await self._round(failed, keep, waiting)

    def _ready(self, step: Step) -> bool:
        return step.number not in self._asked and all(number in self.results for number in step.after)

    async def _round(
        self, wanted: Sequence[tuple[Step, tuple[str, ...]]], keep: float, waiting: int
    ) -> list[tuple[Step, tuple[str, ...]]]:
        """Ask these steps at once, each of the best expert that has not failed it; returns those that failed, with who
        failed them, where somebody else is left to ask."""
        calls: list[Call] = []
        asked: dict[str, tuple[Step, list[str]]] = {}
        for step, tried in wanted:
            try:
                text = self._asked[step.number] = step.asked(self.results)
                sub = _posed(self._query, text, frame=self._query.frame)
                plan = await self._voices.routed(sub)
            except (ConsiliumError, ValueError) as fault:
                self._asked.setdefault(step.number, step.text)
                self._faults[step.number] = str(fault)
                continue
            left = [name for name in (plan.expert, *plan.spares) if name not in tried]
            if left:
                calls.append(Call(left[0], sub, f"part {step.number}"))
                asked[calls[-1].role] = step, left
        failed: list[tuple[Step, tuple[str, ...]]] = []
        for heard in await self._voices.hear_all(calls, keep=keep, keep_calls=waiting):
            step, left = asked[heard.call.role]
            said = _plans.result(heard.answer.text) if heard.answer is not None else ""
            if said:
                self.results[step.number], self.by[step.number] = said, heard.call.expert
                self._faults.pop(step.number, None)
                continue
            self._faults[step.number] = heard.error.message if heard.error else f"{left[0]} says nothing"
            if len(left) > 1 and not isinstance(heard.error, BudgetSpent):
                failed.append((step, (left[0],)))
        return failed

    def told(self) -> str:
        """The sub-queries with their results, a line each."""
        return "\n".join(
            f"{self._asked.get(step.number, step.text)} {self.results.get(step.number, '(not answered)')}"
            for step in self._steps
        )

    def shown(self) -> list[dict[str, str | None]]:
        """For the answer's `consilium` object."""
        return [
            {
                "asked": self._asked.get(step.number, step.text), "expert": self.by.get(step.number),
                "result": self.results.get(step.number), "error": self._faults.get(step.number),
            }
            for step in self._steps
        ]  # fmt: skip


def _posed(query: Query, text: str, limit: int | None = None, frame: tuple[str, str] = ("", "")) -> Query:
    """A question of its own under the caller's settings: the system's messages stay, the conversation does not.
    `frame`: what stands around it, such as passages."""
    said = f"{frame[0]}{text}{frame[1]}"
    given = orjson.loads(bytes(query.fields["messages"]))
    system = [(row, message) for row, message in zip(given, query.messages, strict=True) if message.role == "system"]
    fields = {
        "messages": [*(row for row, _ in system), {"role": "user", "content": said}],
        "logprobs": None, "top_logprobs": None, "response_format": None,
    }  # fmt: skip
    posed = query.with_fields(**fields)
    if limit is not None:
        posed = replace(
            posed.with_fields(max_completion_tokens=None, max_tokens=limit, temperature=0), max_tokens=limit
        )
    messages = (*(message for _, message in system), Message("user", said))
    return replace(posed, messages=messages, needs=Needs(), frame=frame)


def _spoken(query: Query, expert: str, text: str) -> Answer:
    """A text of the composer's own, as an answer in the name of this expert."""
    body = whole(query, expert, Speech([text], [], "stop", Usage()), 1)
    return Answer(expert, orjson.dumps(body), finish="stop")
