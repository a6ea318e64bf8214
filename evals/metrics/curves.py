"""Quality against cost: hulls, AIQ (RouterBench, arXiv 2403.12031) and RouterArena's score (arXiv 2510.00202)."""

from __future__ import annotations

from collections.abc import Sequence
from math import log2
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

ARENA_DEAREST, ARENA_CHEAPEST, ARENA_BETA = 200.0, 0.0044, 0.1
"""USD per 1,000 queries at which RouterArena's cost score is 0 and 1, and the weight of cost beside accuracy."""


class Point(NamedTuple):
    """Mean cost of a query, in the outcome set's unit, and mean quality."""

    cost: float
    quality: float


def hull(points: Sequence[Point]) -> list[Point]:
    """The non-decreasing convex hull, cheapest first: what mixing these routers at random can reach."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda each: (each.cost, -each.quality)):
        if kept and point.quality <= kept[-1].quality:
            continue
        while len(kept) >= 2 and _below(kept[-2], kept[-1], point):
            kept.pop()
        kept.append(point)
    return kept


def _below(left: Point, middle: Point, right: Point) -> bool:
    rise = (middle.quality - left.quality) * (right.cost - left.cost)
    return rise <= (right.quality - left.quality) * (middle.cost - left.cost)


def aiq(points: Sequence[Point], cheapest: float, dearest: float) -> float | None:
    """Average improvement in quality, RouterBench's equation 6: the mean height of the hull over a span of costs.

    Left of its first point the released code counts nothing; here the hull starts at the origin, as a random mix of
    asking nobody and asking the cheapest would. Right of its last point it goes on level. None where the span is empty.
    """
    if not dearest > cheapest or not points:
        return None
    edge = [Point(0.0, 0.0), *hull(points)]
    costs, heights = np.array([p.cost for p in edge]), np.array([p.quality for p in edge])
    inside = costs[(costs > cheapest) & (costs < dearest)]
    at = np.concatenate([[cheapest], inside, [dearest]])
    return float(np.trapezoid(np.interp(at, costs, heights), at) / (dearest - cheapest))


def arena_score(accuracy: float, usd_per_1000: float) -> float:
    """RouterArena's score, 0 to 1: S = (1 + b) A C / (b A + C) with b = 0.1 and
    C = (log2 200 - log2 cost) / (log2 200 - log2 0.0044), cut to 0..1. `accuracy` 0 to 1; cost in USD.
    """
    span = log2(ARENA_DEAREST) - log2(ARENA_CHEAPEST)
    cost = min(max((log2(ARENA_DEAREST) - log2(max(usd_per_1000, 1e-12))) / span, 0.0), 1.0)
    below = ARENA_BETA * accuracy + cost
    return (1 + ARENA_BETA) * accuracy * cost / below if below > 0 else 0.0


def lambdas() -> NDArray[np.float64]:
    """Prices of cost at which the trade-off is drawn: 0, then evenly in ratio up to where cost is all that counts."""
    return np.concatenate([[0.0], np.geomspace(0.002, 4.0, 19)])
