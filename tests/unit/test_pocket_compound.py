"""Questions of two skills: deterministic, right by their parts, and held apart."""

import re
from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest

from experts.fusion.naming import ROUTER
from experts.pocket import questions
from experts.pocket.compound import NOVEL, compounds, draw
from experts.pocket.compound_words import ASKED, NOUNS
from experts.pocket.fused import turns
from experts.pocket.lessons import WHOLE, by_itself, company, lesson, one_part, shared
from experts.pocket.made_up import MADE_UP, invented, unheard
from experts.pocket.questions import final_answer
from experts.pocket.skills import geo
from experts.pocket.skills.phrasing import chosen, jostled
from experts.pocket.skills.split import part as split_of
from experts.pocket.vocabulary import CHARACTERS

SPLITS = ("train", "validation", "test")


@pytest.mark.parametrize("split", SPLITS)
def test_compounds_are_deterministic_unique_and_follow_from_their_parts(split: questions.Split) -> None:
    asked = compounds(split, 150, seed=3)
    assert asked == compounds(split, 150, seed=3)
    assert asked[:40] == compounds(split, 40, seed=3)
    assert len({one.prompt for one in asked}) == 150
    for one in asked:
        first, second = one.parts
        assert first.skill != second.skill
        assert all(final_answer(part.worked) == part.answer for part in one.parts)
        posed = second.posed.replace("{1:lower}", first.answer.lower()).replace("{1}", first.answer)
        posed = posed.replace("{1:number}", first.answer.split()[0])
        assert posed == second.prompt, one
        assert one.answer == (second.answer if second.after else f"{first.answer}, {second.answer}")
        assert final_answer(one.worked) == one.answer
        assert "".join(text for _, text in one.glue) == one.worked
        assert one.plan == f"1: {first.posed}\n2: {second.posed}"
        assert set(one.prompt + one.worked + one.plan) <= set(CHARACTERS)
        assert "{" not in one.prompt, one.prompt


def test_the_test_has_wordings_countries_and_combinations_of_its_own() -> None:
    by = {split: compounds(split, 400, seed=1) for split in SPLITS}
    assert not {one.combination for one in by["train"]} & NOVEL
    assert not {one.combination for one in by["validation"]} & NOVEL
    assert 0.4 < sum(one.novel for one in by["test"]) / 400 < 0.6
    geo = {split: {p.posed for one in asked for p in one.parts if p.skill == "geo"} for split, asked in by.items()}
    assert not geo["test"] & geo["train"]
    assert not geo["test"] & geo["validation"]
    assert not {one.prompt for one in by["test"]} & {one.prompt for one in by["train"]}


def test_operands_that_may_change_places_are_in_the_order_of_the_question() -> None:
    rng, seen = Random(2), 0
    for _ in range(1500):
        asked = draw("train", rng)
        for one in asked.parts:
            found = re.fullmatch(r"What is (\d+) [+x] (\d+)\?", one.posed)
            if found and found[1] != found[2] and all(asked.prompt.count(number) == 1 for number in found.groups()):
                seen += 1
                assert asked.prompt.index(found[1]) < asked.prompt.index(found[2])
    assert seen > 100


def test_worn_phrases_keep_their_fields_and_first_word_and_are_not_held_out() -> None:
    rng, changed = Random(4), 0
    for cores in NOUNS.values():
        plain = replace(cores, train=tuple(core for core in cores.train if "[" not in core))
        for _ in range(200):
            said = chosen(plain, "train", rng, worn=1.0)
            assert said not in cores.validation + cores.test
            fields = sorted(re.findall(r"{.}", said))
            known = {(core.split()[0], *sorted(re.findall(r"{.}", core))) for core in plain.train}
            assert (said.split()[0], *fields) in known
            changed += said not in plain.train
            assert chosen(plain, "test", rng, worn=1.0) in cores.test
    assert changed > 150 * len(NOUNS)


def test_a_question_with_an_operation_that_is_made_up_has_a_plan_for_it() -> None:
    rng = Random(6)
    operations: set[str] = set()
    for _ in range(400):
        asked = unheard(rng)
        first, second = asked.parts
        assert [first.skill, second.skill].count(MADE_UP) == 1
        assert all(final_answer(part.worked) == part.answer for part in asked.parts)
        assert asked.answer == (second.answer if second.after else f"{first.answer}, {second.answer}")
        assert set(asked.prompt + asked.worked + asked.plan) <= set(CHARACTERS)
        (made_up,) = (part for part in asked.parts if part.skill == MADE_UP)
        operations |= {part.posed.split()[0] for part in asked.parts if part is not made_up and part.after}
        if not made_up.after:
            assert made_up.posed.split()[2 if made_up.posed.startswith("How") else 3] in asked.prompt
    assert operations >= {"What", "Reverse", "Sort", "How", "Write"}


def test_a_planner_learns_single_questions_too() -> None:
    rng = Random(5)
    plans = [lesson(rng)[1] for _ in range(400)]
    assert 0.15 < plans.count(WHOLE) / 400 < 0.35


def test_an_invented_fact_is_worked_out_as_a_real_one_is() -> None:
    rng = Random(3)
    real = {fact.answer for fact in geo.facts()}
    made_up = 0
    for _ in range(60):
        asked, (start, end) = invented(rng)
        worked = asked.worked
        assert worked[:start].endswith("Answer: ")
        assert end == len(worked) or worked[end] == "\n"
        answers = [line.removeprefix("Answer: ") for line in worked.splitlines() if line.startswith("Answer: ")]
        made_up += not real & set(answers[0].split(", "))
        posed = [line for line in worked.splitlines() if line.startswith("Reverse the word ")]
        if posed and len(answers) == 2:
            word = posed[0].removeprefix("Reverse the word ").removesuffix(".")
            assert (answers[0].lower(), answers[1]) == (word, word[::-1])
        assert worked.endswith(f"Answer: {asked.answer}")
    assert made_up >= 30


def test_who_speaks_where_in_an_answer_of_two_skills() -> None:
    rng, facts = Random(8), 0
    for _ in range(300):
        asked, given = shared(rng)
        facts += len(given)
        assert not asked.novel
        last = 0
        for part, (start, end, skill) in zip(asked.parts, asked.speakers, strict=True):
            assert asked.worked[start:end] == part.worked
            assert skill == part.skill
            assert asked.worked[last:start] == ("\n" if last else "") + part.prompt + "\n"
            last = end
        alone = asked.parts[-1].after or len(asked.parts) == 1
        assert asked.worked[last:] == ("" if alone else f"\nAnswer: {asked.answer}")
        for start, end in given:
            assert any(first <= start < end <= last for first, last, _ in asked.speakers)
    assert facts > 60


@pytest.mark.parametrize("skill", ["calc", "text", "units", "geo"])
def test_an_expert_learns_only_its_own_part_of_an_answer(skill: str) -> None:
    rng, alone, beside, handed_over, posed = Random(5), 0, 0, 0, set[str]()
    for _ in range(500):
        prompt, worked, known, goes_on = company(rng, skill)
        before, own = worked[:known], worked[known:]
        assert own.strip().splitlines()[-1].startswith("Answer: ")
        assert own.count("Answer: ") == 1
        assert set(prompt + worked) <= set(CHARACTERS) | {"\n"}
        if known:
            beside += 1
            assert before.endswith("\n")
            assert not before.rstrip("\n").splitlines()[-1].startswith("Answer: ")
            handed_over += own.endswith("\n")
            posed.add(before.rstrip("\n").splitlines()[-1])
            assert goes_on or not own.endswith("\n")
        else:
            alone += 1
            assert not goes_on
    assert 150 < alone < 250
    assert handed_over > 60
    assert len(posed) > 0.8 * beside
    if skill == "geo":  # facts of every country, whatever split questions of two skills have it in
        capitals = {
            match[1] for one in posed if (match := re.fullmatch(r"What is the capital of (?:the )?(.+)\?", one))
        }
        assert {split_of(f"compound {name}") for name in capitals} == {"train", "validation", "test"}


def test_what_is_asked_about_a_part_has_fields_and_is_not_held_out() -> None:
    rng = Random(8)
    for name, cores in ASKED.items():
        fields = {tuple(sorted(set(re.findall(r"{[ab]}|{w}", core)))) for core in cores.test}
        for _ in range(100):
            said = chosen(replace(cores, bank=""), "train", rng)
            assert tuple(sorted(set(re.findall(r"{[ab]}|{w}", said)))) in fields, (name, said)
            assert said not in cores.validation + cores.test


def test_a_question_that_is_jostled_keeps_what_it_asks_about() -> None:
    rng, changed = Random(6), 0
    for _ in range(300):
        said = jostled("What is the capital of New Zealand and of 27 x 4 in it?", rng)
        assert said.startswith("What ")
        assert all(words in said for words in ("capital", "New Zealand", "27 x 4"))
        changed += said != "What is the capital of New Zealand and of 27 x 4 in it?"
    assert changed > 250
    assert any("\n" in by_itself(rng).prompt for _ in range(60))  # a schema stays as it is


def test_a_question_of_one_part_is_posed_anew_and_ends_with_its_part() -> None:
    rng = Random(5)
    for _ in range(200):
        asked = one_part(rng)
        (part,) = asked.parts
        assert asked.worked == f"{part.prompt}\n{part.worked}"
        assert final_answer(asked.worked) == asked.answer == part.answer


def test_the_router_and_the_experts_take_turns_without_a_gap() -> None:
    rng, seen = Random(9), set[str]()
    for _ in range(300):
        asked, given = shared(rng)
        spans = turns(asked)
        covered = (
            sorted([*[span[:2] for span in spans], *given]) if MADE_UP in [p.skill for p in asked.parts] else spans
        )
        assert covered[0][0] == 0
        assert covered[-1][1] == len(asked.worked)
        assert all(before[1] == after[0] for before, after in pairwise(covered))
        for start, end, name in spans:
            said = asked.worked[start:end]
            seen.add(name)
            if name != ROUTER:
                assert said.rstrip("\n") in [part.worked for part in asked.parts if part.skill == name]
                assert said.endswith("\n") or end == len(asked.worked)
    assert seen == {ROUTER, "calc", "geo", "text", "units"}
