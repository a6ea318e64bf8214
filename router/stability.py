"""Router drift: what a new fit, or a new expert, may change of decisions that it has no better one for.

Source: the drift of routers that go on learning, of SAME (arXiv 2602.01990): queries that were in good hands are sent
elsewhere because everything was fitted anew, not because anything better was found. Here the estimator that was in
force before, the incumbent, goes on being asked whom it would choose, and `balanced` leaves that expert only for one
that is now expected to do better. That costs a second estimate, so it is done only where a fit would else change the
expert of more than the policy's `stability` of frozen probe queries without a predicted gain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from router.plan import Estimates, Matrix, Queries
from router.protocols import Estimator, Policy, Situation

Ints = NDArray[np.int64]

PROBES = 1_000
"""Most probe queries that two fits are compared on."""


@runtime_checkable
class Steady(Protocol):
    """A policy with a bound: the largest share of frozen probes whose expert a fit may change without a predicted
    gain."""

    @property
    def stability(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Incumbent:
    """The estimator in force before, over the experts that it knows, in the order of its columns; `before` is what its
    own choices hold to."""

    estimator: Estimator
    experts: tuple[str, ...]
    before: Incumbent | None = None

    def chosen(
        self, queries: Queries, names: Sequence[str], policy: Policy, state: Situation, default: int = -1
    ) -> Ints:
        """Whom `policy` would choose by it, as columns of `names`, shape (n,); -1 where it knows none of the allowed.

        `default` is the column of the expert that the route falls back on, -1 where it names none.
        """
        column = {name: place for place, name in enumerate(self.experts)}
        order = [column.get(name, -1) for name in names]
        known = np.array(order) >= 0
        found = _over(self.estimator.estimate(queries), order, names)
        if default not in (-1, found.default):
            found = replace(found, default=default, margins=())
        if self.before is not None:
            found = replace(found, incumbents=self.before.chosen(queries, names, policy, state, default))
        choices = policy.decide(found, _only(state, known))
        return np.array([choice.seats[0] if choice.seats else -1 for choice in choices], np.int64)


class Drift(NamedTuple):
    """What a fit changes of the choices in force, as shares of the probes: `without_gain` of them as the fit is, `held`
    if it holds to the incumbent."""

    probes: int
    changed: float
    without_gain: float
    held: float


def drift(
    incumbent: Incumbent, found: Estimates, queries: Queries, policy: Policy, state: Situation, default: int = -1
) -> Drift:
    """Compares the estimates of a new fit with what is in force, on frozen probes."""
    if default not in (-1, found.default):
        found = replace(found, default=default, margins=())
    was = incumbent.chosen(queries, found.experts, policy, state, default)
    plain = was
    if incumbent.before is not None:
        plain = replace(incumbent, before=None).chosen(queries, found.experts, policy, state, default)
    free, held = (
        np.array([choice.seats[0] for choice in policy.decide(one, state)], np.int64)
        for one in (found, replace(found, incumbents=plain))
    )
    return Drift(
        len(was), float((was != free).mean()), float(unjustified(was, free, found.quality).mean()),
        float(unjustified(was, held, found.quality).mean()),
    )  # fmt: skip


def unjustified(before: Ints, after: Ints, quality: Matrix) -> NDArray[np.bool_]:
    """Of each query, whether its expert changed though the new estimates (n, e) expect nothing better of the change."""
    rows, known = np.arange(len(after)), before >= 0
    gain = quality[rows, after] - quality[rows, np.where(known, before, after)]
    return known & (before != after) & (gain <= 0)


def _over(found: Estimates, order: Sequence[int], names: Sequence[str]) -> Estimates:
    """The estimates with their columns in this order; -1 is an expert of which nothing was known."""
    pick, known = np.maximum(order, 0), np.array(order) >= 0

    def table(values: Matrix, otherwise: float) -> Matrix:
        return np.where(known, values[:, pick], np.float32(otherwise)).astype(np.float32)

    default = list(order).index(found.default) if found.default in order else -1
    margins = tuple(found.margins[i] if i >= 0 else 0.0 for i in order) if found.margins and default >= 0 else ()
    return Estimates(
        tuple(names), table(found.quality, 0.0), table(found.uncertainty, 0.0), table(found.tokens, np.nan),
        table(found.latency_ms, np.nan), default, found.notes, margins,
    )  # fmt: skip


def _only(state: Situation, known: NDArray[np.bool_]) -> Situation:
    return Situation(state.cost_usd, state.load, state.allowed & known, state.allowance)
