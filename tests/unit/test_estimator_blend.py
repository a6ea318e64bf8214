from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from experts.language import Card
from experts.protocols import Vectors
from router.estimators import open_estimator
from router.estimators._evidence import effects
from router.estimators.blend import Options, build
from router.estimators.clusters import Clusters
from router.estimators.clusters import Options as ClusterOptions
from router.outcomes import Outcomes
from router.plan import Matrix, Queries
from router.policies import open_policy
from router.protocols import Parts, Situation

AXES = {"maths": 0, "poems": 1, "maps": 2}


class AxisEncoder:
    """Each known word is an axis; everything else is a little of the last one."""

    fingerprint = "axes"
    dimensions = 8

    def encode(self, texts: Sequence[str]) -> Vectors:
        rows = np.zeros((len(texts), 8), np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in text.split():
                row[AXES.get(word, 7)] += 1.0 if word in AXES else 0.2
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


ENCODER = AxisEncoder()
CARDS = [Card(name, f"{topic} only", examples=(topic,)) for name, topic in zip("abc", AXES, strict=True)]


def near(topics: Sequence[str], seed: int = 0) -> Vectors:
    noise = np.random.default_rng(seed).standard_normal((len(topics), 8)).astype(np.float32) * 0.15
    rows = ENCODER.encode(topics) + noise
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def facts(topics: Sequence[str], scores: Matrix, seed: int = 0) -> Outcomes:
    n = len(topics)
    nothing = np.full_like(scores, np.nan)
    names = tuple(f"{seed}-{i}" for i in range(n))
    texts = tuple(f"{topic} {i}" for i, topic in enumerate(topics))
    return Outcomes(
        names, ("",) * n, ("train",) * n, texts, tuple("abc"[: scores.shape[1]]), scores.astype(np.float32), nothing,
        nothing, nothing, near(topics, seed),
    )  # fmt: skip


def choose(estimator: object, queries: Queries) -> list[int]:
    found = estimator.estimate(queries)  # type: ignore[attr-defined]
    shape = found.quality.shape
    where = Situation(np.zeros(shape, np.float32), np.zeros(shape[1], np.float32), np.ones(shape, bool))
    return [choice.seats[0] for choice in open_policy("balanced", {}).decide(found, where)]


def test_without_outcomes_it_is_cards() -> None:
    blend, cards = build(Options(), Parts(ENCODER)), open_estimator("cards", {}, Parts(ENCODER))
    for estimator in (blend, cards):
        estimator.fit(CARDS, Outcomes.empty(tuple("abc")))
    queries = Queries(["maths", "poems"], near(["maths", "poems"]))
    np.testing.assert_array_equal(blend.estimate(queries).quality, cards.estimate(queries).quality)
    assert blend.estimate(queries).default == -1


def test_scores_that_do_not_depend_on_the_query_leave_the_best_single_expert() -> None:
    random = np.random.default_rng(0)
    topics = random.choice(list(AXES), 900)
    scores = random.random((900, 3)) < np.array([0.55, 0.7, 0.5])
    blend = build(Options(), Parts(None))
    blend.fit([Card(name) for name in "abc"], facts(topics, scores))
    fresh = random.choice(list(AXES), 300)
    assert np.mean(np.array(choose(blend, Queries(list(fresh), near(fresh, 5)))) == 1) > 0.98


def test_scores_that_do_depend_on_it_are_routed_and_calibrated() -> None:
    random = np.random.default_rng(1)
    topics = random.choice(list(AXES), 900)
    chance = np.where(np.array([AXES[t] for t in topics])[:, None] == np.arange(3), 0.9, 0.3)
    blend = build(Options(), Parts(None))
    blend.fit([Card(name) for name in "abc"], facts(topics, random.random((900, 3)) < chance))
    fresh = list(random.choice(list(AXES), 300))
    queries = Queries(fresh, near(fresh, 6))
    assert np.mean(np.array(choose(blend, queries)) == [AXES[t] for t in fresh]) > 0.97
    own = blend.estimate(queries).quality[np.arange(300), [AXES[t] for t in fresh]]
    assert abs(own.mean() - 0.9) < 0.05


def test_a_new_expert_takes_the_queries_that_its_card_promises_and_no_others_know() -> None:
    random = np.random.default_rng(2)
    topics = random.choice(["maths", "poems"], 600)
    chance = np.where(np.array([AXES[t] for t in topics])[:, None] == np.arange(2), 0.95, 0.1)
    blend = build(Options(), Parts(ENCODER))
    blend.fit(CARDS[:2], facts(topics, random.random((600, 2)) < chance))
    blend.add(CARDS[2], Outcomes.empty(("c",)))
    queries = Queries(["maps 7", "maths 7", "poems 7"], near(["maps", "maths", "poems"], 3))
    assert choose(blend, queries) == [2, 0, 1]
    found = blend.estimate(queries)
    assert found.uncertainty[0, 2] > found.uncertainty[1, 0]


def test_an_expert_asked_only_hard_questions_is_not_held_to_be_weak() -> None:
    random = np.random.default_rng(3)
    hard = random.random(2000) < 0.5
    chance = np.where(hard, 0.3, 0.9)
    scores = (random.random((2000, 3)) < chance[:, None]).astype(np.float32)
    scores[~hard, 2] = np.nan
    found = effects(facts(["maths"] * 2000, scores))
    assert scores[hard, 2].mean() < 0.35
    assert found.mean[2] > 0.45


def test_one_score_a_question_is_enough_to_learn_who_is_good_at_what() -> None:
    """What feedback gives: whoever answered was rated, nobody else."""
    random = np.random.default_rng(5)
    topics = [("maths", "poems")[i] for i in random.integers(0, 2, 400)]
    truth = np.array([[0.9, 0.2] if topic == "maths" else [0.2, 0.9] for topic in topics])
    scores = (random.random((400, 2)) < truth).astype(np.float32)
    scores[np.arange(400), random.integers(0, 2, 400)] = np.nan
    estimator = build(Options(), Parts(None))
    estimator.fit([Card("a"), Card("b")], facts(topics, scores))
    for better, topic in enumerate(("maths", "poems")):
        found = estimator.estimate(Queries([""] * 40, near([topic] * 40, 9))).quality.mean(0)
        assert found[better] - found[1 - better] > 0.3, (topic, found)


def test_the_notes_say_where_the_estimate_comes_from() -> None:
    random = np.random.default_rng(4)
    blend = build(Options(), Parts(None))
    blend.fit([Card(name) for name in "abc"], facts(random.choice(list(AXES), 300), random.random((300, 3)) < 0.5))
    notes = blend.estimate(Queries(["maths"], near(["maths"]))).notes
    assert any("clusters" in note and "ridge" in note for note in notes)


def test_what_few_outcomes_show_counts_before_there_are_categories() -> None:
    """From 1 to 95 outcomes there are no cells yet: the regression alone tells who is good at what."""
    right: dict[int, float] = {}
    for n in (6, 30, 95):
        topics = [("maths", "poems")[i % 2] for i in range(n)]
        scores = np.array([[0.9, 0.1] if topic == "maths" else [0.1, 0.9] for topic in topics], np.float32)
        blend = build(Options(), Parts(None, 0))
        blend.fit([Card("a"), Card("b")], facts(topics, scores))
        asked = ["maths", "poems"] * 50
        best = blend.estimate(Queries(asked, near(asked, 9))).quality.argmax(1)
        right[n] = float((best == np.arange(100) % 2).mean())
    assert right[30] >= 0.95
    assert right[95] >= 0.95
    assert right[6] >= 0.5


def test_queries_unlike_the_few_outcomes_are_unfamiliar() -> None:
    clusters = Clusters(ClusterOptions(), 0)
    clusters.fit(CARDS, facts(["maths"] * 40, np.full((40, 3), 0.5, np.float32)))
    asked = ["maths"] * 20 + ["maps"] * 20
    _, familiar = clusters.placed(Queries(asked, near(asked, 3)))
    assert familiar[:20].mean() > 0.8
    assert familiar[20:].max() == 0


def test_categories_may_be_the_tasks_of_the_outcomes() -> None:
    topics = [("maths", "poems")[i % 2] for i in range(40)]
    scores = np.array([[0.9, 0.1] if topic == "maths" else [0.1, 0.9] for topic in topics], np.float32)
    known = replace(facts(topics, scores), tasks=tuple(topics))
    clusters = open_estimator("clusters", {"categories": "tasks"}, Parts(None, 0))
    clusters.fit([Card("a"), Card("b")], known)
    asked = ["maths", "poems"] * 20
    found = clusters.estimate(Queries(asked, near(asked, 9)))
    assert found.quality.argmax(1).tolist() == [0, 1] * 20
    assert found.notes == ("1 clusterings; cells 2",)
    clusters.fit([Card("a"), Card("b")], replace(known, tasks=("one",) * 40))
    assert clusters.estimate(Queries(asked, near(asked, 9))).notes == ("too few outcomes for categories",)
