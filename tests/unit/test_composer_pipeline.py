"""The pipeline: plans are read strictly, sub-queries routed on their own, and what fails is left out or asked again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from experts.errors import ConfigError
from experts.language import Passage, Query
from router.budget import Allowance
from router.composers import open_composer
from router.composers._plans import depth, leaves, parse
from router.passages import informed
from router.plan import Plan, Seat
from tests.scripted_voices import Room, asked, planned, room

CHAIN = "1: What is the capital of Peru?\n2: Reverse the word {1:lower}."
SCRIPTS: dict[str, dict[str, Any]] = {
    "any": {"text": "Answer: alone"},
    "planner": {"text": CHAIN},
    "geo": {"text": "Peru, capital\nAnswer: Lima"},
    "text": {"replies": [{"match": "^Reverse the word lima\\.$", "text": "Answer: amil"}, {"text": "Answer: wrong"}]},
}


def opened(scripts: dict[str, dict[str, Any]], **more: Any) -> Room:
    """Sub-queries about capitals go to geo, others to text."""
    found = room(scripts, plan=planned(["any"]), **more)

    async def decide(query: Query) -> Plan:
        name = "geo" if "capital" in query.user_texts()[-1] else "text"
        return Plan("auto", "single", (Seat(name),), ("any",))

    found.voices._decide = decide  # pyright: ignore[reportPrivateUsage]
    return found


PIPELINE = open_composer("pipeline", {"planner": "planner"})


async def told(where: Room, **more: Any) -> str:
    return (await PIPELINE.compose(asked("Reverse Peru's capital.", **more), where.voices, where.emit)).text


async def test_each_part_goes_to_its_expert_and_results_are_put_in() -> None:
    where = opened(SCRIPTS)
    assert await told(where) == "What is the capital of Peru? Lima\nReverse the word lima. amil\nAnswer: amil"
    assert [(one.expert, one.role) for one in where.run.attempts] == [
        ("planner", "planner"), ("geo", "part 1"), ("text", "part 2"),
    ]  # fmt: skip
    assert [step["expert"] for step in where.run.notes["steps"]] == ["geo", "text"]
    assert [event["event"] for event in where.aside][:2] == ["planning", "planned"]


async def test_passages_stand_before_every_part_and_not_before_the_plan() -> None:
    shown = "(?s)^<source 1>\nfact\n</source 1>\n{}$"
    where = opened({
        **SCRIPTS,
        "planner": {"replies": [{"match": "source", "text": "no plan"}, {"text": CHAIN}]},
        "geo": {"replies": [{"match": shown.format(r"What is the capital of Peru\?"), "text": "Answer: Lima"},
                            {"text": "Answer: unread"}]},
        "text": {"replies": [{"match": shown.format(r"Reverse the word lima\."), "text": "Answer: amil"},
                             {"text": "Answer: unread"}]},
    })  # fmt: skip
    query = informed(asked("Reverse Peru's capital."), [Passage("a", "fact")], "{sources}\n{question}")
    answer = await PIPELINE.compose(query, where.voices, where.emit)
    assert answer.text == "What is the capital of Peru? Lima\nReverse the word lima. amil\nAnswer: amil"


async def test_parts_that_need_nothing_are_joined() -> None:
    where = opened({**SCRIPTS, "planner": {"text": '["What is the capital of Peru?", "Reverse the word lima."]'}})
    assert (await told(where)).endswith("Answer: Lima, amil")


BAD = ("I cannot plan.", "1: a\n3: b", "1: Use {2}.\n2: b", "1: a\n2: {1:odd}", "[1, 2]")


@pytest.mark.parametrize("written", ["1: {query}", *BAD])
async def test_one_part_and_bad_plans_fall_to_single(written: str) -> None:
    where = opened({**SCRIPTS, "planner": {"text": written}})
    assert await told(where) == "Answer: alone"
    assert where.run.notes["single_because"]


async def test_a_part_that_fails_is_asked_of_its_spare() -> None:
    where = opened({**SCRIPTS, "geo": {"fail": {"at": "status"}}, "any": {"text": "Answer: Lima"}})
    assert (await told(where)).endswith("Answer: amil")
    assert [one.expert for one in where.run.attempts if one.role == "part 1"] == ["geo", "any"]


async def test_a_budget_without_room_for_the_plan_goes_to_one_expert() -> None:
    where = opened(SCRIPTS, allowance=Allowance(calls=2))
    assert await told(where) == "Answer: alone"
    assert where.voices.budget.calls == 2


async def test_it_streams_the_joined_answer() -> None:
    where = opened(SCRIPTS)
    await told(where, stream=True)
    assert where.text.endswith("Answer: amil")


async def test_structured_output_is_only_the_result() -> None:
    where = opened({**SCRIPTS, "text": {"text": 'Answer: {"word": "amil"}'}})
    assert orjson.loads(await told(where, response_format={"type": "json_object"})) == {"word": "amil"}


def test_plans_are_read_from_lines_and_from_json() -> None:
    steps = parse(CHAIN, 6)
    listed = '[{"question": "What is the capital of Peru?"}, "Reverse the word {1:lower}."]'
    assert steps == parse(f"```json\n{listed}\n```", 6)
    assert [step.after for step in steps] == [(), (1,)]
    assert [step.number for step in leaves(steps)] == [2]
    assert depth(steps) == 2
    assert depth([steps[1]._replace(after=())]) == 1
    assert parse("1. a b\n2) c {1:number}", 6)[1].asked({1: "540 min"}) == "c 540"
    with pytest.raises(ValueError, match="3 steps, and 2 are allowed"):
        parse("1: a\n2: b\n3: c", 2)


def test_the_prompt_must_hold_the_question() -> None:
    with pytest.raises(ConfigError, match="question"):
        open_composer("pipeline", {"prompt": "Plan."})


def test_a_plan_keeps_one_seat() -> None:
    plan = replace(planned(["a", "b"]), seats=(Seat("a"), Seat("b")))
    assert [seat.expert for seat in PIPELINE.seated(plan).seats] == ["a"]
