"""`budget`: a mean budget in USD a query, held by a price of money learned from traffic.

Source: PORT (arXiv 2509.02718). With estimates d of quality and g of cost, the dual of "most quality within budget B a
query" is to minimise gamma B + mean over queries of max over experts of (d - gamma g); each query then goes to the
expert of the largest d - gamma g, and needs no knowledge of the queries to come. `learned_price` solves the dual, which
is convex and has one unknown, on the estimates of some hundred queries.
"""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from experts.errors import ConfigError
from router.plan import Estimates, Matrix
from router.policies._scores import allowed, nobody, rows
from router.protocols import Choice, Situation

STEPS = 60


class Options(BaseModel):
    """`price`: expected quality that one USD must buy, from `learned_price`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    price: float = Field(ge=0)
    spares: int = Field(default=3, ge=0)


def learned_price(quality: Matrix, cost_usd: Matrix, mean_usd: float) -> float:
    """The lowest price of money (quality a USD) at which these queries, (n, e), cost at most `mean_usd` on average.

    Raises ConfigError where even the cheapest expert of every query costs more than that.
    """
    cost = np.nan_to_num(np.asarray(cost_usd, np.float64))
    gain = np.asarray(quality, np.float64)
    if not len(gain):
        return 0.0
    least = float(cost.min(1).mean())
    if least > mean_usd:
        raise ConfigError(f"budget: expected a mean of at least {least:.3g} USD a query, got {mean_usd:.3g}")

    def spent(price: float) -> float:
        worth = gain - price * cost
        tied = worth >= worth.max(1, keepdims=True) - 1e-12
        return float(np.where(tied, cost, np.inf).min(1).mean())

    if spent(0.0) <= mean_usd:
        return 0.0
    low, high = 0.0, 1.0
    while spent(high) > mean_usd:
        low, high = high, high * 4
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if spent(middle) > mean_usd else (low, middle)
    return high


class Budget:
    def __init__(self, options: Options) -> None:
        self._options = options

    def decide(self, estimates: Estimates, situation: Situation) -> list[Choice]:
        price = self._options.price
        cost = np.nan_to_num(situation.cost_usd)
        scores = np.where(allowed(situation), estimates.quality - price * cost, -np.inf).astype(np.float32)
        choices: list[Choice] = []
        for row, own, usable in rows(scores):
            if not usable:
                choices.append(nobody(own))
                continue
            best = usable[0]
            quality, usd = float(estimates.quality[row, best]), float(cost[row, best])
            why = f"{estimates.experts[best]}: {quality:.2f} expected for {usd:.2g} USD, at {price:.3g} a USD"
            others = tuple(usable[1 : self._options.spares + 1])
            choices.append(Choice((best,), others, why, own))
        return choices


def build(options: Options) -> Budget:
    return Budget(options)
