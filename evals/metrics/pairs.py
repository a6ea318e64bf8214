"""A strong and a weak expert: how much of the gap a share of strong calls recovers.

Source: RouteLLM (arXiv 2406.18665), section 3.2. PGR(c) is the quality at a share c of strong calls, from the weak
expert's (0) to the strong one's (1); APGR its mean over all shares (random routing: 0.5); CPT(x) the least share at
which PGR reaches x. The paper takes ten shares; `apgr` is the whole area, `apgr_10` the paper's trapezoids.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evals.metrics.quality import Interval, interval

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Pair:
    """`curve`: PGR at shares 0, 0.05, …, 1. Shares are 0 to 1."""

    n: int
    weak_quality: float
    strong_quality: float
    apgr: float
    ci95: Interval
    apgr_10: float
    cpt50: float
    cpt80: float
    curve: tuple[float, ...]


def pair(
    gain: NDArray[Any], strong: NDArray[Any], weak: NDArray[Any], *, resamples: int = 1000, seed: int = 0
) -> Pair | None:
    """From the estimated gain of the strong expert and both experts' scores, each (n,).

    Queries are given to the strong expert in order of estimated gain; ties in an order drawn with `seed`, so that an
    uninformed router comes out at random. None where the strong expert is not ahead on these queries: PGR divides by
    that lead.
    """
    known = np.isfinite(strong) & np.isfinite(weak)
    lead = (np.asarray(strong, np.float64) - np.asarray(weak, np.float64))[known]
    if not len(lead) or lead.sum() <= 0:
        return None
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(lead))
    lead = lead[shuffled][np.argsort(-np.asarray(gain, np.float64)[known][shuffled], kind="stable")]
    share = np.arange(len(lead) + 1) / len(lead)
    recovered = np.concatenate([[0.0], np.cumsum(lead)]) / lead.sum()
    tenths = np.linspace(0, 1, 11)
    draws = _draws(lead, resamples, rng)
    levels = [float(np.asarray(scores, np.float64)[known].mean()) for scores in (weak, strong)]
    return Pair(
        len(lead), levels[0], levels[1],
        float(np.trapezoid(recovered, share)), interval(draws) if len(draws) else Interval(float("nan"), float("nan")),  # pyright: ignore[reportUnknownArgumentType]
        float(np.trapezoid(np.interp(tenths, share, recovered), tenths)),  # pyright: ignore[reportUnknownArgumentType]
        _reaching(share, recovered, 0.5), _reaching(share, recovered, 0.8),
        tuple(float(value) for value in np.interp(np.linspace(0, 1, 21), share, recovered)),  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    )  # fmt: skip


def _reaching(share: Floats, recovered: Floats, target: float) -> float:
    return float(share[int(np.argmax(recovered >= target - 1e-12))])


def _draws(lead: Floats, resamples: int, rng: np.random.Generator) -> Floats:
    """APGR of resampled queries, in which the strong expert is ahead."""
    n, out = len(lead), np.zeros(0)
    for start in range(0, resamples, 100):
        weight = rng.multinomial(n, np.full(n, 1 / n), size=min(100, resamples - start)).astype(np.float64)
        gained = weight * lead
        total = gained.sum(1)
        before = np.cumsum(gained, axis=1) - gained / 2
        area = (weight * before).sum(1) / n
        good = total > 0
        out = np.concatenate([out, area[good] / total[good]])
    return out
