"""`threshold`: a strong and a weak expert; the strong one is asked where it is expected to be that much better.

Source: RouteLLM (arXiv 2406.18665). The threshold on the estimated gain is either given, or calibrated so that a
target share of given traffic goes to the strong expert: `calibrated_threshold` on that traffic's estimates.
"""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from experts.errors import ConfigError
from router.plan import Estimates, Matrix
from router.policies._scores import allowed, nobody, rows
from router.protocols import Choice, Situation


class Options(BaseModel):
    """`strong`, `weak`: names of experts; `threshold`: the gain in expected quality from which the strong is asked."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    strong: str
    weak: str
    threshold: float = Field(default=0.0, ge=-1, le=1)
    spares: int = Field(default=3, ge=0)


def calibrated_threshold(gains: Matrix, share: float) -> float:
    """The threshold at which `share` of these gains (n,) are at or above it. Raises ConfigError on a bad share."""
    if not 0 <= share <= 1:
        raise ConfigError(f"threshold: share of strong calls: expected 0 to 1, got {share}")
    if not len(gains) or share == 0:
        return 1.0
    return float(np.quantile(np.asarray(gains, np.float64), 1 - share, method="lower"))


class Threshold:
    def __init__(self, options: Options) -> None:
        self._options = options

    def gains(self, estimates: Estimates) -> Matrix:
        """The strong expert's expected lead on the weak one, shape (n,): what is thresholded, what APGR ranks by."""
        strong, weak = self._columns(estimates)
        return estimates.quality[:, strong] - estimates.quality[:, weak]

    def decide(self, estimates: Estimates, situation: Situation) -> list[Choice]:
        """Raises ConfigError where the route lacks one of the two experts."""
        strong, weak = self._columns(estimates)
        names, limit = self._options, self._options.threshold
        gains, scores = self.gains(estimates), np.where(allowed(situation), estimates.quality, -np.inf)
        choices: list[Choice] = []
        for row, own, usable in rows(scores):
            if not usable:
                choices.append(nobody(own))
                continue
            gain = float(gains[row])
            pair = (strong, weak) if gain >= limit else (weak, strong)
            chosen = next((column for column in pair if column in usable), usable[0])
            why = f"gain of {names.strong} over {names.weak} is {gain:.3f}, threshold {limit:.3f}"
            others = tuple(column for column in usable if column != chosen)[: names.spares]
            choices.append(Choice((chosen,), others, why, own))
        return choices

    def _columns(self, estimates: Estimates) -> tuple[int, int]:
        names = estimates.experts
        for option in ("strong", "weak"):
            if (name := getattr(self._options, option)) not in names:
                known = ", ".join(names)
                raise ConfigError(f"threshold.{option}: expected an expert of the route ({known}), got {name!r}")
        return names.index(self._options.strong), names.index(self._options.weak)


def build(options: Options) -> Threshold:
    return Threshold(options)
