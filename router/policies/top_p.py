"""`top-p`: the smallest set of experts whose probability mass passes p: more seats for harder queries, at most `most`.

Sources: Harder Tasks Need More Experts (arXiv 2403.07652) for the prefix of sorted probabilities; AdaMoE (arXiv
2406.13233) for null seats: `nulls` seats that mean "the default will do" share the mass, each with the default
expert's own score, so that an easy query is answered by the default alone.

An expert's mass is the probability that it is the best one: qualities as normal variables with their own uncertainty,
compared with the best of the others (a softmax at the temperature of that uncertainty).
"""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from router.plan import Estimates, Matrix
from router.policies._scores import Prices, nobody, rows, score
from router.protocols import Choice, Situation

SOFTMAX_OF_NORMAL = 0.7797
"""sqrt(6) / pi: the scale at which a Gumbel variable has unit standard deviation."""


class Options(BaseModel):
    """`p`: mass to pass; `most`: seats at most; `nulls`: seats for the default; `composer`: who joins the answers."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)
    p: float = Field(default=0.6, gt=0, le=1)
    most: int = Field(default=3, ge=1)
    nulls: int = Field(default=1, ge=0)
    lambda_: float = Field(default=0.005, ge=0, alias="lambda")
    composer: str = "council"
    spares: int = Field(default=3, ge=0)


class TopP:
    def __init__(self, options: Options) -> None:
        self._options = options

    def decide(self, estimates: Estimates, situation: Situation) -> list[Choice]:
        options = self._options
        scores = score(estimates, situation, Prices(options.lambda_, 0.0, 0.0))
        mass = masses(scores, estimates.uncertainty)
        null = self._null(estimates, scores, mass)
        choices: list[Choice] = []
        for row, own, usable in rows(scores):
            if not usable:
                choices.append(nobody(own))
                continue
            total = mass[row] / (1 + null[row])
            idle = float(null[row] / (1 + null[row]))
            seats = self._seats(usable, total, idle)
            covered = float(total[seats].sum()) + idle
            others = tuple(column for column in usable if column not in seats)[: options.spares]
            who = "seat holds" if len(seats) == 1 else "seats hold"
            why = f"{len(seats)} {who} {covered:.2f} of the mass, p is {options.p:.2f} (null seats {idle:.2f})"
            composer = "single" if len(seats) == 1 else options.composer
            choices.append(Choice(tuple(seats), others, why, own, composer))
        return choices

    def _null(self, estimates: Estimates, scores: Matrix, mass: Matrix) -> Matrix:
        """Mass of the null seats relative to all experts', shape (n,): the default's own, times their number."""
        if not self._options.nulls or estimates.default < 0:
            return np.zeros(len(mass), np.float32)
        return mass[:, estimates.default] * self._options.nulls

    def _seats(self, columns: list[int], mass: Matrix, idle: float) -> list[int]:
        seats, covered = list[int](), idle
        for column in columns[: self._options.most]:
            seats.append(column)
            covered += float(mass[column])
            if covered >= self._options.p:
                break
        return seats


def masses(scores: Matrix, uncertainty: Matrix) -> Matrix:
    """How likely each expert is the best of its row; rows add up to 1 (to 0 where nobody is allowed). Shape (n, e)."""
    may = np.isfinite(scores)
    spread = np.sqrt((np.where(may, uncertainty, 0) ** 2).sum(1) / np.maximum(may.sum(1), 1))
    top = np.where(may.any(1), scores.max(1, initial=-np.inf), 0.0)[:, None]
    behind = np.where(may, scores, top) - top
    raised = np.where(may, np.exp(behind / (SOFTMAX_OF_NORMAL * spread[:, None] + 1e-3)), 0)
    return (raised / np.maximum(raised.sum(1, keepdims=True), 1e-12)).astype(np.float32)


def build(options: Options) -> TopP:
    return TopP(options)
