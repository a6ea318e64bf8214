"""What holds of the policies on any estimates."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from router.plan import Estimates, Matrix
from router.policies.balanced import Balanced
from router.policies.balanced import Options as BalancedOptions
from router.policies.top_p import Options as TopPOptions
from router.policies.top_p import TopP, masses
from router.protocols import Situation

QUALITIES = arrays(np.float32, st.tuples(st.integers(1, 6), st.just(4)), elements=st.floats(0, 1, width=32))


def with_quality(quality: Matrix, doubt: float, default: int) -> Estimates:
    unknown = np.full_like(quality, np.nan)
    names = tuple("abcd")
    return Estimates(names, quality, np.full_like(quality, doubt), unknown, unknown, default)


def anywhere(rows: int) -> Situation:
    return Situation(np.zeros((rows, 4), np.float32), np.zeros(4, np.float32), np.ones((rows, 4), bool))


@settings(max_examples=60)
@given(quality=QUALITIES, doubt=st.floats(0, 1), default=st.integers(0, 3), caution=st.floats(0, 2))
def test_balanced_leaves_the_default_only_for_a_lead_beyond_doubt(
    quality: Matrix, doubt: float, default: int, caution: float
) -> None:
    policy = Balanced(BalancedOptions(preset="best", caution=caution))
    choices = policy.decide(with_quality(quality, doubt, default), anywhere(len(quality)))
    for row, choice in zip(quality, choices, strict=True):
        seat = choice.seats[0]
        lead, needed = float(row[seat] - row[default]), caution * doubt * np.sqrt(2)
        assert seat == default or (lead > needed - 1e-5 and row[seat] == row.max())
        assert seat != default or row.max() - row[default] <= needed + 1e-5


@settings(max_examples=60)
@given(quality=QUALITIES, doubt=st.floats(0.01, 0.5), p=st.floats(0.05, 1), most=st.integers(1, 4))
def test_top_p_seats_are_the_smallest_prefix_that_passes_p(quality: Matrix, doubt: float, p: float, most: int) -> None:
    policy = TopP(TopPOptions(p=p, most=most, nulls=0, **{"lambda": 0.0}))
    found = with_quality(quality, doubt, -1)
    shares = masses(quality, found.uncertainty)
    np.testing.assert_allclose(shares.sum(1), 1, atol=1e-4)
    for mass, choice in zip(shares, policy.decide(found, anywhere(len(quality))), strict=True):
        taken = mass[list(choice.seats)]
        assert 1 <= len(choice.seats) <= most
        assert taken[:-1].sum() < p + 1e-5
        assert len(choice.seats) == most or taken.sum() >= p - 1e-5 or len(choice.seats) == 4
        assert (choice.composer == "single") == (len(choice.seats) == 1)


@settings(max_examples=40)
@given(quality=QUALITIES, p=st.floats(0.05, 0.95), default=st.integers(0, 3))
def test_null_seats_never_add_seats(quality: Matrix, p: float, default: int) -> None:
    found = with_quality(quality, 0.1, default)
    where = anywhere(len(quality))
    policies = [TopP(TopPOptions(p=p, most=4, nulls=nulls)) for nulls in (0, 2)]
    counts = [[len(choice.seats) for choice in policy.decide(found, where)] for policy in policies]
    assert all(with_nulls <= without for without, with_nulls in zip(*counts, strict=True))
