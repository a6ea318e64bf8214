"""What the policies share: estimates minus prices, with forbidden experts out of the running."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router.plan import Estimates, Matrix
from router.protocols import Choice, Situation

NONE_ALLOWED = "no expert meets the request's hard constraints"


@dataclass(frozen=True, slots=True)
class Prices:
    """What is given up, in quality, rather than pay: from nothing to the dearest or slowest allowed expert's
    price of this query; and from an idle expert to a full one."""

    cost: float
    latency: float
    load: float


def allowed(situation: Situation) -> NDArray[np.bool_]:
    return np.asarray(situation.allowed, bool)


def relative(values: Matrix, may: NDArray[np.bool_]) -> Matrix:
    """Each row divided by its largest allowed value; unknown counts as the mean of the known. Shape (n, e), 0 to 1."""
    known = np.isfinite(values) & may
    held = np.where(known, values, 0)
    mean = held.sum(1, keepdims=True) / np.maximum(known.sum(1, keepdims=True), 1)
    filled = np.where(np.isfinite(values), values, mean)
    most = np.where(may, filled, 0).max(1, keepdims=True, initial=0)
    return (filled / np.where(most > 0, most, 1)).astype(np.float32)


def score(estimates: Estimates, situation: Situation, prices: Prices) -> Matrix:
    """Quality minus prices, -inf where the expert is not allowed. Shape (n, e)."""
    may = allowed(situation)
    value = estimates.quality.astype(np.float32, copy=True)
    if prices.cost:
        value -= prices.cost * relative(situation.cost_usd, may)
    if prices.latency:
        value -= prices.latency * relative(estimates.latency_ms, may)
    if prices.load:
        value -= prices.load * np.asarray(situation.load, np.float32)[None, :]
    return np.where(may, value, np.float32(-np.inf))


def ranked(scores: Matrix, most: int | None = None) -> tuple[list[list[int]], list[int]]:
    """Columns of each row, best first (ties: the lower column), `most` of them; and how many columns are allowed."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :most]
    return order.tolist(), np.isfinite(scores).sum(1).tolist()


def nobody(scores: Matrix) -> Choice:
    return Choice((), (), NONE_ALLOWED, scores)


def rows(scores: Matrix) -> Iterator[tuple[int, Matrix, list[int]]]:
    """Number, scores and allowed columns, best first, of every row."""
    order, counts = ranked(scores)
    for row, (columns, count) in enumerate(zip(order, counts, strict=True)):
        yield row, scores[row], columns[:count]
