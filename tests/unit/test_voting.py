"""Weights of votes fitted on outcomes, and what a composition is expected to be worth."""

from __future__ import annotations

import numpy as np
import pytest

from router.voting import AGAIN, LEVEL, PRIOR, Floats, Ints, Kind, Voting, in_sequence, order, tally
from router.voting_fit import alike, at_most, causes_of, fit, fit_kind
from router.worth import Composing, Scorer, of_cascade, of_council, of_vote, patterns

NAMES = ("a", "b", "c")


def one(*groups: int) -> Ints:
    return np.array([groups], np.int64)


def drawn(n: int, quality: tuple[float, ...], *, copies: bool = False, seed: int = 0) -> tuple[Ints, Floats, Floats]:
    """Groups, estimates and scores; group 0 is the right answer. With `copies` the last says what the one before it
    says."""
    rng = np.random.default_rng(seed)
    right = rng.random((n, len(quality))) < np.array(quality)
    groups = np.where(right, 0, rng.integers(1, 6, right.shape))
    if copies:
        groups[:, -1] = groups[:, -2]
    return groups.astype(np.int64), np.full(groups.shape, 0.6), (groups == 0).astype(np.float64)


def test_two_weak_voices_do_not_outvote_a_strong_one() -> None:
    quality = np.array([[0.95, 0.4, 0.4]])
    assert tally(one(0, 1, 1), PRIOR.weights(NAMES, quality), quality).winner[0] == 0
    assert tally(one(0, 1, 1), np.ones((1, 3)), quality).winner[0] == 1


def test_naive_bayes_by_hand() -> None:
    """Two agree against one, at equal P(right) = 0.6 and four wrong answers to hit upon."""
    weight = np.log(0.6 / 0.4) + LEVEL
    found = tally(one(0, 0, 1), PRIOR.weights(NAMES, np.full((1, 3), 0.6)), np.zeros((1, 3)))
    expected = np.exp(2 * weight) / (np.exp(2 * weight) + np.exp(weight) + 1)
    assert found.sure[0] == pytest.approx(expected)
    assert found.lead[0] == pytest.approx(weight)


def test_whoever_says_nothing_is_nobody() -> None:
    found = tally(one(-1, -1, -1), np.ones((1, 3)), np.ones((1, 3)))
    assert (found.winner[0], found.sure[0]) == (-1, 0.0)


def test_a_further_sample_of_the_same_expert_counts_less() -> None:
    quality = np.full((1, 2), 0.6)
    weights = PRIOR.weights(("a", "a"), quality)
    twice = tally(one(0, 0), weights, quality, PRIOR.shared(("a", "a"))).scores[0, 0]
    assert twice == pytest.approx(weights.sum() - AGAIN * weights[0, 0])
    more = [
        tally(one(*[0] * seats), np.ones((1, seats)), np.ones((1, seats)), PRIOR.shared(("a",) * seats)).scores[0, 0]
        for seats in range(1, 7)
    ]
    assert more == pytest.approx([1, 1.5, 2, 2.5, 3, 3.5])  # each of them adds, however many there are


def test_the_better_expert_weighs_more_though_estimates_do_not_tell_them_apart() -> None:
    groups, quality, scores = drawn(1500, (0.9, 0.45, 0.45))
    kind = fit_kind(groups, quality, scores > 0.5, NAMES)
    weights = kind.weights(NAMES, quality[:1])[0]
    assert weights[0] > weights[1] + 0.5
    held, estimates, truth = drawn(1500, (0.9, 0.45, 0.45), seed=1)
    rows = np.arange(len(held))
    fitted = tally(held, kind.weights(NAMES, estimates), estimates, kind.shared(NAMES), kind.none).winner
    plain = tally(held, np.ones(held.shape), -np.arange(3) * np.ones(held.shape)).winner
    assert truth[rows, fitted].mean() > truth[rows, plain].mean() + 0.01


def test_two_that_say_the_same_whatever_it_is_count_as_little_more_than_one() -> None:
    groups, quality, scores = drawn(1500, (0.6, 0.6, 0.6, 0.6), copies=True)
    names = (*NAMES, "copy")
    kind = fit_kind(groups, quality, scores > 0.5, names)
    weights = kind.weights(names, quality[:1])
    both = tally(one(-1, -1, 0, 0), weights, weights, kind.shared(names)).scores[0, 2]
    assert both < 1.4 * weights[0, 0]


def test_the_posterior_is_calibrated_on_others() -> None:
    groups, quality, scores = drawn(2000, (0.7, 0.6, 0.5))
    kind = fit_kind(groups, quality, scores > 0.5, NAMES)
    held, estimates, truth = drawn(2000, (0.7, 0.6, 0.5), seed=2)
    found = tally(held, kind.weights(NAMES, estimates), estimates, kind.shared(NAMES), kind.none)
    assert found.sure.mean() == pytest.approx(truth[np.arange(2000), found.winner].mean(), abs=0.03)


def test_few_rows_leave_the_prior_and_all_is_kept_as_json() -> None:
    groups, quality, scores = drawn(10, (0.7, 0.6, 0.5))
    assert fit_kind(groups, quality, scores > 0.5, NAMES) == PRIOR
    groups, quality, scores = drawn(300, (0.7, 0.6, 0.5))
    voting = fit(["number"] * 300, groups, quality, scores, NAMES)
    assert Voting.from_json(voting.as_json()) == voting
    whole = Composing(voting, Scorer({"bias": 1.0}, 0.4, 0.9, 0.2, ((0.4, 0.5, 0.7),)))
    assert Composing.from_json(whole.as_json()) == whole
    assert fit([""] * 300, groups, quality, scores, NAMES) == Voting()


def test_a_vote_stops_early_where_that_is_sure_to_lose_little() -> None:
    sure, doubtful = drawn(1200, (0.97, 0.6, 0.6, 0.6)), drawn(1200, (0.6, 0.6, 0.6, 0.6))
    names = (*NAMES, "d")
    kinds = {name: fit(["number"] * 1200, groups, quality, scores, names).of("number")
             for name, (groups, quality, scores) in (("sure", sure), ("doubtful", doubtful))}  # fmt: skip
    assert kinds["sure"].share < kinds["doubtful"].share
    groups, quality, scores = drawn(4000, (0.97, 0.6, 0.6, 0.6), seed=5)
    rows = np.arange(4000)
    right = [scores[rows, in_sequence(groups, quality, names, kinds["sure"], threshold=at, first=2).winner].mean()
             for at in (None, 1.01)]  # fmt: skip
    assert right[0] >= right[1] - 0.003


def test_a_share_seen_seldom_may_be_large() -> None:
    assert at_most(0, 0) == 1.0
    assert at_most(0, 100) == pytest.approx(1 - 0.05 ** (1 / 100))
    assert at_most(2, 100) < at_most(2, 20) < at_most(3, 20)


def test_whom_to_ask_first_and_what_it_costs() -> None:
    quality, weights = np.array([[0.5, 0.9, 0.6]]), np.array([[1.0, 3.0, 1.5]])
    assert order(quality, weights)[0].tolist() == [1, 2, 0]
    assert order(quality, weights, np.array([[1.0, 100.0, 1.0]]), price=1.0)[0].tolist() == [2, 0, 1]


def shared(correlation: float, k: int) -> np.ndarray:
    """k experts with one cause in common."""
    return Voting({}, correlation).loadings([f"expert-{number}" for number in range(k)])


def test_patterns_keep_the_experts_own_chances_and_fail_together() -> None:
    quality = np.array([[0.8, 0.6]])
    rights, apart = patterns(quality, shared(0.0, 2))
    _, alike_ = patterns(quality, shared(0.8, 2))
    for chance in (apart, alike_):
        assert (chance @ rights)[0] == pytest.approx(quality[0], abs=0.01)
    assert apart[0, 0] == pytest.approx(0.2 * 0.4, abs=1e-6)
    assert alike_[0, 0] > 0.15


def test_experts_that_fail_together_are_worth_one() -> None:
    quality = np.full((1, 3), 0.7)
    weights = PRIOR.weights(NAMES, quality)
    apart, together = (of_vote(quality, weights, shared(share, 3), 0.1)[0] for share in (0.0, 0.94))
    assert apart > 0.8
    assert together == pytest.approx(0.72, abs=0.04)


def test_a_cascade_and_a_council_by_hand() -> None:
    perfect = Scorer({}, 0.5, keeps_right=1.0, keeps_wrong=0.0)
    right, onward = of_cascade(np.array([[0.5, 0.8]]), shared(0.0, 2), perfect)
    assert right[0] == pytest.approx(0.5 + 0.5 * 0.8, abs=1e-6)
    assert onward[0] == pytest.approx(0.5)
    assert of_council(np.array([[0.5, 0.8]]), 0.9, shared(0.0, 2))[0] == pytest.approx(0.9 * 0.9, abs=1e-6)


def test_how_alike_errors_are_is_read_off_outcomes() -> None:
    apart, _, scores = drawn(3000, (0.6, 0.6, 0.6))
    low, collusion = alike(apart, scores > 0.5, np.full(apart.shape, 0.6))
    copied, _, again = drawn(3000, (0.6, 0.6), copies=True)
    high, same = alike(copied, again > 0.5, np.full(copied.shape, 0.6))
    assert low < 0.15 < 0.8 < high
    assert collusion == pytest.approx(0.2, abs=0.04)  # one of five wrong answers
    assert same > 0.95


def test_kinds_that_were_not_fitted_use_the_prior() -> None:
    assert Voting({"number": Kind(level=2.0)}).of("boxed") is PRIOR


def test_which_two_fail_together_is_told_apart() -> None:
    rng = np.random.default_rng(5)
    first, second = rng.normal(size=(2, 3000))
    pair = [first + 0.3 * rng.normal(size=3000) for _ in range(2)]
    other = [second + 0.3 * rng.normal(size=3000) for _ in range(2)]
    right = np.stack([*pair, *other], 1) > 0
    names = ("a1", "a2", "b1", "b2")
    quality = right.mean(0, keepdims=True).repeat(3000, 0)
    found = causes_of(np.ones(right.shape, np.bool_), right, quality, names, 0.3)
    loads = Voting({}, 0.3, causes=found).loadings(names)
    alike_ = loads @ loads.T
    assert min(alike_[0, 1], alike_[2, 3]) > 0.8
    assert max(alike_[0, 2], alike_[0, 3], alike_[1, 2], alike_[1, 3]) < 0.15
    assert of_council(quality[:1, :2], 1.0, loads[[0, 2]])[0] > of_council(quality[:1, :2], 1.0, loads[[0, 1]])[0] + 0.1
    kept = Voting.from_json(Voting({}, 0.3, causes=found).as_json())
    assert np.allclose(kept.loadings([*names, "new"])[:4], loads)
    assert kept.loadings(["new"])[0, 1] == 0


def test_an_expert_that_was_not_measured_fails_with_the_others() -> None:
    for seed in range(4):
        rng = np.random.default_rng(seed)
        right = 0.6 * rng.normal(size=(2000, 1)) + 0.8 * rng.normal(size=(2000, 4)) > 0
        names = ("a", "b", "c", "d")
        found = causes_of(np.ones(right.shape, np.bool_), right, np.full(right.shape, 0.5), names, 0.36)
        loads = Voting({}, 0.36, causes=found).loadings([*names, "new"])
        assert (loads[:4] @ loads[4]).mean() == pytest.approx(0.36, abs=0.08)
        assert (loads[:4] @ loads[4]).min() > 0.2


def test_many_queries_are_weighed_in_turns_as_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    quality = np.random.default_rng(1).uniform(0.2, 0.9, (50, 3))
    causes = np.random.default_rng(2).uniform(-0.5, 0.5, (50, 3, 2))
    whole = patterns(quality, causes)[1]
    monkeypatch.setattr("router.worth.AT_ONCE", 81 * 8 * 7)
    assert np.array_equal(patterns(quality, causes)[1], whole)
