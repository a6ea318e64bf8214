"""Do probabilities mean what they say: reliability diagrams and the expected calibration error.

Source: Guo et al., On Calibration of Modern Neural Networks (2017), equation 3: the bins' gaps between mean confidence
and mean outcome, weighted by their sizes; equal-width bins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

BINS = 15


class Bin(NamedTuple):
    """`low` to `high`: what was predicted; `confidence`: its mean; `outcome`: the mean of what came; `count`."""

    low: float
    high: float
    confidence: float
    outcome: float
    count: int  # pyright: ignore[reportIncompatibleMethodOverride]


@dataclass(frozen=True, slots=True)
class Reliability:
    """`ece` in 0 to 1; only bins that hold something; `brier`: mean squared distance from the outcome."""

    ece: float
    brier: float
    count: int
    bins: tuple[Bin, ...]


def reliability(confidence: NDArray[Any], outcome: NDArray[Any], bins: int = BINS) -> Reliability:
    """Of predictions 0 to 1 and outcomes 0 to 1 of any equal shape; pairs with an unknown outcome are left out."""
    said, came = np.asarray(confidence, np.float64).ravel(), np.asarray(outcome, np.float64).ravel()
    known = np.isfinite(came) & np.isfinite(said)
    said, came = said[known], came[known]
    if not len(said):
        return Reliability(float("nan"), float("nan"), 0, ())
    place = np.clip((said * bins).astype(np.int64), 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    mean_said = np.bincount(place, said, bins) / np.maximum(count, 1)
    mean_came = np.bincount(place, came, bins) / np.maximum(count, 1)
    ece = float((count * np.abs(mean_said - mean_came)).sum() / len(said))
    rows = tuple(
        Bin(i / bins, (i + 1) / bins, float(mean_said[i]), float(mean_came[i]), int(count[i]))
        for i in range(bins) if count[i]
    )  # fmt: skip
    return Reliability(ece, float(((said - came) ** 2).mean()), len(said), rows)
