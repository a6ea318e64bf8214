"""The composer `vote`: whom it asks, when it stops, whose text it gives, and what it tells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from experts.errors import AllFailed, ConfigError
from router.budget import Allowance
from router.composers import open_composer
from router.plan import Estimates
from router.policies import open_policy
from router.protocols import Passages, Situation
from router.voting import Kind, Voting
from router.worth import Composing, Scorer
from tests.scripted_voices import Room, asked, planned, room

QUESTION = "How many legs do 2 dogs have?"
EIGHT, NINE = {"text": "Two dogs, so 8."}, {"text": "I count 9."}


async def voted(
    scripts: Mapping[str, Mapping[str, Any]], *, question: str = QUESTION, allowance: Allowance | None = None,
    composing: Composing | None = None, stream: bool = False, **options: Any,
) -> tuple[Any, Room]:  # fmt: skip
    composer = open_composer("vote", options)
    more: dict[str, Any] = {} if composing is None else {"composing": composing}
    if allowance is not None:
        more["allowance"] = allowance
    where = room(scripts, plan=composer.seated(planned(list(scripts), "vote")), **more)
    return await composer.compose(asked(question, stream=stream), where.voices, where.emit), where


def calls(where: Room) -> int:
    return sum(expert.calls for expert in where.experts.values())


async def test_the_majority_s_full_text_is_given_and_the_agreement_told() -> None:
    answer, where = await voted({"a": NINE, "b": EIGHT, "c": EIGHT}, sequential=False, k=3)
    assert answer.text == EIGHT["text"]
    assert answer.expert == "b"  # of those who agree, the one expected to do better
    notes = where.run.notes
    assert (notes["kind"], notes["agreement"], notes["answered"]) == ("number", pytest.approx(2 / 3, abs=1e-3), 3)
    assert [(vote["expert"], vote["answer"]) for vote in notes["votes"] if vote["expert"] == "a"] == [("a", "9")]


async def test_it_stops_when_the_others_cannot_change_it() -> None:
    answer, where = await voted(dict.fromkeys("abcde", EIGHT), threshold=1.0)
    assert (answer.text, calls(where)) == (EIGHT["text"], 2)
    assert where.run.notes["stopped"] == "the others could not change it"


async def test_it_stops_when_the_leader_is_sure_enough() -> None:
    _, where = await voted(dict.fromkeys("abcde", EIGHT), threshold=0.9, first=1)
    assert calls(where) == 1
    assert where.run.notes["stopped"] == "P(right) reached 0.9"


async def test_disagreement_is_settled_by_more_voices() -> None:
    answer, where = await voted({"a": NINE, "b": EIGHT, "c": EIGHT, "d": EIGHT, "e": NINE}, threshold=0.95)
    assert answer.text == EIGHT["text"]
    assert calls(where) > 2


async def test_as_many_are_asked_at_once_as_must_answer_before_it_can_be_settled() -> None:
    """Two who disagree: one more of five cannot settle it, two can."""
    ten = {"text": "10"}
    _, where = await voted({"a": NINE, "b": EIGHT, "c": EIGHT, "d": EIGHT, "e": NINE}, threshold=1.0)
    assert (calls(where), where.run.notes["rounds"]) == (4, 2)
    _, where = await voted({"a": NINE, "b": EIGHT, "c": ten, "d": EIGHT, "e": EIGHT}, threshold=1.0)
    assert (calls(where), where.run.notes["rounds"]) == (5, 3)
    _, where = await voted({"a": NINE, "b": EIGHT, "c": ten, "d": EIGHT, "e": EIGHT}, threshold=1.0, wave=1)
    assert (calls(where), where.run.notes["rounds"]) == (5, 4)


async def test_under_a_budget_of_tokens_each_call_may_have_all_that_is_left() -> None:
    """Two at once would have to share it, and be cut short before their answers."""
    long = {
        name: {"text": f"{'well ' * 16}it is {number}"} for name, number in zip("abcde", (0, 1, 2, 1, 1), strict=True)
    }
    answer, where = await voted(long, allowance=Allowance(tokens=140), threshold=1.0)
    assert [vote["answer"] for vote in where.run.notes["votes"]][:4] == ["0", "1", "2", "1"]
    assert answer.text.endswith("it is 1")
    assert where.run.notes["rounds"] == calls(where) - 1


async def test_a_program_that_fails_its_tests_is_followed_by_one_call_at_a_time() -> None:
    """The next one may stand them, and then the first does not count."""
    question = "Write double(n).\nassert double(2) == 4"
    wrong, right = {"text": "def double(n): return n"}, {"text": "def double(n): return n * 2"}
    answer, where = await voted({"a": wrong, "b": right, "c": right, "d": right, "e": right}, question=question,
                                threshold=1.0, first=1)  # fmt: skip
    assert "n * 2" in answer.text
    assert where.run.notes["rounds"] == calls(where)


async def test_fitted_weights_are_used() -> None:
    trusted = Kind(offsets={"a": 2.0, "b": -2.0, "c": -2.0})
    answer, _ = await voted({"a": NINE, "b": EIGHT, "c": EIGHT}, composing=Composing(Voting({"number": trusted})),
                            sequential=False)  # fmt: skip
    assert answer.text == NINE["text"]


async def test_a_stream_gets_the_winner_as_chunks() -> None:
    answer, where = await voted({"a": NINE, "b": EIGHT, "c": EIGHT}, stream=True)
    assert where.text == EIGHT["text"] == answer.text


async def test_an_essay_is_not_voted_on() -> None:
    answer, where = await voted({"a": {"text": "Once."}, "b": {"text": "Twice."}}, question="Tell me a story.")
    assert (answer.text, calls(where)) == ("Once.", 1)
    assert "cannot be compared" in where.run.notes["single_because"]


async def test_programs_that_fail_the_stated_tests_do_not_count() -> None:
    question = "Write a function that doubles.\nassert double(2) == 4\nassert double(5) == 10"
    wrong, right = (
        "```python\ndef double(x):\n    return x + 2\n```",
        "```python\ndef double(x):\n    return 2 * x\n```",
    )
    answer, _ = await voted({"a": {"text": wrong}, "b": {"text": wrong}, "c": {"text": right}}, question=question,
                            sequential=False)  # fmt: skip
    assert answer.text == right


async def test_what_there_is_when_the_budget_is_spent_is_counted() -> None:
    answer, where = await voted({"a": NINE, "b": EIGHT, "c": EIGHT}, allowance=Allowance(calls=2))
    assert calls(where) == 2
    assert answer.text in (NINE["text"], EIGHT["text"])


async def test_a_quorum_is_asked_of_spares_and_then_an_error() -> None:
    failing = {"fail": {"at": "status"}}
    with pytest.raises(AllFailed, match="the quorum is 2"):
        await voted({"a": EIGHT, "b": failing, "c": failing}, quorum=2, k=3)


def test_an_unknown_extractor_is_refused() -> None:
    with pytest.raises(ConfigError, match="extractor"):
        open_composer("vote", {"extractor": "entrails"})
    assert open_composer("vote", {"extractor": {"name": "boxed", "seconds": 1}})


def decided(
    quality: list[float], text: str, allowance: Allowance | None = None, passages: Passages | None = None,
    composing: Composing | None = None, prompt: Any = None, **options: Any,
) -> Any:  # fmt: skip
    names = tuple("abcde"[: len(quality)])
    level = np.array([quality], np.float32)
    estimates = Estimates(names, level, level * 0 + 0.05, level * 0 + 100, level * 0 + 1, default=0)
    state = Situation(level * 0 + 1e-4, level[0] * 0, np.ones(level.shape, bool), allowance or Allowance(), (text,),
                      composing or Composing(), passages, level * 0 + 150, prompt)  # fmt: skip
    return open_policy("worth", options).decide(estimates, state)[0]


def test_worth_votes_where_it_pays_and_where_answers_can_be_compared() -> None:
    even = [0.6] * 5
    chosen = decided(even, QUESTION)
    assert chosen.composer == "vote"
    assert "is expected at" in chosen.reason
    assert {one.composer for one in chosen.alternatives} == {"vote"}
    assert all(one.gain > one.worth for one in chosen.alternatives)
    assert decided(even, "Tell me a story.").composer == "single"
    assert decided([0.98, 0.4, 0.4], QUESTION).composer == "single"
    assert decided(even, QUESTION, price=0.5).composer == "single"


def test_worth_keeps_to_the_budget() -> None:
    assert decided([0.6] * 5, QUESTION, Allowance(calls=2)).composer == "single"
    assert len(decided([0.6] * 5, QUESTION, Allowance(calls=3)).seats) == 3
    assert decided([0.6] * 5, QUESTION, Allowance(usd=1e-4)).composer == "single"
    assert decided([0.6] * 5, QUESTION, Allowance(tokens=299)).composer == "single"
    few = decided([0.6] * 5, QUESTION, Allowance(tokens=500))
    assert few.composer == "vote"
    assert max(one.calls for one in few.alternatives) * 150 <= 500


def test_worth_weighs_councils_of_every_size_that_fits() -> None:
    even, story = [0.6] * 5, "Tell me a story."
    able = Composing(abilities={"b": 0.95})
    chosen = decided(even, story, composing=able)
    assert {(one.composer, len(one.seats), one.calls) for one in chosen.alternatives} == {
        ("council", 3, 4), ("council", 4, 5), ("council", 5, 6)
    }  # fmt: skip
    assert chosen.composer == "council"
    assert decided(even, story, composing=Composing(abilities={"b": 0.3})).composer == "single"
    assert decided(even, story, Allowance(calls=2), composing=able).composer == "single"
    few = decided(even, story, Allowance(calls=5), composing=able).alternatives
    assert {len(one.seats) for one in few} == {3, 4}
    assert decided(even, story, Allowance(tokens=600), composing=able).composer == "single"
    assert not decided([0.6] * 2, story, composing=able).alternatives
    assert not decided(even, story, Allowance(calls=3), composing=able).alternatives


def test_an_aggregator_is_expected_to_read_every_answer() -> None:
    even, story, able = [0.6] * 5, "Tell me a story.", Composing(abilities={"b": 0.95})
    prompt = np.array([50.0], np.float32)
    for k, tokens in ((3, 3 * 150 + 50 + 3 * 100 + 100), (5, 5 * 150 + 50 + 5 * 100 + 100)):
        for budget, fits in ((tokens, True), (tokens - 1, False)):
            found = decided(even, story, Allowance(tokens=budget), composing=able, prompt=prompt).alternatives
            assert (k in {len(one.seats) for one in found}) is fits, (k, budget)


def test_worth_weighs_a_cascade_where_its_judge_was_fitted() -> None:
    names, level = ("cheap", "dear"), np.array([[0.7, 0.8]], np.float32)
    estimates = Estimates(names, level, level * 0 + 0.05, level * 0 + 100, level * 0 + 1, default=0)

    def choice(judge: Scorer, allowance: Allowance | None = None) -> Any:
        cost, may = np.array([[1e-5, 1e-3]], np.float32), np.ones(level.shape, bool)
        state = Situation(cost, level[0] * 0, may, allowance or Allowance(), ("Tell me a story.",),
                          Composing(cascade=judge), None, level * 0 + 150)  # fmt: skip
        return open_policy("worth", {"preset": "best"}).decide(estimates, state)[0]

    sharp, blunt = Scorer({}, 0.5, 0.98, 0.05), Scorer({}, 0.5, 0.5, 0.5)
    chosen = choice(sharp)
    assert (chosen.composer, chosen.seats) == ("cascade", (0, 1))
    assert chosen.alternatives[0].calls < 1.5
    assert choice(blunt).composer == "single"
    assert choice(sharp, Allowance(calls=1)).composer == "single"


def gaining(gain: float, usd: float = 1e-6) -> Passages:
    return Passages(np.array([gain], np.float32), np.full(5, usd, np.float32), tokens=100)


def test_worth_weighs_passages_with_the_compositions() -> None:
    even, story = [0.6] * 5, "Tell me a story."
    assert decided(even, story).retrieve is None
    looked_up = decided(even, story, passages=gaining(0.2))
    assert (looked_up.composer, looked_up.retrieve) == ("single", True)
    assert "from 0.60 to 0.80" in looked_up.reason
    assert decided(even, story, passages=gaining(0.0)).retrieve is False
    assert decided(even, story, passages=gaining(0.02, usd=1e-3)).retrieve is False
    assert decided(even, story, Allowance(usd=1e-4), passages=gaining(0.2, usd=1e-3)).retrieve is False
    assert decided(even, story, Allowance(tokens=250), passages=gaining(0.2)).retrieve is True
    assert decided(even, story, Allowance(tokens=249), passages=gaining(0.2)).retrieve is False


def test_worth_takes_the_better_of_a_vote_and_passages() -> None:
    even = [0.6] * 5
    voted = decided(even, QUESTION, passages=gaining(0.02))
    assert (voted.composer, voted.retrieve) == ("vote", False)
    assert {one.composer for one in voted.alternatives} == {"vote", "retrieve"}
    assert decided(even, QUESTION, passages=gaining(0.39)).retrieve is True
