"""What every composer does, whichever it is: the tests run on each file of the folder from the day it appears."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import orjson
import pytest

from experts.errors import BudgetSpent, ConsiliumError
from router.budget import Allowance
from router.composers import names, open_composer
from router.protocols import Composer
from tests.scripted_voices import Room, asked, planned, room

NEEDED: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
"""Options without which a composer cannot be opened."""
OF_WHOLE_QUESTIONS = sorted(names() - {"pipeline"})
"""Composers that put the same question to their seats."""


@pytest.fixture(params=OF_WHOLE_QUESTIONS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def composer(name: str) -> Composer:
    return open_composer(name, NEEDED.get(name, {}))


def seated(name: str, scripts: Mapping[str, Mapping[str, Any]], **more: Any) -> tuple[Composer, Room]:
    found = composer(name)
    return found, room(scripts, plan=found.seated(planned(list(scripts), name)), **more)


GOOD = {"a": {"text": "The answer is 4."}, "b": {"text": "The answer is 4."}, "c": {"text": "The answer is 5."}}


async def test_the_answer_is_whole_and_carries_an_expert_s_name(name: str) -> None:
    carried, where = seated(name, GOOD)
    answer = await carried.compose(asked(), where.voices, where.emit)
    assert answer.expert in GOOD
    assert "The answer is" in answer.text
    assert not where.said
    body = orjson.loads(answer.body)
    assert body["object"] == "chat.completion"
    assert body["choices"][0]["finish_reason"] == "stop"


async def test_a_stream_says_what_the_answer_says(name: str) -> None:
    carried, where = seated(name, GOOD)
    answer = await carried.compose(asked(stream=True), where.voices, where.emit)
    assert "The answer is" in where.text
    assert answer.expert in GOOD


async def test_one_failure_is_kept_and_does_not_fail_the_request(name: str) -> None:
    carried, where = seated(name, {**GOOD, "a": {"fail": {"at": "status"}}})
    answer = await carried.compose(asked(), where.voices, where.emit)
    assert "The answer is" in answer.text
    failed = [attempt for attempt in where.run.attempts if attempt.error is not None and attempt.expert == "a"]
    assert len(failed) == where.experts["a"].calls


async def test_when_all_fail_the_error_names_them(name: str) -> None:
    carried, where = seated(name, {each: {"fail": {"at": "status"}} for each in "abc"})
    with pytest.raises(ConsiliumError, match="a"):
        await carried.compose(asked(), where.voices, where.emit)
    assert not where.said


async def test_one_call_is_enough_to_answer(name: str) -> None:
    carried, where = seated(name, GOOD, allowance=Allowance(calls=1))
    answer = await carried.compose(asked(), where.voices, where.emit)
    assert "The answer is" in answer.text
    assert where.voices.budget.calls == 1
    assert sum(expert.calls for expert in where.experts.values()) == 1


async def test_too_few_tokens_to_begin_are_an_error_that_says_so(name: str) -> None:
    carried, where = seated(name, GOOD, allowance=Allowance(tokens=5))
    with pytest.raises(BudgetSpent, match="budget"):
        await carried.compose(asked(), where.voices, where.emit)
    assert not any(expert.calls for expert in where.experts.values())


async def test_what_there_is_when_time_is_up_is_composed(name: str) -> None:
    """One that rambles for ever is cut off; what it said until then, or what the others said, is the answer."""
    slow = {"text": "word " * 5000, "per_token_s": 0.001, "ramble": True}
    carried, where = seated(name, dict.fromkeys("abc", slow), allowance=Allowance(ms=300))
    answer = await carried.compose(asked(), where.voices, where.emit)
    assert answer.text.startswith("word word")
    assert where.voices.budget.ended == "ms"


async def test_a_client_that_leaves_ends_every_call(name: str) -> None:
    carried, where = seated(name, {each: {"delay_s": 60.0} for each in "abc"})
    task = asyncio.create_task(carried.compose(asked(stream=True), where.voices, where.emit))
    while not any(expert.calls for expert in where.experts.values()):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert all(expert.load().in_flight == 0 for expert in where.experts.values())
    assert sum(expert.cancelled for expert in where.experts.values()) == sum(e.calls for e in where.experts.values())


async def test_structured_output_is_repaired_once(name: str) -> None:
    if name == "single":
        pytest.skip("passes through what its expert says")
    said = {"replies": [{"match": "structured output", "text": '{"x": 4}'}], "text": "four, I think"}
    carried, where = seated(name, dict.fromkeys("abc", said))
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {
        "type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}}}  # fmt: skip
    answer = await carried.compose(asked(response_format=form), where.voices, where.emit)
    assert orjson.loads(answer.text) == {"x": 4}
    assert [attempt.role for attempt in where.run.attempts].count("repair") == 1


async def test_seating_is_pure_and_keeps_what_a_policy_chose(name: str) -> None:
    plan = planned(["a", "b", "c"], name)
    carried = composer(name)
    assert carried.seated(plan) == carried.seated(plan)
    if name != "single":
        several = replace(plan, seats=(plan.seats[0]._replace(expert="c"), plan.seats[0]._replace(expert="b")))
        assert {seat.expert for seat in carried.seated(several).seats} == {"b", "c"}
