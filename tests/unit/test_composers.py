"""What sets each composer apart; what all have in common is tests/contract/test_composers.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson
import pytest

from experts.errors import AllFailed
from experts.language import Delta, Price
from router.budget import Allowance
from router.composers import open_composer
from tests.scripted_voices import THREE, asked, planned, roles, room, seated

JUDGED = "Below are"


# council


async def test_a_council_that_agrees_asks_no_aggregator() -> None:
    alike = {"a": {"text": "It is 4"}, "b": {"text": "so **4.0**."}, "c": {"text": "2 + 2 = 4, the answer is 4"}}
    council, where = seated("council", alike)
    answer = await council.compose(asked("How much is 2 + 2?"), where.voices, where.emit)
    assert roles(where) == ["seat"] * 3
    assert answer.text == "It is 4"
    assert where.run.notes["agreement"] == 1.0
    assert where.run.notes["skipped"] == "the seats agree"


@pytest.mark.parametrize(("other", "aggregates"), [('{"y": 2, "x": 4}', 0), ('{"x": 5, "y": 2}', 1)])
async def test_structured_answers_agree_where_they_are_one_value(other: str, aggregates: int) -> None:
    council, where = seated("council", {"a": {"text": '{"x":4,"y":2}'}, "b": {"text": other}}, {"k": 2})
    form = {"type": "json_object"}
    await council.compose(asked("How many are x and y?", response_format=form), where.voices, where.emit)
    assert roles(where).count("aggregator") == aggregates


async def test_a_council_that_need_not_skip_aggregates_all_the_same() -> None:
    council, where = seated("council", {"a": {"text": "4"}, "b": {"text": "4"}}, {"k": 2, "skip": False})
    await council.compose(asked(), where.voices, where.emit)
    assert roles(where) == ["seat", "seat", "aggregator"]


async def test_the_aggregator_reads_every_answer_in_the_order_of_the_seats() -> None:
    slow = {**THREE, "a": {**THREE["a"], "delay_s": 0.02}}
    council, where = seated("council", slow)
    await council.compose(asked(), where.voices, where.emit)
    assert roles(where)[-1] == "aggregator"
    read = where.experts["a"].last
    assert read is not None
    places = [read.messages[-1].text.index(script["text"]) for script in THREE.values()]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, "a"), ({"aggregator": "c"}, "c"), ({"abilities": {"a": 0.2, "b": 0.9}}, "b")],
)
async def test_who_aggregates(options: Mapping[str, Any], expected: str) -> None:
    council, where = seated("council", THREE, options)
    answer = await council.compose(asked(), where.voices, where.emit)
    assert answer.expert == where.run.notes["aggregator"] == expected


async def test_the_aggregator_is_the_one_that_was_measured_to_aggregate_best() -> None:
    """Not the best at answering, and not one that a constraint rules out, however able."""
    plan = planned(["a", "b", "c"], "council")
    council = open_composer("council", {"k": 2})
    seats = replace(council.seated(plan), excluded={"c": "down"})
    where = room(THREE, plan=seats, abilities={"a": 0.5, "b": 0.8, "c": 0.9})
    assert (await council.compose(asked(), where.voices, where.emit)).expert == "b"


def test_seats_go_by_skill_and_repeat_where_one_stands_out() -> None:
    plan = planned(["a", "b", "c"], "council")
    council = open_composer("council", {"k": 4})

    def seats(*suitability: float) -> list[str]:
        rows = tuple(row._replace(suitability=value) for row, value in zip(plan.estimates, suitability, strict=True))
        return [seat.expert for seat in council.seated(replace(plan, estimates=rows)).seats]

    assert seats(0.1, 0.3, 0.2) == ["a", "b", "b", "c"]
    assert seats(0.05, 0.9, 0.1) == ["a", "b", "b", "b"]
    assert seats(0.9, 0.1, 0.05) == ["a"] * 4
    assert seats(0.3, 0.3, 0.3) == ["a", "b", "c", "a"]


async def test_an_aggregator_that_fails_is_replaced_by_the_next() -> None:
    broken = {"fail": {"at": "status"}}
    council, where = seated("council", {**THREE, "d": broken}, {"k": 3, "aggregator": "d"})
    answer = await council.compose(asked(stream=True), where.voices, where.emit)
    assert answer.expert == "a"
    assert [attempt.expert for attempt in where.run.attempts if attempt.role == "aggregator"] == ["d", "a"]
    assert where.run.notes["aggregator_failed"]


async def test_several_layers_read_the_layer_before() -> None:
    council, where = seated("council", THREE, {"layers": 3})
    await council.compose(asked(), where.voices, where.emit)
    assert roles(where) == ["seat"] * 3 + ["seat of layer 2"] * 3 + ["seat of layer 3"] * 3 + ["aggregator"]


async def test_a_layer_that_agrees_ends_the_layers() -> None:
    said = {"replies": [{"match": "Several experts", "text": "The answer is 5."}]}
    council, where = seated("council", {name: {**script, **said} for name, script in THREE.items()}, {"layers": 3})
    answer = await council.compose(asked(), where.voices, where.emit)
    assert roles(where) == ["seat"] * 3 + ["seat of layer 2"] * 3
    assert answer.text == "The answer is 5."


async def test_a_quorum_is_made_up_from_spares() -> None:
    scripts = {**THREE, "b": {"fail": {"at": "status"}}, "d": {"text": "The answer is 7."}}
    council, where = seated("council", scripts, {"k": 3, "quorum": 3})
    await council.compose(asked(), where.voices, where.emit)
    assert where.run.notes["answered"] == 3
    assert roles(where)[:4] == ["seat", "seat", "seat", "spare"]


async def test_without_a_quorum_the_request_fails_and_says_why() -> None:
    scripts = {**THREE, "b": {"fail": {"at": "status"}}, "c": {"fail": {"at": "connect"}}}
    council, where = seated("council", scripts, {"quorum": 2})
    with pytest.raises(AllFailed, match=r"1 of 3 seats answered, and the quorum is 2: .*b.*c") as caught:
        await council.compose(asked(stream=True), where.voices, where.emit)
    assert {cause.expert for cause in caught.value.causes} == {"b", "c"}
    assert not where.said


async def test_fewer_experts_than_seats_sit_again_and_sample() -> None:
    council, where = seated("council", {"a": {"text": "4"}}, {"k": 3})
    await council.compose(asked(temperature=0), where.voices, where.emit)
    assert where.experts["a"].calls == 3
    last = where.experts["a"].last
    assert last is not None
    assert orjson.loads(bytes(last.fields["temperature"])) == 0.7


async def test_the_first_text_comes_while_the_aggregator_still_speaks() -> None:
    council, where = seated("council", THREE)
    known_at_first: list[int] = []

    async def emit(delta: Delta) -> None:
        known_at_first.append(len(where.run.attempts))
        await where.emit(delta)

    await council.compose(asked(stream=True), where.voices, emit)
    assert known_at_first[0] == 3  # the seats have ended, the aggregator has not
    assert len(known_at_first) > 2
    assert where.text == "The answer is 4."


async def test_log_probabilities_are_those_of_the_answer_that_is_given() -> None:
    alike = {name: {"text": "four it is"} for name in "abc"}
    for scripts in (alike, THREE):
        council, where = seated("council", scripts)
        answer = await council.compose(asked(logprobs=True), where.voices, where.emit)
        assert answer.text in [script["text"] for script in scripts.values()]
        for expert in where.experts.values():
            assert expert.last is not None
            assert orjson.loads(bytes(expert.last.fields["logprobs"])) is True


# race


async def test_a_race_takes_the_first_good_answer_and_cancels_the_rest() -> None:
    scripts = {"a": {"text": "slow", "delay_s": 60.0}, "b": {"text": ""}, "c": {"text": "good", "delay_s": 0.01}}
    race, where = seated("race", scripts, {"k": 3})
    answer = await race.compose(asked(), where.voices, where.emit)
    assert answer.expert == "c"
    assert where.experts["a"].cancelled == 1
    assert {attempt.expert for attempt in where.run.attempts} == {"a", "b", "c"}


async def test_a_race_for_structured_output_is_won_by_a_valid_answer() -> None:
    form = {"type": "json_object"}
    race, where = seated("race", {"a": {"text": "not JSON"}, "b": {"text": '{"x": 1}', "delay_s": 0.01}})
    answer = await race.compose(asked(response_format=form), where.voices, where.emit)
    assert answer.text == '{"x": 1}'


# single under a budget


async def test_a_budget_that_ends_after_a_failure_tells_the_failure() -> None:
    single, where = seated("single", {**THREE, "a": {"fail": {"at": "status"}}}, allowance=Allowance(calls=1))
    with pytest.raises(Exception, match="expert a"):
        await single.compose(asked(), where.voices, where.emit)


# the bill


async def test_the_bill_is_the_sum_over_every_call() -> None:
    """What broke off too: under a budget every call is counted while it speaks."""
    council, where = seated("council", {**THREE, "b": {"text": "The answer", "fail": {"at": "mid_stream"}}},
                            allowance=Allowance(calls=9))  # fmt: skip
    await council.compose(asked(), where.voices, where.emit)
    run, price = where.run, Price(1.0, 2.0)
    assert run.usage.completion_tokens == sum(attempt.usage.completion_tokens for attempt in run.attempts)
    said = sum(expert.tokens for expert in where.experts.values())
    assert run.usage.completion_tokens == said
    assert run.cost_usd == pytest.approx(price.of(run.usage))
    assert len(run.attempts) == where.voices.budget.calls == 4


def test_a_policy_s_seats_stand_even_where_they_repeat() -> None:
    plan = planned(["a", "b", "c"], "council")
    twice = replace(plan, seats=(plan.seats[0], plan.seats[0], plan.seats[0]._replace(expert="c")))
    found = open_composer("council", {"k": 5}).seated(twice)
    assert [seat.expert for seat in found.seats] == ["a", "a", "c"]
