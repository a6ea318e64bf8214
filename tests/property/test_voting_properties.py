"""Votes, whatever was said: equal weights are the majority, order means nothing, and stopping early changes nothing."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from router.ballots import Ballots
from router.voting import Ints, Kind, in_sequence, order, tally

SAID = st.lists(st.integers(-1, 3), min_size=1, max_size=6)
CHANCE = st.floats(0.05, 0.95)
NEVER = 1.01


@st.composite
def votes(draw: st.DrawFn) -> tuple[Ints, np.ndarray]:
    said = draw(SAID)
    quality = draw(st.lists(CHANCE, min_size=len(said), max_size=len(said)))
    return np.array([said], np.int64), np.array([quality])


@given(SAID)
def test_equal_weights_are_the_plain_majority(said: list[int]) -> None:
    even = np.ones((1, len(said)))
    winner = int(tally(np.array([said]), even, even).winner[0])
    count = Counter(one for one in said if one >= 0)
    if not count:
        assert winner == -1
    else:
        assert count[said[winner]] == max(count.values())


@given(votes())
def test_the_order_of_voices_and_the_numbers_of_groups_mean_nothing(
    voted: tuple[Ints, np.ndarray],
) -> None:
    groups, quality = voted
    weights = Kind().weights([""] * groups.shape[1], quality)
    turn = np.random.default_rng(int(quality.sum() * 1e6)).permutation(groups.shape[1])
    one = tally(groups, weights, quality)
    other = tally(np.where(groups >= 0, 7 - groups, -1)[:, turn], weights[:, turn], quality[:, turn])
    assert np.allclose(one.posterior[:, turn], other.posterior)
    assert np.isclose(one.lead[0], other.lead[0]) or (one.winner[0] == other.winner[0] == -1)


@given(votes())
def test_posteriors_are_probabilities(voted: tuple[Ints, np.ndarray]) -> None:
    groups, quality = voted
    found = tally(groups, Kind().weights([""] * groups.shape[1], quality), quality, none=0.3)
    heads = [list(groups[0]).index(group) for group in set(groups[0].tolist()) - {-1}]
    assert ((found.posterior >= 0) & (found.posterior <= 1)).all()
    assert found.posterior[0, heads].sum() <= 1 + 1e-9


@given(votes(), st.integers(1, 3))
def test_it_stops_only_when_the_rest_cannot_change_it(voted: tuple[Ints, np.ndarray], first: int) -> None:
    groups, quality = voted
    names = [f"e{place}" for place in range(groups.shape[1])]
    done = in_sequence(groups, quality, names, Kind(), threshold=NEVER, first=first)
    whole = tally(groups, Kind().weights(names, quality), Kind().prefer(names, quality))
    unlike = whole.winner[0] >= 0 and groups[0, done.winner[0]] != groups[0, whole.winner[0]]
    assert not unlike
    assert done.asked.sum() >= min(first, len(names))
    assert (done.winner[0] == -1) == (whole.winner[0] == -1)


@given(votes(), st.lists(st.floats(0, 2), min_size=15, max_size=15))
def test_agreeing_never_makes_an_answer_less_likely(voted: tuple[Ints, np.ndarray], together: list[float]) -> None:
    groups, quality = voted
    e = groups.shape[1]
    names = [f"e{place}" for place in range(e)]
    pairs = iter(together)
    kind = Kind(together={(names[i], names[j]): next(pairs) for j in range(e) for i in range(j)})
    weights = kind.weights(names, quality)
    found = tally(groups, weights, quality, kind.shared(names))
    for place in np.flatnonzero(groups[0] >= 0):
        assert found.scores[0, place] >= weights[0, place] - 1e-9


@given(votes(), st.lists(st.floats(0, 2), min_size=15, max_size=15), st.lists(st.booleans(), min_size=6, max_size=6),
       st.integers(1, 6), st.floats(-1, 1))  # fmt: skip
def test_one_vote_is_counted_as_many_are(
    voted: tuple[Ints, np.ndarray], together: list[float], whole: list[bool], experts: int, none: float
) -> None:
    groups, rated = voted
    e = groups.shape[1]
    names = [f"e{place % experts}" for place in range(e)]
    quality = dict(zip(names, rated[0].tolist(), strict=True))
    given = np.array([[quality[name] for name in names]])
    known, pairs = sorted(quality), iter(together)
    kind = Kind(none=none, offsets={"e0": 0.4}, spoken={"e1": 0.5},
                together={(one, other): next(pairs) for other in known for one in known if one < other})  # fmt: skip
    favour = [float(one) for one in whole[:e]]
    weights = kind.weights(names, given)
    many = tally(groups, weights, kind.prefer(names, given) + favour, kind.shared(names), kind.none)
    ballots = Ballots(kind, quality)
    one = ballots.count(names, groups[0].tolist(), favour)
    assert one.winner == many.winner[0]
    assert np.isclose(one.sure, many.sure[0])
    assert one.lead == many.lead[0] or np.isclose(one.lead, many.lead[0])
    assert np.isclose(ballots.weight(names), weights.sum())
    ranked = order(given, weights)[0].tolist()
    assert ballots.order(names) == [names[place] for place in ranked]


@given(votes(), st.integers(1, 6), st.integers(0, 3), st.floats(-1, 1), st.floats(0.5, NEVER))
def test_asking_as_many_at_once_as_are_needed_asks_nobody_in_vain(
    voted: tuple[Ints, np.ndarray], experts: int, first: int, none: float, threshold: float
) -> None:
    """Seats of the same expert, too; not where two experts were measured to err together (a voice that agrees may then
    lower what its answer scores)."""
    groups, rated = voted
    said: list[int] = groups[0].tolist()
    names = [f"e{place % experts}" for place in range(len(said))]
    ballots = Ballots(Kind(none=none), dict(zip(names, rated[0].tolist(), strict=True)))

    def needed(heard: int) -> int:
        return ballots.needed(names[:heard], said[:heard], names[heard:], threshold)

    begun = min(first, len(said))
    one_by_one = next(heard for heard in range(begun, len(said) + 1) if not needed(heard))
    at_once = begun
    while more := needed(at_once):
        at_once += more
    assert at_once == one_by_one
