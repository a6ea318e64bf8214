"""What composers share: who sits, what a seat is asked, whether an answer will do, and giving it to the client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import orjson

from experts.errors import AllFailed, BudgetSpent, ConsiliumError, ExpertError
from experts.language import Answer, Message, Query
from experts.protocols import Emit
from router.answers import boxed, choice, number, text
from router.answers.auto import picked
from router.confidence import flaw
from router.plan import Plan, Seat
from router.protocols import Call, Heard, Voices

SAMPLING = 0.7
"""Temperature of an expert's further samples, where the caller asked for less: equal samples tell nothing."""


def recruited(plan: Plan, k: int, *, repeat: bool = True) -> Plan:
    """The plan with k seats: those a policy chose, where they are several; else, where the skills of the query are
    known, recruited by them; else the experts of highest expected quality. Where there are fewer experts, they sit
    again, which is self-consistency."""
    seats = [seat.expert for seat in plan.seats]
    if len(seats) == 1 and repeat and any(row.suitability for row in plan.estimates):
        seats = apportioned(plan, k)
    elif len(seats) == 1:
        rows = sorted(plan.estimates, key=lambda row: -row.quality)
        others = [row.expert for row in rows] or list(plan.spares)
        seats = list(dict.fromkeys([*seats, *(name for name in others if name not in plan.excluded)]))[:k]
        while repeat and len(seats) < k:
            seats.append(seats[len(seats) % len(set(seats))])
    spares = tuple(name for name in plan.spares if name not in seats)
    return replace(plan, seats=tuple(Seat(name, 1 / len(seats)) for name in seats), spares=spares)


def apportioned(plan: Plan, k: int) -> list[str]:
    """k seats in proportion to suitability, with repeats: the next seat goes to the highest suitability / (seats + 1).
    The first is the policy's: it may explore, or abstain.

    Symbolic-MoE draws them, with replacement, in the same proportions. D'Hondt's highest averages come as near to these
    as whole seats can, and without a draw, so that a plan can be explained before it is carried out.
    """
    wanted = {row.expert: row.suitability or 0.0 for row in plan.estimates if row.expert not in plan.excluded}
    seats = [plan.expert]
    while len(seats) < k:
        seats.append(max(wanted, key=lambda name: wanted[name] / (seats.count(name) + 1)))
    return [seats[0], *sorted(seats[1:], key=lambda name: -wanted[name])]


def calls(query: Query, seats: Sequence[str], *, role: str = "seat") -> list[Call]:
    """One call a seat; an expert's further seats sample."""
    seen: dict[str, int] = {}
    made: list[Call] = []
    for name in seats:
        number = seen[name] = seen.get(name, 0) + 1
        asked = query
        if number > 1:
            given = orjson.loads(bytes(query.fields["temperature"])) if "temperature" in query.fields else None
            warm = max(given, SAMPLING) if given is not None else SAMPLING
            asked = query.with_fields(temperature=warm, seed=number)
        made.append(Call(name, asked, role))
    return made


def weakness(query: Query, answer: Answer) -> str:
    """What is plainly wrong with an answer, whoever gave it; empty where nothing is."""
    said = answer.text.strip()
    if not said:
        return flaw(said)
    if answer.finish == "length" and query.max_tokens is None:
        return "it was cut short"
    if query.needs.structured:
        return invalid(query, said)
    return flaw(said)


def invalid(query: Query, said: str) -> str:
    """Why a text is not the structured output that was asked for; empty where it is."""
    try:
        value: Any = orjson.loads(said)
    except orjson.JSONDecodeError as fault:
        return f"it is not JSON: {fault}"
    form: dict[str, Any] = orjson.loads(bytes(query.fields["response_format"]))
    asked: dict[str, Any] = form.get("json_schema") or {}
    schema: Any = asked.get("schema")
    if not isinstance(schema, Mapping):
        return "" if isinstance(value, dict) else "it is not a JSON object"
    from jsonschema import Draft202012Validator, SchemaError

    try:
        validator: Any = Draft202012Validator(cast(dict[str, Any], schema))
        fault: Any = next(validator.iter_errors(value), None)
    except SchemaError:
        return ""  # the caller's schema is the expert's to refuse
    return "" if fault is None else f"{fault.json_path}: {fault.message}"


async def agreement(query: Query, found: Sequence[Answer]) -> float:
    """The share of answers that come to the most frequent thing, 0 to 1; 0 where none can be compared.

    They are compared as what the question asks for (a number, a choice, an expression), else by the words of a short
    final answer. Running code and solving equations is left to a vote: it is not worth it to skip a call. Structured
    output is compared whole, as the value that it is.
    """
    if query.needs.structured:
        return _most([_value(answer.text) for answer in found])
    question = query.user_texts()[-1]
    module = {"number": number, "choice": choice, "boxed": boxed}.get(picked(question), text)
    extractor = module.build(module.Options())
    readings = [await extractor.read(question, answer.text) for answer in found]
    return _most([None if reading is None else reading.key for reading in readings])


def _most(keys: Sequence[object]) -> float:
    known = [key for key in keys if key is not None]
    return max((known.count(key) for key in known), default=0) / max(len(keys), 1)


def _value(said: str) -> bytes | None:
    try:
        return orjson.dumps(orjson.loads(said), option=orjson.OPT_SORT_KEYS)
    except orjson.JSONDecodeError:
        return None


def answers(heard: Sequence[Heard]) -> list[Answer]:
    return [one.answer for one in heard if one.answer is not None and one.answer.text.strip()]


def best(found: Sequence[Answer], voices: Voices) -> Answer:
    """The answer of the expert of highest expected quality; whole ones before those that were cut."""
    rows = voices.estimates

    def worth(answer: Answer) -> tuple[bool, float]:
        row = rows.get(answer.expert)
        return answer.finish != "length", row.quality if row else 0.0

    return max(found, key=worth)


def too_few(heard: Sequence[Heard], quorum: int) -> ConsiliumError:
    """The error of a request that fewer seats answered than its quorum, or nobody."""
    answered = len(answers(heard))
    if not answered:
        return nobody(heard)
    causes = [one.error for one in heard if isinstance(one.error, ExpertError)]
    why = "; ".join(f"{one.call.expert}: {one.error.message}" for one in heard if one.error is not None)
    return AllFailed(f"{answered} of {len(heard)} seats answered, and the quorum is {quorum}: {why}", causes=causes)


def nobody(heard: Sequence[Heard]) -> ConsiliumError:
    """The error of a request that nobody answered: the budget's where it was the budget, else every expert's."""
    faults = [one.error for one in heard if one.error is not None]
    experts = [fault for fault in faults if isinstance(fault, ExpertError)]
    if not experts:
        spent = [fault for fault in faults if isinstance(fault, BudgetSpent)]
        return spent[0] if spent else AllFailed("every seat answered with nothing", causes=())
    if len(experts) == 1 and len(faults) == 1:
        return experts[0]
    tried = "; ".join(f"{fault.expert}: {fault.message}" for fault in experts)
    return AllFailed(f"all {len(experts)} experts that were tried failed: {tried}", causes=experts)


async def settled(query: Query, voices: Voices, answer: Answer, emit: Emit) -> Answer:
    """Give the client this answer; structured output is checked first, and repaired once by who gave it."""
    if query.needs.structured and (why := invalid(query, answer.text)):
        ask = (f"That is not the structured output that was asked for ({why}). "
               "Answer again with only the corrected JSON.")  # fmt: skip
        again = extended(query, [("assistant", answer.text), ("user", ask)])
        try:
            repaired = await voices.hear(answer.expert, again, role="repair")
        except (ExpertError, BudgetSpent) as fault:
            voices.note(repair=f"failed: {fault.message}")
        else:
            still = invalid(query, repaired.text)
            voices.note(repair=f"still invalid: {still}" if still else "repaired once")
            answer = answer if still else repaired
    return await voices.say(query, answer, emit)


def extended(query: Query, turns: Sequence[tuple[str, str]]) -> Query:
    """The same conversation with further turns. What was put around the last turn is a part of an earlier one now."""
    given: list[dict[str, Any]] = orjson.loads(bytes(query.fields["messages"]))
    more = [{"role": role, "content": text} for role, text in turns]
    messages = (*query.messages, *(Message(role, text) for role, text in turns))
    return replace(query.with_fields(messages=[*given, *more]), messages=messages, frame=("", ""))
