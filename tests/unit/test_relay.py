"""The relay over scripted experts: who speaks when, and that drafting changes nothing."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from math import log
from typing import Any

import orjson
import pytest

from experts.errors import BadRequest, BudgetSpent, ConfigError, ExpertBroke
from experts.kinds.scripted import ScriptedExpert
from experts.language import Answer, Card, Query
from experts.protocols import Said
from router.budget import Allowance
from router.composers import open_composer
from router.composers.relay import Relay
from router.relay.pace import Pace
from router.relay.rule import Draw, evenness, pick, shares, top1
from router.relay.threshold import Row, fit, read_rows
from tests.scripted_voices import Room, asked, planned, room


async def relayed(
    scripts: Mapping[str, Mapping[str, Any]], options: Mapping[str, Any] | None = None, *,
    allowance: Allowance | None = None, **fields: Any,
) -> tuple[Answer, Room]:  # fmt: skip
    composer = open_composer("relay", {"k": len(scripts), **(options or {})})
    limits = {"allowance": allowance} if allowance else {}
    where = room(scripts, plan=composer.seated(planned(list(scripts), "relay")), **limits)
    return await composer.compose(asked(**fields), where.voices, where.emit), where


def spoken(where: Room, text: str) -> list[tuple[str, str]]:
    return [(span.expert, text[span.start : span.end]) for span in where.run.spans.found]


def test_the_rule_is_a_product_of_experts() -> None:
    one, other = {1: log(0.6), 2: log(0.4)}, {2: log(0.9), 3: log(0.1)}
    assert pick([one, other], [0.5, 0.5], 0) == (2, 1)
    assert pick([one, other], [0.999, 0.001], 0) == (1, 0)
    assert pick([{5: -1.0, 4: -1.0}], [1.0], 0).token == 4  # ties: the lower id
    assert shares([0.9, 0.3]) == pytest.approx([0.75, 0.25])
    assert top1(one) == pytest.approx(0.6)
    assert evenness({1: 0.0}) == pytest.approx(1.0)
    assert evenness({1: log(0.5)}) == pytest.approx(0.5)


def test_tokens_are_drawn_as_often_as_the_rule_gives_them() -> None:
    row = {1: log(0.7), 2: log(0.3)}
    drawn = [pick([row], [1.0], place, Draw(1.0, 7)).token for place in range(2000)]
    assert drawn.count(1) / 2000 == pytest.approx(0.7, abs=0.04)


async def test_a_sure_primary_speaks_alone_and_nobody_else_is_asked() -> None:
    answer, where = await relayed({"a": {"text": "one two three"}, "b": {"text": "un deux trois"}})
    assert answer.text == "one two three"
    assert where.experts["b"].calls == 0
    assert where.run.notes["hand_overs"] == 0
    assert spoken(where, answer.text) == [("a", "one two three")]


async def test_an_unsure_primary_hands_over_and_goes_on_afterwards() -> None:
    scripts = {"a": {"text": "one two three four", "unsure": {"two": 0.2}}, "b": {"text": "un deux trois quatre"}}
    answer, where = await relayed(scripts, {"stretch": 2})
    assert answer.text == "one deux trois four"
    assert spoken(where, answer.text) == [("a", "one "), ("b", "deux trois "), ("a", "four")]
    assert where.run.notes["least_confidence"] == pytest.approx(0.2)
    assert [(attempt.expert, attempt.role) for attempt in where.run.attempts] == [("b", "seat"), ("a", "primary")]


async def test_where_nobody_is_surer_the_primary_goes_on() -> None:
    answer, where = await relayed({
        "a": {"text": "one two three", "unsure": {"two": 0.4}}, "b": {"text": "un deux trois", "unsure": {"deux": 0.3}},
    })  # fmt: skip
    assert answer.text == "one two three"
    assert (where.run.notes["doubts"], where.run.notes["hand_overs"]) == (1, 0)


async def test_hand_overs_end() -> None:
    scripts = {"a": {"text": "w " * 50, "unsure": {"w": 0.2}}, "b": {"text": "v " * 50}}
    answer, where = await relayed(scripts, {"stretch": 1, "hand_overs": 3})
    assert where.run.notes["hand_overs"] == 3
    assert answer.text.count("v") == 3
    assert answer.finish == "stop"


async def test_different_tokenizers_hand_over_where_a_word_ends_and_say_so() -> None:
    scripts = {"a": {"text": "one two three", "unsure": {"two": 0.2}}, "b": {"text": "un deux trois", "tokenizer": "x"}}
    answer, where = await relayed(scripts, {"stretch": 1})
    assert answer.text == "one deux three"
    assert "tokenizers differ" in where.run.notes["boundaries"]


@pytest.mark.parametrize("mode", ["token", "verify"])
async def test_one_rule_refuses_different_tokenizers_by_name(mode: str) -> None:
    with pytest.raises(BadRequest, match=r"a and b .* `mode: span`"):
        await relayed({"a": {}, "b": {"tokenizer": "x"}}, {"mode": mode})
    composer = open_composer("relay", {"mode": mode})
    assert isinstance(composer, Relay)
    with pytest.raises(ConfigError, match="a and c"):
        composer.check([Card("a", tokenizer="x"), Card("b"), Card("c", tokenizer="y")])


WORDS = ("red", "green", "blue", "grey")


def scripts_of(seed: int) -> dict[str, dict[str, Any]]:
    draw = random.Random(seed)
    texts = [" ".join(draw.choice(WORDS) for _ in range(draw.randrange(1, 30))) for _ in range(3)]
    unsure = [{word: draw.choice([0.3, 0.5, 0.9]) for word in WORDS} for _ in range(3)]
    return {name: {"text": text, "unsure": sure} for name, text, sure in zip("abc", texts, unsure, strict=True)}


@pytest.mark.parametrize("temperature", [0, 0.8])
async def test_verify_writes_what_token_writes(temperature: float) -> None:
    """Text, and who spoke what; greedily, and drawn with one seed."""
    for seed in range(40):
        fields = {"temperature": temperature, "seed": seed, "max_tokens": 25}
        plain, one = await relayed(scripts_of(seed), {"mode": "token"}, **fields)
        drafted, other = await relayed(scripts_of(seed), {"mode": "verify", "draft": 8}, **fields)
        assert (drafted.text, drafted.finish) == (plain.text, plain.finish), seed
        assert spoken(other, drafted.text) == spoken(one, plain.text)
        assert other.run.notes["rounds"] <= one.run.notes["rounds"]


async def test_drafts_that_are_not_kept_leave_room_for_the_answer() -> None:
    """The first seat drafts, and is overruled at its first word; what it went on to say counts, and is little."""
    scripts = {"a": {"text": "one " + "two " * 99, "unsure": {"one": 0.4}}, "b": {"text": "uno " + "two " * 99}}
    fields: dict[str, Any] = {"temperature": 0, "max_tokens": 100}
    plain, one = await relayed(scripts, {"mode": "token"}, **fields)
    answer, _ = await relayed(scripts, {"mode": "verify"}, allowance=Allowance(tokens=300), **fields)
    assert len(answer.text.split()) >= 90
    assert plain.text.startswith(answer.text)
    free, other = await relayed(scripts, {"mode": "verify"}, **fields)
    assert free.text == plain.text
    billed = [sum(attempt.usage.completion_tokens for attempt in where.run.attempts) for where in (one, other)]
    assert billed[1] <= billed[0] + 32


async def test_a_drafter_that_breaks_off_leaves_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    same = "word " * 40
    begin = ScriptedExpert.by_token

    async def by_token(self: ScriptedExpert, query: Query) -> Any:
        call: Any = await begin(self, query)
        if self.name != "a":
            return call
        whole = call.continued

        async def cut(answer: Any, **how: Any) -> AsyncGenerator[Said]:
            async with aclosing(whole(answer, **how)) as said:
                for _ in range(3):
                    yield await anext(said)
                raise ExpertBroke("a broke off", expert="a")

        call.continued = cut
        return call

    monkeypatch.setattr(ScriptedExpert, "by_token", by_token)
    answer, where = await relayed({name: {"text": same} for name in "abc"}, {"mode": "verify"}, temperature=0)
    assert answer.text == same
    assert where.run.notes["left"] == "a: a broke off"


async def test_a_draft_that_all_agree_on_takes_few_rounds() -> None:
    same = {"text": "word " * 60}
    answer, where = await relayed({"a": same, "b": same}, {"mode": "verify"}, temperature=0)
    assert answer.text == "word " * 60
    assert where.run.notes["accepted"] == 1.0
    assert where.run.notes["rounds"] <= 4


def test_drafts_grow_while_that_pays_and_shrink_to_what_is_kept() -> None:
    pace = Pace(32)
    length, lengths = pace.first(), list[int]()
    for _ in range(5):
        lengths.append(length)
        pace.took(length, 1.0, length)  # a draft of any length takes as long
        length = pace.following(length, length, length)
    assert lengths == [8, 16, 32, 32, 32]
    assert [pace.following(32, 32, kept) for kept in (0, 1, 3, 5, 20)] == [2, 2, 4, 8, 32]


def test_a_length_that_was_slower_is_left_out_and_tried_again_later() -> None:
    pace = Pace(32)
    pace.took(8, 0.8, 8)
    pace.took(16, 4.0, 16)  # judging 16 takes more than twice as long as judging 8
    found = [pace.following(8, 8, 8) for _ in range(80)]
    assert found[:5] == [8] * 5
    assert 16 in found
    pace.took(16, 1.0, 16)
    assert pace.first() == 8


@pytest.mark.parametrize("mode", ["span", "token", "verify"])
async def test_stop_and_max_tokens_hold_for_the_answer_as_a_whole(mode: str) -> None:
    scripts = {"a": {"text": "one two three four"}, "b": {"text": "one two three four"}}
    stopped, where = await relayed(scripts, {"mode": mode}, temperature=0, stop=["o th", "nothing"], stream=True)
    assert where.text == stopped.text == "one tw"
    assert stopped.finish == "stop"
    short, _ = await relayed(scripts, {"mode": mode}, temperature=0, max_tokens=2)
    assert (short.text, short.finish) == ("one two ", "length")


@pytest.mark.parametrize(
    ("fields", "mode", "why"),
    [({"logprobs": True}, "span", "log-prob"), ({"top_p": 0.5}, "verify", "top_p"), ({"n": 2}, "span", "one answer"),
     ({"presence_penalty": 1.0}, "span", "presence_penalty")],
)  # fmt: skip
async def test_what_one_expert_must_do_falls_to_single(fields: dict[str, Any], mode: str, why: str) -> None:
    answer, where = await relayed({"a": {}, "b": {}}, {"mode": mode}, **fields)
    assert answer.text == "I am a."
    assert why in where.run.notes["single_because"]


@pytest.mark.parametrize("mode", ["span", "token", "verify"])
async def test_the_budget_cuts_the_answer(mode: str) -> None:
    same = {"text": "word " * 500}
    answer, where = await relayed({"a": same, "b": same}, {"mode": mode}, allowance=Allowance(tokens=120))
    assert answer.finish == "length"
    assert answer.text.startswith("word word")
    assert where.voices.budget.tokens <= 120
    assert where.voices.budget.ended == "tokens"
    with pytest.raises(BudgetSpent):
        await relayed({"a": same, "b": same}, {"mode": mode}, allowance=Allowance(tokens=5))


async def test_a_new_speaker_is_told_before_the_words() -> None:
    scripts = {"a": {"text": "one two", "unsure": {"two": 0.2}}, "b": {"text": "un deux"}}
    _, where = await relayed(scripts, stream=True)
    told = [(one["expert"], one["start"]) for one in where.aside if one["event"] == "speaking"]
    assert told == [("a", 0), ("b", 4)]
    assert where.text == "one deux"


def test_a_threshold_is_fitted_only_where_handing_over_pays() -> None:
    good = [Row(0.3, 0.0, 1.0)] * 40 + [Row(0.9, 1.0, 0.0)] * 60
    found = fit(good)
    assert 0.3 < found.threshold < 0.9
    assert (found.score, found.alone, found.handed) == pytest.approx((1.0, 0.6, 0.4))
    assert fit([Row(0.3, 1.0, 1.0), Row(0.8, 0.0, 0.0)]).threshold == 0.0
    with pytest.raises(ConfigError, match="f:2"):
        read_rows([orjson.dumps({"confidence": 1, "primary": 1, "other": 0}).decode(), '{"confidence": 1}'], "f")
