from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from experts.language import Card
from router.estimators.clusters import Clusters
from router.estimators.clusters import Options as ClusterOptions
from router.estimators.neighbours import Neighbours
from router.estimators.neighbours import Options as NeighbourOptions
from router.estimators.ridge import Options, Ridge
from router.outcomes import Outcomes
from router.plan import Matrix, Queries

EXPERTS = ("a", "b", "c", "d")
CARDS = [Card(name) for name in EXPERTS]


def facts(rows: int, seed: int = 0, noise: bool = False) -> Outcomes:
    random = np.random.default_rng(seed)
    vectors = random.standard_normal((rows, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    lean = 0 if noise else vectors[:, : len(EXPERTS)]
    scores = (random.random((rows, len(EXPERTS))) < 0.5 + 0.9 * lean).astype(np.float32)
    nothing = np.full_like(scores, np.nan)
    ids = tuple(f"{seed}-{i}" for i in range(rows))
    return Outcomes(ids, ("",) * rows, ("",) * rows, ids, EXPERTS, scores, nothing, nothing, nothing, vectors)


def together(first: Outcomes, second: Outcomes) -> Outcomes:
    tables = {key: np.concatenate([getattr(first, key), getattr(second, key)])
              for key in ("scores", "tokens", "cost_usd", "latency_ms", "vectors")}  # fmt: skip
    blank = ("",) * (len(first) + len(second))
    return Outcomes(first.ids + second.ids, blank, blank, first.texts + second.texts, EXPERTS, **tables)


def ridge(outcomes: Outcomes, cards: Sequence[Card] = CARDS) -> Ridge:
    estimator = Ridge(Options(width=64), seed=0)
    estimator.fit(cards, outcomes)
    return estimator


def quality(estimator: Ridge) -> Matrix:
    fresh = facts(50, seed=99)
    return estimator.estimate(Queries(fresh.texts, fresh.vectors)).quality


def test_updates_give_what_a_fit_on_everything_gives() -> None:
    first, second, third = facts(400), facts(100, 1), facts(7, 2)
    updated = ridge(first)
    updated.update(second)
    updated.update(third)
    np.testing.assert_allclose(quality(updated), quality(ridge(together(together(first, second), third))), atol=1e-4)


def test_an_update_that_only_some_experts_took_part_in_is_exact_too() -> None:
    first, second = facts(400), facts(100, 1)
    second.scores[:, 2:] = np.nan
    updated = ridge(first)
    updated.update(second)
    np.testing.assert_allclose(quality(updated), quality(ridge(together(first, second))), atol=1e-4)


def test_a_new_expert_leaves_the_others_weights_untouched() -> None:
    whole = facts(400)
    estimator = ridge(whole.for_experts(EXPERTS[:3]), CARDS[:3])
    before = quality(estimator)
    estimator.add(CARDS[3], whole.for_experts(EXPERTS[3:]))
    np.testing.assert_array_equal(quality(estimator)[:, :3], before)
    assert np.corrcoef(quality(estimator)[:, 3], facts(50, 99).vectors[:, 3])[0, 1] > 0.7  # type: ignore[index]


@pytest.mark.parametrize(
    "estimator", [Ridge(Options(width=64), 0), Clusters(ClusterOptions(), 0), Neighbours(NeighbourOptions(), 0)]
)
def test_a_rows_own_score_never_reaches_its_crossfit(estimator: Ridge | Clusters | Neighbours) -> None:
    """Scores that are noise can be guessed only by whoever has seen them."""
    rows = facts(1500, noise=True)
    guess = estimator.crossfit(CARDS, rows, np.arange(1500) % 5)
    centred = guess - guess.mean(0)
    assert abs(np.corrcoef(centred.ravel(), rows.scores.ravel())[0, 1]) < 0.06


def test_few_outcomes_at_a_time_add_up_to_categories() -> None:
    rows = facts(300)
    estimator = Clusters(ClusterOptions(), 0)
    estimator.fit(CARDS, Outcomes.empty(EXPERTS))
    for start in range(0, 300, 20):
        estimator.update(rows.take(range(start, start + 20)))
    at_once = Clusters(ClusterOptions(), 0)
    at_once.fit(CARDS, rows)
    fresh = facts(200, 99)
    queries = Queries(fresh.texts, fresh.vectors)
    found, wanted = estimator.estimate(queries).quality, at_once.estimate(queries).quality
    assert np.corrcoef((found - found.mean(0)).ravel(), (wanted - wanted.mean(0)).ravel())[0, 1] > 0.5
