"""From measured rows to tables, and the share of traffic that explores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from experts.language import Card
from experts.protocols import Vectors
from router.estimators._evidence import fold_of
from router.estimators._surface import surface
from router.estimators.ridge import Options, Ridge
from router.exploration import explored
from router.outcomes import rows_to_outcomes
from router.plan import Plan, Queries, Seat
from router.records.rows import Measured, packed
from router.records.table import joined, table
from router.vectors import VectorCache


class Letters:
    """Vectors (n, 2) by a text's first letter: a is east, all else north."""

    fingerprint = "letters"
    dimensions = 2

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode(self, texts: Sequence[str]) -> Vectors:
        self.asked += texts
        return np.array([[1, 0] if text.startswith("a") else [0, 1] for text in texts], np.float32)


def test_stored_vectors_are_taken_texts_are_embedded_and_what_has_neither_is_counted(tmp_path: Path) -> None:
    encoder = Letters()
    west = packed(np.array([-1.0, 0.0], np.float32))
    rows = [
        Measured("1", "x", 1.0, "profile", 0.0, text="abc", tokens=5.0),
        Measured("1", "y", 0.0, "profile", 0.0, text="abc"),
        Measured("2", "y", 0.5, "feedback", 0.0, text_hash="h", vector=west, encoder="letters"),
        Measured("3", "y", 0.5, "feedback", 0.0, text="other", vector=west, encoder="an older one"),
        Measured("4", "y", 0.5, "feedback", 0.0, text_hash="i", vector=west, encoder="an older one"),
    ]
    found = table(rows, encoder, VectorCache(tmp_path))
    assert found.unusable == 1
    assert found.outcomes.vectors is not None
    assert found.outcomes.vectors.tolist() == [[1, 0], [-1, 0], [0, 1]]
    assert encoder.asked == ["abc", "other"]
    assert found.outcomes.texts == ("abc", "", "other")
    assert found.outcomes.keys == ("abc", "h", "other")
    assert joined([found.outcomes, found.outcomes.take([1])]).keys == ("abc", "h", "other", "h")
    np.testing.assert_equal(found.outcomes.scores, np.array([[1, 0], [np.nan, 0.5], [np.nan, 0.5]], np.float32))
    assert found.outcomes.tokens[0, 0] == 5


def test_the_hash_of_a_text_that_was_not_kept_is_no_text_to_learn_from(tmp_path: Path) -> None:
    vector = packed(np.array([-1.0, 0.0], np.float32))
    rows = [
        Measured(str(i), expert, float(i % 2), "feedback", 0.0, text_hash=f"{i:032x}", vector=vector, encoder="letters")
        for i in range(20) for expert in ("x", "y")
    ]  # fmt: skip
    outcomes = table(rows, Letters(), VectorCache(tmp_path)).outcomes
    assert not surface(outcomes.texts).any()
    ridge, bare = (Ridge(Options(width=16, surface=weight), seed=0) for weight in (0.3, 0.0))
    for one in (ridge, bare):
        one.fit([Card("x"), Card("y")], outcomes)
    seen = Queries(["a question that somebody asks"], np.array([[0.6, 0.8]], np.float32))
    np.testing.assert_array_equal(ridge.estimate(seen).quality, bare.estimate(seen).quality)
    assert len(set(fold_of(outcomes.keys, 5).tolist())) > 1


def test_without_an_encoder_every_query_counts(tmp_path: Path) -> None:
    found = table([Measured("4", "y", 0.5, "feedback", 0.0, text_hash="i")], None, VectorCache(tmp_path))
    assert (len(found.outcomes), found.unusable, found.outcomes.vectors) == (1, 0, None)


def test_joining_gives_every_row_under_every_expert() -> None:
    one = rows_to_outcomes([{"id": "1", "prompt": "p", "scores": {"a": 1}}])
    two = rows_to_outcomes([{"id": "2", "prompt": "q", "scores": {"b": 0, "a": 0.5}}])
    both = joined([one, two])
    assert both.experts == ("a", "b")
    np.testing.assert_equal(both.scores, np.array([[1, np.nan], [0.5, 0]], np.float32))
    assert len(joined([])) == 0


PLAN = Plan("auto", "single", (Seat("a"),), ("b", "c"), excluded={"d": "down"})
NAMES = ("a", "b", "c", "d")


def test_the_share_is_explored_evenly_and_the_propensities_are_the_true_frequencies() -> None:
    n = 20_000
    made = [explored(PLAN, NAMES, 0.3, f"dec-{number}") for number in range(n)]
    told = {plan.expert: plan.propensity for plan in made}
    assert told == {"a": pytest.approx(0.8), "b": pytest.approx(0.1), "c": pytest.approx(0.1)}
    for name, count in Counter(plan.expert for plan in made).items():
        assert abs(count / n - told[name]) < 4 * (told[name] * (1 - told[name]) / n) ** 0.5


def test_an_explored_plan_says_so_and_keeps_the_best_as_its_spare() -> None:
    made = next(p for p in (explored(PLAN, NAMES, 0.9, f"dec-{n}") for n in range(99)) if p.expert == "b")
    assert made.spares == ("a", "c")
    assert made.reason.startswith("exploration asks b (90.0%")


def test_the_same_decision_explores_the_same_way_again() -> None:
    assert explored(PLAN, NAMES, 0.5, "dec-7") == explored(PLAN, NAMES, 0.5, "dec-7")


@pytest.mark.parametrize(("plan", "share"), [
    (PLAN, 0.0), (Plan("auto", "council", (Seat("a"), Seat("b"))), 0.5),
    (Plan("auto", "single", (Seat("a"),), excluded={"b": "", "c": "", "d": ""}), 0.5),
])  # fmt: skip
def test_where_there_is_nothing_to_explore_the_plan_stays(plan: Plan, share: float) -> None:
    assert all(explored(plan, NAMES, share, f"dec-{number}") is plan for number in range(50))
