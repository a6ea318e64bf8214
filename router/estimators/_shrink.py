"""Averages of few outcomes, shrunk toward each expert's mean.

A score is split as y[i, e] = prior[e] + difficulty[i] + specialty[i, e]. Only the last part matters for choosing an
expert; the middle one, common to all experts, is most of the variance, so the two are smoothed apart: taking a row's
mean off removes noise that all experts share (a paired comparison).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from router.estimators._evidence import Floats

STRENGTHS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 1024.0)


@dataclass(frozen=True, slots=True)
class Shrinkage:
    """How many outcomes the prior is worth, for what experts share and for what sets each apart."""

    difficulty: float = 20.0
    specialty: float = 20.0


def cells(sums: Floats, counts: Floats, prior: Floats, shrink: Shrinkage) -> tuple[Floats, Floats]:
    """Shrunken means of cells (c, e) from sums and counts of scores, and how much evidence each rests on.

    The residual from `prior` is split into the cell's mean over experts (difficulty) and the rest (specialty); each
    is multiplied by n / (n + strength), the posterior mean under normal priors (James and Stein; Efron and Morris).
    """
    residual = sums - counts * prior
    seen = np.maximum((counts > 0).sum(1, keepdims=True), 1)
    raw = residual.sum(1, keepdims=True) / np.maximum(counts.sum(1, keepdims=True), 1e-9)
    evidence = counts.sum(1, keepdims=True) / seen
    difficulty = raw * evidence / (evidence + shrink.difficulty)
    alone = seen == 1
    special = (residual - np.where(alone, 0.0, raw) * counts) / (counts + shrink.specialty)
    return prior + np.where(alone, 0.0, difficulty) + special, counts


def best_shrinkage(sums: Floats, counts: Floats, scores: Floats, prior: Floats) -> Shrinkage:
    """Strengths with the least squared error on held-out scores: specialty on rows' contrasts, then difficulty."""

    def contrast(table: Floats) -> Floats:
        return table - np.nanmean(table, axis=1, keepdims=True)

    def worse(shrink: Shrinkage, paired: bool) -> float:
        guess = np.where(np.isfinite(scores), cells(sums, counts, prior, shrink)[0], np.nan)
        wrong = contrast(guess) - contrast(scores) if paired else guess - scores
        return float(np.nanmean(wrong**2))

    paired = float(np.mean(np.isfinite(scores).sum(1) > 1)) > 0.5  # pyright: ignore[reportUnknownArgumentType]
    specialty = min(STRENGTHS, key=lambda s: worse(Shrinkage(16.0, s), paired))
    difficulty = min(STRENGTHS, key=lambda s: worse(Shrinkage(s, specialty), False))
    return Shrinkage(difficulty, specialty)


def contrast_error(guess: Floats, scores: Floats) -> float:
    """Mean squared error of what sets experts apart on a row; of the scores themselves where rows hold one score."""
    seen = np.isfinite(scores)
    guess = np.where(seen, guess, np.nan)
    if float(np.mean(seen.sum(1) > 1)) <= 0.5:  # pyright: ignore[reportUnknownArgumentType]
        return float(np.nanmean((guess - scores) ** 2))
    wrong = guess - scores
    return float(np.nanmean((wrong - np.nanmean(wrong, axis=1, keepdims=True)) ** 2))  # pyright: ignore[reportUnknownArgumentType]
