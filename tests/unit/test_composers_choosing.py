"""`best-of` and `cascade`: one of several answers is given, by what speaks for it."""

from __future__ import annotations

import pytest

from experts.errors import ConfigError
from router.budget import Allowance
from router.composers import open_composer
from router.worth import Composing, Scorer
from tests.scripted_voices import THREE, asked, roles, seated

# best-of


@pytest.mark.parametrize(("verdict", "winner"), [("1", "a"), ("2", "a"), ("3", "a")])
async def test_a_judge_that_likes_a_place_decides_nothing(verdict: str, winner: str) -> None:
    """Whatever place it always names, both orders cancel out, and the highest expected quality among them wins."""
    judge = {"text": verdict}
    best, where = seated("best-of", {**THREE, "judge": judge}, {"judge": "judge"})
    answer = await best.compose(asked(), where.voices, where.emit)
    votes = where.run.notes["votes"]
    assert sum(votes) == 2
    assert max(votes) == 1 or verdict == "2"  # the middle place is the same candidate in both orders
    if max(votes) == 1:
        assert answer.expert == min(name for name, vote in zip("abc", votes, strict=True) if vote)


async def test_a_judge_that_knows_is_followed() -> None:
    replies = [{"match": rf"\[{place}\]\nThe answer is 6", "text": str(place)} for place in (1, 2, 3)]
    best, where = seated("best-of", {**THREE, "judge": {"replies": replies, "text": "?"}}, {"judge": "judge"})
    answer = await best.compose(asked(), where.voices, where.emit)
    assert answer.expert == "c"


async def test_the_highest_rating_wins_and_what_is_no_rating_costs_its_candidate_alone() -> None:
    rated = {"4": "-0.5", "5": "0.25", "6": "1e-3"}
    replies = [{"match": f"answer is {number}", "text": value} for number, value in rated.items()]
    best, where = seated("best-of", {**THREE, "reward": {"replies": replies}}, {"reward": "reward"})
    assert (await best.compose(asked(), where.voices, where.emit)).expert == "b"
    assert where.run.notes["ratings"] == [["a", -0.5], ["b", 0.25], ["c", 0.001]]
    broken = [*replies[:1], {"match": "answer is 5", "text": "nan"}, *replies[2:]]
    best, where = seated("best-of", {**THREE, "reward": {"replies": broken}}, {"reward": "reward"})
    assert (await best.compose(asked(), where.voices, where.emit)).expert == "c"
    assert where.run.notes["ratings"] == [["a", -0.5], ["b", None], ["c", 0.001]]


async def test_one_rating_alone_decides_nothing() -> None:
    """Candidates that ramble leave tokens for the rating of one: it has nothing to be compared with."""
    long = {
        name: {"text": f"The answer is {number}. " + "so " * 400} for name, number in zip("abc", (4, 5, 6), strict=True)
    }
    reward = {"replies": [{"match": "answer is 4", "text": "-9"}], "text": "9"}
    for tokens in (260, 420, 900):
        best, where = seated("best-of", {**long, "reward": reward}, {"reward": "reward"},
                             allowance=Allowance(tokens=tokens))  # fmt: skip
        answer = await best.compose(asked(), where.voices, where.emit)
        known = [rating for _, rating in where.run.notes["ratings"] if rating is not None]
        assert answer.expert == "a" if len(known) < 2 else answer.expert != "a"
        assert where.voices.budget.tokens <= tokens


@pytest.mark.parametrize(("calls", "asked_first"), [(2, 1), (4, 2), (5, 2), (6, 3)])
async def test_candidates_leave_calls_for_their_ratings(calls: int, asked_first: int) -> None:
    best, where = seated("best-of", {**THREE, "reward": {"text": "1.0"}}, {"reward": "reward"},
                         allowance=Allowance(calls=calls))  # fmt: skip
    await best.compose(asked(), where.voices, where.emit)
    roles = [attempt.role.split()[0] for attempt in where.run.attempts]
    assert roles.count("seat") == asked_first
    assert roles.count("reward") == (asked_first if asked_first > 1 else 0)


async def test_without_a_judge_the_highest_expected_quality_wins_among_the_sound() -> None:
    broken = "```python\ndef f(:\n```"
    best, where = seated("best-of", {**THREE, "a": {"text": broken}})
    assert (await best.compose(asked(), where.voices, where.emit)).expert == "b"


# cascade


async def test_a_cascade_asks_the_cheapest_and_stops_when_it_will_do() -> None:
    cascade, where = seated("cascade", THREE)
    answer = await cascade.compose(asked(), where.voices, where.emit)
    assert answer.expert == "a"
    assert roles(where) == ["seat"]


@pytest.mark.parametrize(
    ("first", "why"),
    [("", "failed"), ("```python\ndef f(:\n```", "does not parse")],
)
async def test_a_cascade_escalates_from_a_weak_answer(first: str, why: str) -> None:
    cascade, where = seated("cascade", {**THREE, "a": {"text": first}})
    answer = await cascade.compose(asked(), where.voices, where.emit)
    assert answer.expert == "b"
    assert why in where.run.notes["steps"][0]["weak"]


async def test_a_cascade_escalates_where_two_samples_disagree() -> None:
    cascade, where = seated("cascade", {**THREE, "a": {"template": "The answer is {n}."}}, {"samples": 2})
    answer = await cascade.compose(asked(), where.voices, where.emit)
    assert answer.expert == "b"
    assert where.run.notes["steps"][0]["weak"] == "its samples disagree"


async def test_a_cascade_with_a_scorer_escalates_below_its_threshold() -> None:
    cascade, where = seated("cascade", THREE, {"weights": {"bias": -2.0, "prior": 2.5}, "threshold": 0.55})
    answer = await cascade.compose(asked(), where.voices, where.emit)
    assert answer.expert == "a"
    cascade, where = seated("cascade", THREE, {"weights": {"bias": -3.0, "prior": 2.5}, "threshold": 0.55})
    assert (await cascade.compose(asked(), where.voices, where.emit)).expert == "c"


async def test_a_cascade_escalates_from_a_program_that_fails_the_questions_own_test() -> None:
    question = "Write a Python function that doubles a number.\nassert double(2) == 4\nassert double(3) == 6"
    wrong, right = ("```python\ndef double(n):\n    return n" + more + "\n```" for more in (" + 2", " * 2"))
    cascade, where = seated("cascade", {"a": {"text": wrong}, "b": {"text": right}, "c": {"text": "?"}})
    answer = await cascade.compose(asked(question), where.voices, where.emit)
    assert answer.expert == "b"
    assert [step["weak"] for step in where.run.notes["steps"]] == ["its program stands 1 of 2 given tests", ""]


async def test_a_cascade_goes_on_as_often_as_its_cost_allows() -> None:
    judge = Scorer({"bias": -2.0, "prior": 2.5}, 0.3, 0.9, 0.1, ((0.3, 0.2, 0.6), (0.55, 0.4, 0.7), (0.9, 1.4, 0.8)))
    assert [judge.at_cost(share) for share in (0.1, 0.4, 1.0, 2.0)] == [0.3, 0.55, 0.55, 0.9]
    for options, expert in (({}, "a"), ({"cost": 0.5}, "a"), ({"cost": 1.5}, "c")):
        cascade, where = seated("cascade", THREE, options, composing=Composing(cascade=judge))
        assert (await cascade.compose(asked(), where.voices, where.emit)).expert == expert
    for other in ({"samples": 2}, {"threshold": 0.4}):
        with pytest.raises(ConfigError, match="leave out weights"):
            open_composer("cascade", {"cost": 0.5, **other})
    with pytest.raises(ConfigError, match="not both"):
        open_composer("best-of", {"judge": "a", "reward": "b"})
    for unfitted in (None, Scorer({"bias": 9.0}, 0.3, 0.9, 0.1)):
        cascade, where = seated("cascade", THREE, {"cost": 0.5}, composing=Composing(cascade=unfitted))
        await cascade.compose(asked(), where.voices, where.emit)
        assert where.run.notes["cost"].startswith("unheeded")


@pytest.mark.parametrize("answer", [
    "It fails because total is given a list, and the sum of 1 and 2 is 3.",
    "```python\nimport notthere\n\ndef total(them):\n    return notthere.sum(them)\n```",
    "```python\ndef sum_of(them):\n    return sum(them)\n```",
])  # fmt: skip
async def test_a_cascade_runs_only_programs_and_blames_none_for_what_is_not_there(answer: str) -> None:
    question = "Why does this fail?\nassert total([1, 2]) == 4"
    cascade, where = seated("cascade", {"a": {"text": answer}, "b": {"text": "b"}})
    assert (await cascade.compose(asked(question), where.voices, where.emit)).expert == "a"


async def test_a_cascade_runs_nothing_where_it_may_not_or_where_nothing_could_follow() -> None:
    question = "Write a Python function that doubles a number.\nassert double(2) == 5"
    wrong = {"a": {"text": "```python\ndef double(n):\n    return n * 2\n```"}, "b": {"text": "b"}}
    cascade, where = seated("cascade", wrong, {"tests": False})
    assert (await cascade.compose(asked(question), where.voices, where.emit)).expert == "a"
    cascade, where = seated("cascade", wrong, allowance=Allowance(calls=1))
    await cascade.compose(asked(question), where.voices, where.emit)
    assert [step["weak"] for step in where.run.notes["steps"]] == [""]
