"""Skill profiles and abilities to aggregate: how they are made, and what a router makes of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evals.journal import Answered, Scored, journal
from evals.naming import words_in
from evals.panels import panels
from evals.sample import Sample, ask
from experts.language import Card
from router.estimators import open_estimator
from router.outcomes import Outcomes
from router.plan import Queries
from router.protocols import Parts
from router.records.rows import Measured, to_json, to_measured
from router.records.table import joined, table
from router.skills import abilities, keyphrases, profiles
from router.vectors import VectorCache
from tests.evals_world import Words


def row(number: int, expert: str, score: float, *skills: str, source: str = "profile") -> Measured:
    return Measured(f"q{number}", expert, score, source, 0.0, text=f"text {number}", skills=skills)  # pyright: ignore[reportArgumentType]


def test_a_profile_counts_what_was_solved_against_what_was_failed() -> None:
    rows = [row(1, "a", 1.0, "algebra", "fractions"), row(2, "a", 0.0, "algebra"), row(3, "a", 1.0, "algebra"),
            row(1, "b", 0.0, "algebra"), row(4, "a", 1.0, source="feedback")]  # fmt: skip
    found = profiles(rows)
    assert found["a"].net == {"algebra": 1.0, "fractions": 1.0}
    assert found["a"].asked == {"algebra": 3, "fractions": 1}
    assert found["a"].competence == 0.75
    assert found["a"].words(least=2) == ["algebra"]
    assert found["b"].net == {"algebra": -1.0}
    assert found["b"].aggregation is None


def test_abilities_of_few_panels_are_drawn_to_the_mean() -> None:
    rows = [row(n, "often", float(n % 5 > 0), source="aggregation") for n in range(50)]
    rows += [row(99, "once", 1.0, source="aggregation"), row(1, "never", 1.0)]
    found = abilities(rows)
    assert set(found) == {"often", "once"}
    assert found["often"] == pytest.approx(0.8, abs=0.01)
    assert 0.8 < found["once"] < 0.9


def test_panels_say_nothing_of_how_well_an_expert_answers() -> None:
    rows = [row(1, "a", 1.0), row(1, "a", 0.0, source="aggregation"), row(1, "b", 0.0)]
    found = table(rows, None, VectorCache()).outcomes
    assert len(found) == 1
    assert dict(zip(found.experts, found.scores[0].tolist(), strict=True)) == {"a": 1.0, "b": 0.0}


def test_skill_words_go_with_their_rows() -> None:
    rows = [row(1, "a", 1.0, "algebra"), row(2, "a", 0.0)]
    found = table(rows, None, VectorCache()).outcomes
    assert found.skills == (("algebra",), ())
    assert found.take([1, 0]).skills == ((), ("algebra",))
    assert joined([replace(found, skills=()), found]).words == ((), (), ("algebra",), ())
    assert to_measured(to_json(rows[0]), b"").skills == ("algebra",)


def test_the_words_that_an_expert_named_are_the_estimator_s_and_speak_for_a_query() -> None:
    texts = [f"{'moss fern root' if n % 2 else 'comet orbit nova'} {n}" for n in range(60)]
    scores = np.array([[n % 2, 1 - n % 2, 0.5] for n in range(60)], np.float32)
    nothing = np.full_like(scores, np.nan)
    blank = ("",) * 60
    rows = Outcomes(tuple(texts), blank, blank, tuple(texts), ("botanist", "astronomer", "both"), scores, nothing,
                    nothing, nothing, Words().encode(texts),
                    skills=tuple(("botany",) if n % 2 else ("astronomy",) for n in range(60)))  # fmt: skip
    for name in ("skills", "blend"):
        options = {"words": 1} if name == "skills" else {"members": {"skills": {"words": 1}, "ridge": {}}}
        estimator = open_estimator(name, options, Parts(Words()))
        estimator.fit([Card(one) for one in rows.experts], rows)
        query = "fern and moss"
        found = estimator.estimate(Queries([query], Words().encode([query])))
        assert found.skills == ("botany",)
        assert found.suitability is not None
        assert int(found.suitability[0].argmax()) == 0
        assert found.suitability[0, 2] > found.suitability[0, 1]


def test_keyphrases_are_short_and_lower_case() -> None:
    found = keyphrases("Solve the quadratic equation and give the sum of its complex roots in simplest form.")
    assert found
    assert all(word == word.lower() and len(word) <= 20 for word in found)


@pytest.mark.parametrize(
    ("said", "words"),
    [("Algebra, Number theory", ("algebra", "number theory")),
     ("1. Geography\n2. Spelling.", ("geography", "spelling")),
     ("- reading: \n- reading", ("reading",)), ("I would say that it takes a great deal of thought", ()),
     ("a,b,c", ()), ("one, two, three, four, five, six", ("one", "two", "three", "four", "five"))],
)  # fmt: skip
def test_skills_are_read_from_what_an_expert_says(said: str, words: tuple[str, ...]) -> None:
    assert words_in(said) == words


def test_a_panel_has_one_right_and_two_different_wrong_answers(tmp_path: Path) -> None:
    experts = ["a", "b", "c", "d"]
    said = {"full": [("4", 1.0), ("5", 0.0), ("6", 0.0), ("5", 0.0)], "same": [("4", 1.0), ("5", 0.0), ("5", 0.0)],
            "none": [("5", 0.0), ("6", 0.0), ("7", 0.0)], "held": [("4", 1.0), ("5", 0.0), ("6", 0.0)]}  # fmt: skip
    samples = [
        Sample(name, ask("What is 2 + 2?"), "numeric", "4", split="test" if name == "held" else "validation")
        for name in said
    ]
    with journal(tmp_path / "j.jsonl", {"profile": "x"}) as held:
        for name, answers in said.items():
            for expert, (text, score) in zip(experts, answers, strict=False):
                held.answered(Answered(name, expert, text))
                held.scored((name, expert), Scored(score))
        (panel,) = panels(samples, held, experts, "suite")
        assert panels(samples, held, experts, "suite") == [panel]
    assert panel.id == "full#panel"
    assert (panel.scorer, panel.reference) == ("numeric", "4")
    assert panel.turns[0] == samples[0].turns[0]
    shown = panel.turns[-1]["content"]
    assert [shown.count(f"]\n{text}") for text in "4567"] == [1, 1, 1, 0]
