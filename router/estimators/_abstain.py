"""When to leave the best single expert: only for leads of a size that has paid on held-out outcomes, beyond chance.

Source: high-confidence policy improvement (Thomas, Theocharous, Ghavamzadeh, ICML 2015). The candidates are policies
that leave the best single expert for one whose cross-fitted estimate leads by more than a margin; each has a gain over
never leaving it, measured on the rows where both have scores. The smallest margin whose gain is above zero with
confidence is kept; where there is none, the margin is NEVER.
"""

from __future__ import annotations

import numpy as np

from router.estimators._evidence import CONFIDENCE, Floats

NEVER = 1.0
"""A lead in quality that no expert has: quality is 0 to 1."""
MARGINS = (0.0, 0.01, 0.02, 0.04, 0.08, 0.16)
FEWEST = 30
"""Rows on which another expert leads and both have scores; with fewer nothing is known, and nothing is withheld."""


def margin(guess: Floats, scores: Floats, best: int) -> float:
    """The lead from which leaving column `best` pays. `guess` (n, e) is cross-fitted; `scores` (n, e), NaN: unknown."""
    rows = np.arange(len(guess))
    first = guess.argmax(1)
    gain = scores[rows, first] - scores[:, best]
    lead = guess[rows, first] - guess[:, best]
    use = np.isfinite(gain)
    gain, lead = gain[use], lead[use]
    if (lead > 0).sum() < FEWEST:
        return 0.0
    return next((least for least in MARGINS if _bound(np.where(lead > least, gain, 0.0)) > 0), NEVER)


def _bound(gain: Floats) -> float:
    return float(gain.mean() - CONFIDENCE * gain.std() / np.sqrt(len(gain)))
