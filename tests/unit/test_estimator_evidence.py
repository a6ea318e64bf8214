"""What the estimators share: when to leave the best single expert, and what is believed of one that has just joined."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from experts.language import Card
from router.estimators._abstain import NEVER, margin
from router.estimators._evidence import effects, joining, successor
from router.estimators._surface import WIDTH, surface
from router.estimators.blend import Options, build
from router.outcomes import Outcomes
from router.plan import Estimates, Queries
from router.protocols import Parts


def outcomes(scores: NDArray[Any], experts: str) -> Outcomes:
    n = len(scores)
    nothing, blank = np.full_like(scores, np.nan), ("",) * n
    vectors = np.random.default_rng(5).standard_normal((n, 8)).astype(np.float32)
    return Outcomes(tuple(map(str, range(n))), blank, blank, tuple(f"what is {i}?" for i in range(n)), tuple(experts),
                    scores.astype(np.float32), nothing, nothing, nothing, vectors)  # fmt: skip


def test_leads_that_pay_have_no_margin_and_leads_that_do_not_are_never_followed() -> None:
    random = np.random.default_rng(0)
    guess = np.column_stack([np.full(2000, 0.6), random.uniform(0.4, 0.8, 2000)])
    told = (random.random((2000, 2)) < guess).astype(float)
    assert margin(guess, told, 0) == 0.0
    misled = (random.random((2000, 2)) < 0.6).astype(float)
    assert margin(guess, misled, 0) == NEVER


def test_small_leads_that_mislead_beside_large_ones_that_pay_get_a_margin_between() -> None:
    random = np.random.default_rng(1)
    lead = np.where(random.random(6000) < 0.8, 0.03, 0.3)
    guess = np.column_stack([np.full(6000, 0.6), 0.6 + lead])
    chance = np.column_stack([np.full(6000, 0.6), np.where(lead > 0.1, 0.9, 0.5)])
    assert 0.03 < margin(guess, (random.random((6000, 2)) < chance).astype(float), 0) < 0.3


def test_where_no_row_has_both_scores_nothing_is_withheld() -> None:
    guess = np.tile([0.5, 0.7], (300, 1))
    scores = np.full((300, 2), np.nan)
    scores[np.arange(300), np.arange(300) % 2] = 0.0
    assert margin(guess, scores, 0) == 0.0


def test_the_blend_withholds_leads_until_an_expert_joins_that_may_earn_them() -> None:
    random = np.random.default_rng(2)
    rows = outcomes(random.random((900, 3)) < [0.7, 0.62, 0.6], "abc")
    blend = build(Options(), Parts(None))
    blend.fit([Card(name) for name in "ab"], rows.for_experts("ab"))
    found = blend.estimate(Queries(rows.texts[:5], rows.vectors[:5]))  # type: ignore[index]
    assert len(found.margins) == 2
    blend.add(Card("c"), rows)
    found = blend.estimate(Queries(rows.texts[:5], rows.vectors[:5]))  # type: ignore[index]
    assert found.margins[2] == 0.0


def world(seed: int, rows: int, newcomer: float) -> Outcomes:
    """Half of the rows are hard for all; experts a, b, c differ little; d is `newcomer` better than b."""
    random = np.random.default_rng(seed)
    hard = random.random((rows, 1)) < 0.5
    chance = np.where(hard, 0.25, 0.85) + np.array([0.05, 0.0, -0.05, newcomer])
    return outcomes(random.random((rows, 4)) < chance, "abcd")


def believed(known: Outcomes, probes: Outcomes) -> tuple[float, float, int]:
    """Mean and error of newcomer d after these probes, and who is held to be best."""
    old = effects(known.for_experts("abc"))

    def level(queries: Queries) -> Estimates:
        table = np.tile(old.mean, (len(queries), 1)).astype(np.float32)
        return Estimates(tuple("abc"), table, table * 0, table, table)

    _, found = joining(old, tuple("abc"), "d", probes, level)
    np.testing.assert_array_equal(found.mean[:3], old.mean)
    return float(found.mean[3]), float(found.error[3]), found.best


def test_a_newcomers_lucky_start_does_not_make_it_the_best() -> None:
    known = world(3, 4000, 0.0)
    lucky = world(4, 10, 0.0)
    lucky.scores[:, 3] = 1.0
    mean, error, best = believed(known, lucky)
    assert best == 0
    assert abs(mean - 0.55) < 0.1
    assert error > 0.015


def test_a_much_better_newcomer_becomes_the_best_once_it_has_shown_it() -> None:
    _, error, best = believed(world(5, 4000, 0.0), world(6, 400, 0.15))
    assert best == 3
    assert error < 0.03


@pytest.mark.parametrize("solved", [0.0, 1.0])
def test_probes_that_are_harder_or_easier_than_usual_say_little_of_who_was_asked_them(solved: float) -> None:
    known = world(7, 4000, 0.0)
    alike = world(8, 4000, 0.0)
    kind = alike.take(np.flatnonzero(alike.scores[:, :3].mean(1) == solved)[:150])
    raw = float(kind.scores[:, 3].mean())
    mean, _, _ = believed(known, kind)
    assert abs(raw - 0.55) > 0.2
    assert abs(mean - 0.55) < 0.25 * abs(raw - 0.55)


def test_how_a_text_looks_does_not_depend_on_its_company_and_an_unkept_text_looks_like_nothing() -> None:
    texts = ["What is 2 + 2?", "def f(x):\n    return x", "", "é" * 9000]
    together = surface(texts)
    assert together.shape == (4, WIDTH)
    assert np.abs(together).max() <= 2
    np.testing.assert_array_equal(together[1], surface([texts[1]])[0])
    assert not together[2].any()
    assert not np.allclose(together[0], together[1])


def test_the_expert_to_fall_back_on_changes_only_beyond_doubt() -> None:
    random = np.random.default_rng(9)
    few, many = (effects(outcomes(random.random((n, 2)) < [0.6, 0.68], "ab")) for n in (60, 6000))
    assert successor(few, -1) == few.best
    assert successor(few, 0) == 0
    assert successor(many, 0) == 1
