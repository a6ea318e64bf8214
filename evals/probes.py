"""Which queries to ask a new expert first: those that tell experts apart, spread over what is asked."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from experts.protocols import Vectors

FLAT = 0.02
"""Weight of a query on which all known experts agree: next to nothing, so that it is chosen last."""


def choose_probes(scores: NDArray[Any], vectors: Vectors, count: int) -> NDArray[np.int64]:
    """Rows to measure a new expert on, best first, shape (min(count, n),).

    `scores` (n, e) of the experts that are known already. A query that all of them solve, or none, says little of a
    newcomer; so each is weighed by the variance of its scores, and rows are taken by farthest-first traversal of the
    unit vectors under these weights (Gonzalez 1985): always the row with the largest weight times distance to the rows
    already chosen. Prefixes are choices too: the first 50 of 100 probes are the 50 probes.
    """
    known = np.isfinite(scores)
    filled = np.where(known, scores, 0.0)
    seen = np.maximum(known.sum(1), 1)
    mean = filled.sum(1) / seen
    weight = np.where(known, (filled - mean[:, None]) ** 2, 0).sum(1) / seen + FLAT
    nearest = np.ones(len(weight))
    chosen: list[int] = []
    for _ in range(min(count, len(weight))):
        worth = weight * nearest
        worth[chosen] = -1.0
        row = int(np.argmax(worth))
        chosen.append(row)
        nearest = np.minimum(nearest, np.clip(1.0 - vectors @ vectors[row], 0.0, 1.0))
    return np.array(chosen, np.int64)
