"""Off-policy evaluation: what another policy would have earned on traffic that was already decided.

From the decision log's propensities p(a|x), the target's probabilities t(a|x) of the same choices, and rewards r:

    IPS   mean of w r,  w = t / p                      (Horvitz and Thompson 1952)
    SNIPS sum of w r / sum of w                        (Swaminathan and Joachims 2015)
    DR    mean of v + w (r - q)                        (Dudik, Langford, Li 2011)

q is what the gateway expected of its choice when it decided, so no reward leaks into it; v is the same for the target's
choices. Intervals are percentiles of a bootstrap over decisions. All three are right only for decisions whose target
choice had a chance (exploration above zero: `unsupported` says where not), and for the traffic that was rated: callers
who rate are not all callers. A reward is the rating of the decision, whoever answered it: a spare that stepped in is
part of what choosing an expert earns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from experts.errors import ConfigError
from router.decide import Route, choose
from router.plan import Queries
from router.protocols import Policy
from router.records.rows import Decision, Measured, unpacked

Floats = NDArray[np.float64]

RESAMPLES = 1_000
WHOLE = 0.999999
FEWEST_EXPLORED = 10
"""Explored decisions below which the bootstrap has not seen what exploring costs, and its interval is too narrow."""


@dataclass(frozen=True, slots=True)
class Logged:
    """Rated decisions, each array of shape (n,).

    `rewards` 0 to 1; `propensities` of the choices made; `target` the other policy's probability of the same choice;
    `expected` the estimate of that choice; `value` the expected reward of the target's own choices; `supported` whether
    the target's choice had a chance of being made.
    """

    rewards: Floats
    propensities: Floats
    target: Floats
    expected: Floats
    value: Floats
    supported: NDArray[np.bool_]

    @property
    def weights(self) -> Floats:
        return self.target / self.propensities


class Value(NamedTuple):
    """An estimate with its bootstrap 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What the target would have earned, beside what was earned (`logged`).

    `gain` is doubly robust minus logged, paired; what exploration costs is in both, so it is told only when enough
    decisions were `explored` (drawn against the odds): `telling`. `effective` is Kish's effective sample size of the
    weights; `unsupported` the share of decisions whose target choice could not have been made; `skipped` says how many
    decisions could not be used, and why.
    """

    n: int
    logged: Value
    ips: Value
    snips: Value
    dr: Value
    gain: Value
    effective: float
    largest_weight: float
    unsupported: float
    agrees: float
    explored: int
    skipped: Mapping[str, int]

    @property
    def telling(self) -> bool:
        """Whether the interval of `gain` can be relied on."""
        return self.explored >= FEWEST_EXPLORED

    def json(self) -> dict[str, Any]:
        found = {field.name: getattr(self, field.name) for field in fields(self)} | {"telling": self.telling}
        return {name: value._asdict() if isinstance(value, Value) else value for name, value in found.items()}


def ips(rewards: Floats, weights: Floats) -> float:
    return float(np.mean(weights * rewards))


def snips(rewards: Floats, weights: Floats) -> float:
    """NaN where no decision agrees with the target."""
    total = weights.sum()
    return float((weights * rewards).sum() / total) if total > 0 else float("nan")


def doubly_robust(rewards: Floats, weights: Floats, expected: Floats, value: Floats) -> float:
    return float(np.mean(value + weights * (rewards - expected)))


def evaluate(
    logged: Logged, *, seed: int = 0, resamples: int = RESAMPLES, skipped: Mapping[str, int] | None = None
) -> Evaluation:
    """Raises ConfigError where there is nothing to judge by."""
    n = len(logged.rewards)
    if n < 2:
        told = "; ".join(f"{count} {why}" for why, count in (skipped or {}).items()) or "none were logged"
        raise ConfigError(f"off-policy evaluation wants rated decisions, got {n} ({told})")
    rewards, weights, random = logged.rewards, logged.weights, np.random.default_rng(seed)

    def all_of(rows: Any) -> tuple[float, ...]:
        own, heavy = rewards[rows], weights[rows]
        robust = doubly_robust(own, heavy, logged.expected[rows], logged.value[rows])
        mean = float(own.mean())
        return mean, ips(own, heavy), snips(own, heavy), robust, robust - mean

    point = all_of(np.arange(n))
    drawn = np.array([all_of(random.integers(0, n, n)) for _ in range(resamples)])
    low, high = np.nanquantile(drawn, (0.025, 0.975), axis=0)
    values = [Value(*(round(float(x), 6) for x in one)) for one in zip(point, low, high, strict=True)]
    square = float((weights**2).sum())
    return Evaluation(
        n, *values, effective=round(float(weights.sum()) ** 2 / square, 2) if square else 0.0,
        largest_weight=round(float(weights.max()), 4), unsupported=round(float(np.mean(~logged.supported)), 4),
        agrees=round(float(np.mean(logged.target > 0.5)), 4),
        explored=int(np.sum(logged.propensities <= 0.5)), skipped=dict(skipped or {}),
    )  # fmt: skip


def rated(decisions: Sequence[Decision], measured: Sequence[Measured]) -> dict[str, float]:
    """The reward of each decision that somebody rated: the rating of who answered, else of the chosen expert."""
    by_id: dict[str, dict[str, float]] = {}
    for row in measured:
        if row.source == "feedback":
            by_id.setdefault(row.id, {})[row.expert] = row.score
    found: dict[str, float] = {}
    for one in decisions:
        scores = by_id.get(one.id, {})
        if one.answered in scores or one.expert in scores:
            found[one.id] = scores.get(one.answered, scores.get(one.expert, 0.0))
    return found


def logged(
    route: Route, decisions: Sequence[Decision], rewards: Mapping[str, float], *, preset: str = ""
) -> tuple[Logged, dict[str, int]]:
    """Rated decisions against what `route` would choose now; and how many could not be used, by reason.

    The target decides on the logged vectors, by the gateway's own code, with the experts that were ruled out then
    ruled out again, at no load. Its own exploration is part of its probabilities.
    """
    skipped: dict[str, int] = {}
    usable: list[Decision] = []
    for one in decisions:
        if why := _unusable(route, one, rewards):
            skipped[why] = skipped.get(why, 0) + 1
        else:
            usable.append(one)
    n, names = len(usable), route.names
    if not n or route.estimator is None:
        nothing = np.zeros(0)
        return Logged(nothing, nothing, nothing, nothing, nothing, np.zeros(0, bool)), skipped
    may = np.array([[name not in one.excluded for name in names] for one in usable])
    vectors = np.stack([unpacked(one.vector) for one in usable]) if route.embedding is not None else None
    chosen = choose(
        route, route.estimator, Queries([one.text for one in usable], vectors),
        prompt=np.array([one.prompt_tokens for one in usable], np.float32),
        limit=np.array([np.nan if one.max_tokens is None else one.max_tokens for one in usable], np.float32),
        load=np.zeros(len(names), np.float32), allowed=may, preset=preset,
    )  # fmt: skip
    target, expected, value, supported = np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n, bool)
    for row, (one, choice) in enumerate(zip(usable, chosen.choices, strict=True)):
        then = {estimate.expert: estimate.quality for estimate in one.estimates}
        now = dict(zip(names, chosen.estimates.quality[row].astype(float).tolist(), strict=True))
        shares = _shares(names, may[row], names[choice.seats[0]], route.explore)
        target[row] = shares.get(one.expert, 0.0)
        expected[row] = then.get(one.expert, now.get(one.expert, 0.5))
        value[row] = sum(share * then.get(name, now[name]) for name, share in shares.items())  # pyright: ignore[reportOperatorIssue, reportUnknownArgumentType]
        had = set(then) - set(one.excluded) if one.propensity < WHOLE else {one.expert}
        supported[row] = set(shares) <= had
    return Logged(
        np.array([rewards[one.id] for one in usable]), np.array([one.propensity for one in usable]), target, expected,
        value, supported,
    ), skipped  # fmt: skip


def _unusable(route: Route, one: Decision, rewards: Mapping[str, float]) -> str:
    if one.id not in rewards:
        return "not rated"
    if one.composer != "single":
        return "of several seats"
    if all(name in one.excluded for name in route.names):
        return "of which the route's experts could take none"
    if route.embedding is not None and (not one.vector or one.encoder != route.embedding.encoder.fingerprint):
        return "without a vector of this route's encoder"
    return ""


def _shares(names: Sequence[str], may: NDArray[np.bool_], best: str, explore: float) -> dict[str, float]:
    """The target's probability of each expert, zeros left out."""
    usable = [name for name, allowed in zip(names, may.tolist(), strict=True) if allowed]
    each = explore / len(usable) if len(usable) > 1 else 0.0
    shares = {name: each for name in usable if each}
    shares[best] = shares.get(best, 0.0) + 1 - each * len(usable)
    return shares


def with_policy(route: Route, policy: Policy) -> Route:
    """The same route under another policy."""
    return replace(route, policies={**route.policies, "": policy})
