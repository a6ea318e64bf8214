"""RouterRetriever's pilots, on vectors in the plane whose centroids can be worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import sqrt
from pathlib import Path

import numpy as np
import pytest

from experts.language import Card
from experts.protocols import Vectors
from router.estimators.pilots import Options, Pilots, shares
from router.outcomes import Outcomes
from router.plan import Queries
from router.selected import Selected

EXPERTS = ("a", "b", "c")
EAST, NORTH, WEST = (1.0, 0.0), (0.0, 1.0), (-1.0, 0.0)


def facts(rows: Sequence[tuple[str, tuple[float, float], Sequence[float]]], name: str = "q") -> Outcomes:
    """A row each: task, vector, and the experts' scores."""
    n = len(rows)
    scores = np.array([row[2] for row in rows], np.float32)
    nothing = np.full_like(scores, np.nan)
    ids = tuple(f"{name}{i}" for i in range(n))
    return Outcomes(
        ids, tuple(row[0] for row in rows), ("train",) * n, ids, EXPERTS[: scores.shape[1]], scores, nothing, nothing,
        nothing, np.array([row[1] for row in rows], np.float32),
    )  # fmt: skip


ROWS = [
    ("maths", EAST, (1, 0, 0)),
    ("maths", EAST, (1, 0, 0.5)),
    ("maths", NORTH, (0.6, 0.2, 0)),
    ("maths", WEST, (0, 0.3, 0)),
    ("poems", NORTH, (0.5, 0.5, 0)),
    ("poems", WEST, (0, 0.9, 0.8)),
    ("poems", EAST, (0, 0, 0)),
]


def fitted(outcomes: Outcomes, similarity: str = "weighted") -> Pilots:
    estimator = Pilots(Options.model_validate({"similarity": similarity}))
    estimator.fit([Card(name) for name in outcomes.experts], outcomes)
    return estimator


def asked(*vectors: tuple[float, float]) -> Queries:
    return Queries(tuple(map(str, vectors)), np.array(vectors, np.float32))


def around(count: int, seed: int = 0) -> Vectors:
    angle = np.random.default_rng(seed).uniform(-np.pi, np.pi, count)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)


def leaning(count: int, seed: int = 0, experts: int = 3) -> Outcomes:
    """Each expert is the likelier to be right, the nearer a query is to its own direction."""
    random, vectors = np.random.default_rng(seed), around(count, seed)
    homes = np.array([EAST, NORTH, WEST][:experts])
    chance = 0.5 + 0.45 * vectors @ homes.T
    scores = (random.random(chance.shape) < chance).tolist()
    tasks = ("maths", "poems")
    return facts([(tasks[i % 2], tuple(vectors[i].tolist()), scores[i]) for i in range(count)], f"s{seed}-")


@pytest.mark.parametrize(
    ("similarity", "a", "b"),
    [
        # a won 3 queries of maths, centroid (2, 1) / 3, and half a query of poems, at north.
        # b won 1 query of maths, at west, and 1.5 queries of poems, centroid (-1, 0.5) / 1.5.
        ("weighted", (3 * 2 / sqrt(5) + 0) / 3.5, (1 * -1 + 1.5 * -2 / sqrt(5)) / 2.5),
        ("mean", (2 / sqrt(5) + 0) / 2, (-1 - 2 / sqrt(5)) / 2),
        ("nearest", 2 / sqrt(5), -2 / sqrt(5)),
    ],
)
def test_two_tasks_and_three_experts_worked_out_by_hand(similarity: str, a: float, b: float) -> None:
    found = fitted(facts(ROWS), similarity).similarity(asked(EAST))
    np.testing.assert_allclose(found, [[a, b, np.nan]], atol=1e-6)


def test_those_who_share_the_best_score_share_the_query_and_no_success_is_no_win() -> None:
    scores = np.array([[1, 1, 0], [0, 0, 0], [np.nan, 0.2, 0.1], [0.5, 0.5, 0.5]], np.float32)
    third = 1 / 3
    np.testing.assert_allclose(shares(scores), [[0.5, 0.5, 0], [0, 0, 0], [0, 1, 0], [third, third, third]])


@pytest.mark.parametrize("similarity", ["weighted", "mean", "nearest"])
def test_experts_stand_in_the_order_of_their_similarities(similarity: str) -> None:
    estimator = fitted(leaning(300), similarity)
    queries = Queries(("",) * 50, around(50, 9))
    np.testing.assert_array_equal(
        estimator.estimate(queries).quality.argsort(1), estimator.similarity(queries).argsort(1)
    )


def test_the_order_holds_even_where_the_similar_ones_fail() -> None:
    """Each wins by a hair where it is weak in all: the curve does not fall."""
    rows = [("", EAST, (0.02, 0.01, 0)), ("", NORTH, (0.01, 0.02, 0))] * 10 + [("", WEST, (0.97, 0.98, 0))]
    found = fitted(facts(rows)).estimate(asked(EAST, NORTH)).quality
    assert found[0, 0] > found[0, 1]
    assert found[1, 1] > found[1, 0]


def test_qualities_are_those_that_were_measured_at_such_similarities() -> None:
    fresh = leaning(1000, 5)
    found = fitted(leaning(1000)).estimate(Queries(fresh.texts, fresh.vectors)).quality
    high = found > 0.6
    assert high.sum() > 300
    assert abs(found[high].mean() - fresh.scores[high].mean()) < 0.05
    assert abs(found.mean() - fresh.scores.mean()) < 0.05


def test_a_querys_own_vector_is_no_evidence_of_its_score() -> None:
    """Scores that are noise: each query is near the pilot that it is part of, and would seem to prove the rule."""
    random = np.random.default_rng(0)
    vectors = random.standard_normal((60, 40))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = [(f"task{i % 10}", EAST, random.integers(0, 2, 3).tolist()) for i in range(60)]
    outcomes = replace(facts(rows), vectors=vectors.astype(np.float32))
    fresh = random.standard_normal((200, 40))
    fresh /= np.linalg.norm(fresh, axis=1, keepdims=True)
    found = fitted(outcomes).estimate(Queries(("",) * 200, fresh.astype(np.float32))).quality
    assert found.std() < 0.06


def test_an_expert_that_won_nothing_stands_at_its_mean_and_an_unmeasured_one_at_the_mean_of_all() -> None:
    rows = [(task, place, (1, 0.4, np.nan)) for task, place in (("x", EAST), ("y", NORTH)) for _ in range(20)]
    found = fitted(facts(rows)).estimate(asked(EAST, WEST))
    assert found.quality[0, 0] > found.quality[1, 0]
    np.testing.assert_array_equal(found.quality[0, 1:], found.quality[1, 1:])
    assert 0.35 < found.quality[0, 1] < 0.5 < found.quality[0, 2] < 0.8
    np.testing.assert_allclose(found.uncertainty[:, 2], 0.29)
    assert found.default == 0


def test_an_added_expert_has_the_pilots_of_a_fit_on_everything_and_leaves_the_others() -> None:
    whole, queries = leaning(300), Queries(("",) * 50, around(50, 9))
    estimator = fitted(whole.for_experts(EXPERTS[:2]))
    similarity, before = estimator.similarity(queries), estimator.estimate(queries)
    estimator.add(Card("c"), whole.for_experts(EXPERTS[2:]))
    np.testing.assert_array_equal(estimator.similarity(queries)[:, :2], similarity)
    after = estimator.estimate(queries)
    np.testing.assert_array_equal(after.quality[:, :2], before.quality)
    np.testing.assert_array_equal(after.uncertainty[:, :2], before.uncertainty)
    np.testing.assert_allclose(estimator.similarity(queries)[:, 2], fitted(whole).similarity(queries)[:, 2], atol=1e-6)


def test_a_removed_expert_is_a_column_less() -> None:
    queries, estimator = asked(EAST, NORTH), fitted(leaning(300))
    before = estimator.estimate(queries).quality
    rest = Selected(estimator, EXPERTS, ("c", "a"), {"a": 0.5, "c": 0.5}).estimate(queries)
    np.testing.assert_array_equal(rest.quality, before[:, [2, 0]])
    refit = fitted(facts(ROWS).for_experts(("b", "c"))).similarity(asked(EAST))
    assert np.isfinite(refit).all(), "after a fit, what the removed one won goes to the next best"


def test_new_outcomes_of_a_known_query_count_its_winners_anew(tmp_path: Path) -> None:
    whole = facts(ROWS)
    estimator = fitted(replace(whole, scores=np.where(np.arange(3) == 2, np.nan, whole.scores).astype(np.float32)))
    estimator.save(tmp_path)
    loaded = Pilots(Options())
    loaded.load(tmp_path)
    for each in (estimator, loaded):
        each.update(whole.take([5]))
        each.update(facts([("songs", WEST, (0, 0, 1))], "new"))
        np.testing.assert_allclose(each.similarity(asked(WEST))[0, 2], 1, atol=1e-6)
        np.testing.assert_allclose(
            each.similarity(asked(EAST))[0, :2], fitted(whole).similarity(asked(EAST))[0, :2], atol=1e-6
        )


def test_outcomes_that_come_after_an_empty_fit_make_pilots() -> None:
    estimator = fitted(Outcomes.empty(EXPERTS))
    assert estimator.estimate(asked(EAST)).notes == ("no query was won",)
    estimator.update(facts(ROWS))
    np.testing.assert_allclose(estimator.similarity(asked(EAST)), fitted(facts(ROWS)).similarity(asked(EAST)))
    first = fitted(Outcomes.empty(()))
    first.add(Card("a"), facts(ROWS).for_experts(("a",)))
    assert first.estimate(asked(EAST)).quality[0, 0] > first.estimate(asked(WEST)).quality[0, 0]
