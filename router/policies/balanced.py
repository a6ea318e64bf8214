"""`balanced`, the default: quality minus the price of cost, latency and load; the best single expert when in doubt.

It leaves the best single expert (`Estimates.default`) only for one whose score is ahead by more than `caution`
standard deviations of the difference, and counts a lead in quality only where leads of that size have paid on held-out
outcomes (`Estimates.margins`): the safe policy improvement (Thomas et al., ICML 2015) of a router that must never be
worse than always asking that expert (the test of LLMRouterBench, arXiv 2601.07206, that most routers fail).

Where an estimator tells whom the one before it would have chosen (`Estimates.incumbents`, see `router.stability`), that
expert keeps the query unless another is now expected to be worth more.

Prices are in quality: `lambda` is how much expected quality one gives up to pay nothing rather than the dearest
allowed expert's price of this very query, so that it means the same whatever the currency of the prices, and never
outweighs a difference in quality larger than itself.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from router.plan import Estimates, Matrix
from router.policies._scores import Prices, allowed, nobody, ranked, score
from router.protocols import Choice, Situation

Preset = Literal["cheap", "balanced", "best"]


class Options(BaseModel):
    """`preset` gives the prices; `lambda`, `latency` and `load` override it one by one. `stability`: the largest share
    of frozen probe queries whose expert a new fit may change without a predicted gain; 1 sets no bound."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)
    preset: Preset = "balanced"
    lambda_: float | None = Field(default=None, ge=0, alias="lambda")
    latency: float | None = Field(default=None, ge=0)
    load: float | None = Field(default=None, ge=0)
    caution: float = Field(default=0.1, ge=0)
    spares: int = Field(default=3, ge=0)
    stability: float = Field(default=0.05, ge=0, le=1)

    @property
    def prices(self) -> Prices:
        match self.preset:
            case "cheap":
                base = Prices(cost=0.15, latency=0.02, load=0.05)
            case "balanced":
                base = Prices(cost=0.005, latency=0.005, load=0.03)
            case "best":
                base = Prices(cost=0.0, latency=0.0, load=0.0)
        return Prices(
            base.cost if self.lambda_ is None else self.lambda_,
            base.latency if self.latency is None else self.latency,
            base.load if self.load is None else self.load,
        )


def proven(estimates: Estimates) -> tuple[Estimates, list[int]]:
    """The estimates with leads on the default that are within their margin taken off; prices still tell them apart.

    And for every row the column whose lead was taken off, the largest if there were several, -1 where none was.
    """
    if estimates.default < 0 or not any(estimates.margins):
        return estimates, [-1] * len(estimates.quality)
    quality, base = estimates.quality, estimates.quality[:, estimates.default][:, None]
    lead = quality - base
    within = (lead > 0) & (lead <= np.asarray(estimates.margins, np.float32))
    largest = np.where(within.any(1), np.where(within, lead, -1).argmax(1), -1)
    return replace(estimates, quality=np.where(within, base, quality)), largest.tolist()


class Balanced:
    def __init__(self, options: Options) -> None:
        self._options = options
        self._prices = options.prices

    @property
    def stability(self) -> float:
        return self._options.stability

    def decide(self, estimates: Estimates, situation: Situation) -> list[Choice]:
        counted, withheld = proven(estimates)
        scores = score(counted, situation, self._prices)
        order, counts = ranked(scores, self._options.spares + 1)
        first = [columns[0] if count else -1 for columns, count in zip(order, counts, strict=True)]
        held = _held(estimates, scores, may := allowed(situation))
        safe, gain, doubt = self._against_default(estimates, scores, np.asarray(first, np.int64), may)
        names, quality = estimates.experts, estimates.quality
        choices: list[Choice] = []
        for row, (columns, count) in enumerate(zip(order, counts, strict=True)):
            if not count:
                choices.append(nobody(scores[row]))
                continue
            best = first[row]
            if safe[row] >= 0 and best != safe[row]:
                keep = gain[row] <= doubt[row]
                chosen = safe[row] if keep else best
                reason = (
                    f"{names[chosen]} is the best single expert; {names[best]} is ahead by {gain[row]:.3f}, within its "
                    f"uncertainty of {doubt[row]:.3f}"
                    if keep
                    else f"{names[best]} is expected at {quality[row, best]:.2f}, ahead of {names[safe[row]]}, the "
                    f"best single expert, by {gain[row]:.3f} (uncertainty {doubt[row]:.3f})"
                )
            elif best == safe[row] and withheld[row] >= 0:
                chosen, other = best, withheld[row]
                reason = (
                    f"{names[best]} is the best single expert; {names[other]} is expected to be ahead by "
                    f"{quality[row, other] - quality[row, best]:.3f}, and leads of that size have not paid"
                )
            else:
                chosen = best
                reason = f"{names[best]} is expected at {quality[row, best]:.2f}, the highest score"
            stays = held[row]
            if stays >= 0 and stays != chosen and scores[row, chosen] <= scores[row, stays]:
                reason = (
                    f"{names[stays]} was chosen before the last fit; {names[chosen]} is expected at "
                    f"{quality[row, chosen]:.2f}, no better than its {quality[row, stays]:.2f}"
                )
                chosen = stays
            others = [column for column in columns[:count] if column != chosen]
            choices.append(Choice((chosen,), tuple(others[: self._options.spares]), reason, scores[row]))
        return choices

    def _against_default(
        self, estimates: Estimates, scores: Matrix, first: np.ndarray, may: np.ndarray
    ) -> tuple[list[int], list[float], list[float]]:
        """Per row: the default's column (-1 where it is not allowed), the first's lead on it, and what it must be."""
        rows, default = np.arange(len(scores)), estimates.default
        if default < 0:
            nothing = [0.0] * len(scores)
            return [-1] * len(scores), nothing, nothing
        usable = may[:, default] & (first >= 0)
        best = np.where(usable, first, default)
        with np.errstate(invalid="ignore"):
            lead = scores[rows, best] - scores[:, default]
        spread = np.hypot(estimates.uncertainty[rows, best], estimates.uncertainty[:, default])
        safe = np.where(usable, default, -1)
        return safe.tolist(), np.where(usable, lead, 0).tolist(), (self._options.caution * spread).tolist()


def _held(estimates: Estimates, scores: Matrix, may: np.ndarray) -> list[int]:
    """The incumbent's column of each row, -1 where there is none or it is not allowed."""
    before = estimates.incumbents
    if before is None:
        return [-1] * len(scores)
    return np.where(may[np.arange(len(scores)), before], before, -1).tolist()


def build(options: Options) -> Balanced:
    return Balanced(options)
