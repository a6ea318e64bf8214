"""`budget`: a mean budget in USD a query, or a total over a stream of them, held by a price of money.

Source: PORT (arXiv 2509.02718). With estimates d of quality and g of cost, the dual of "most quality within budget B a
query" is to minimise gamma B + mean over queries of max over experts of (d - gamma g); each query then goes to the
expert of the largest d - gamma g, and needs no knowledge of the queries to come. `learned_price` solves the dual, which
is convex and has one unknown, on the estimates of some hundred queries.

The price is given (`price`: `consilium eval tune --cost` finds it), or learned online from the queries that come
(`mean_usd`, `total_usd`): anew at the 1st, 2nd, 4th … and then at every `learn`/4-th of them, on the last `learn`, for
what is left. What is counted is what each choice was expected to cost. A decision that is remembered for an equal query
is not counted again, and each process counts for itself: the hard limit on one request is the route's `budget`.
"""

from __future__ import annotations

from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from experts.errors import ConfigError
from router.plan import Estimates, Matrix
from router.policies._scores import allowed, nobody, rows
from router.protocols import Choice, Situation

STEPS = 60
CHEAPEST = 1e12
"""A price of money at which nothing but cost counts."""


class Options(BaseModel):
    """One of `price` (expected quality that one USD must buy), `mean_usd` a query, or `total_usd` for `queries`.

    `learn`: on how many of the last queries the price is learned.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    price: float | None = Field(default=None, ge=0)
    mean_usd: float | None = Field(default=None, ge=0)
    total_usd: float | None = Field(default=None, ge=0)
    queries: int | None = Field(default=None, ge=1)
    learn: int = Field(default=256, ge=4)
    spares: int = Field(default=3, ge=0)

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = [name for name in ("price", "mean_usd", "total_usd") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"expected one of price, mean_usd, total_usd; got {', '.join(given) or 'none'}")
        if (self.total_usd is None) != (self.queries is None):
            raise ValueError("total_usd and queries go together: the total is spread over that many queries")
        return self


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


class Ledger:
    """The price in force, and what it is learned from: expected quality and cost (n, e) of the last queries."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._seen, self._due, self._spent = 0, 1, 0.0
        self._quality: list[Matrix] = []
        self._cost: list[Matrix] = []
        self.price = options.price or 0.0

    def room(self) -> int | None:
        """How many queries are decided before the price is learned anew; None where it is given."""
        return None if self._options.price is not None else self._due - self._seen

    def took(self, quality: Matrix, cost: Matrix, spent: float) -> None:
        """Rows that were decided, -inf quality where an expert was not allowed, and what they are expected to cost."""
        if self._options.price is not None:
            return
        learn = self._options.learn
        self._quality, self._cost = [*self._quality, *quality][-learn:], [*self._cost, *cost][-learn:]
        self._seen, self._spent = self._seen + len(quality), self._spent + spent
        if self._seen < self._due:
            return
        self._due += min(self._due, max(learn // 4, 1))
        try:
            self.price = learned_price(np.array(self._quality), np.array(self._cost), self._left())
        except ConfigError:
            self.price = CHEAPEST

    def _left(self) -> float:
        """USD that the next queries may cost on average, so that all of them keep the budget."""
        if self._options.mean_usd is not None:
            ahead = self._options.learn
            return max(self._options.mean_usd * (self._seen + ahead) - self._spent, 0.0) / ahead
        assert self._options.total_usd is not None
        assert self._options.queries is not None
        ahead = self._options.queries - self._seen
        return max(self._options.total_usd - self._spent, 0.0) / ahead if ahead > 0 else 0.0


class Budget:
    def __init__(self, options: Options) -> None:
        self._options = options
        self._ledger = Ledger(options)

    def decide(self, estimates: Estimates, situation: Situation) -> list[Choice]:
        may = allowed(situation)
        cost = np.where(may, np.nan_to_num(situation.cost_usd), np.inf)
        quality = np.where(may, estimates.quality, -np.inf)
        choices: list[Choice] = []
        while len(choices) < len(quality):
            first, room = len(choices), self._ledger.room()
            part = slice(first, None if room is None else first + room)
            choices += self._priced(estimates, quality[part], cost[part], self._ledger.price)
            seats = [(row, choice.seats[0]) for row, choice in enumerate(choices[first:], first) if choice.seats]
            spent = float(sum(cost[row, seat] for row, seat in seats))
            chosen = [row for row, _ in seats]
            self._ledger.took(quality[chosen], cost[chosen], spent)
        return choices

    def _priced(self, estimates: Estimates, quality: Matrix, cost: Matrix, price: float) -> list[Choice]:
        scores = np.where(np.isfinite(quality), quality - price * np.where(np.isfinite(cost), cost, 0), -np.inf)
        out: list[Choice] = []
        for row, own, usable in rows(scores.astype(np.float32)):
            if not usable:
                out.append(nobody(own))
                continue
            best = usable[0]
            expected, usd = float(quality[row, best]), float(cost[row, best])
            why = f"{estimates.experts[best]}: {expected:.2f} expected for {usd:.2g} USD, at {price:.3g} a USD"
            out.append(Choice((best,), tuple(usable[1 : self._options.spares + 1]), why, own))
        return out


def build(options: Options) -> Budget:
    return Budget(options)
