"""`numeric`: the final answer's number is the reference's. Currency, thousands commas and fractions go."""

from __future__ import annotations

from fractions import Fraction

from pydantic import BaseModel, ConfigDict, Field

from evals.sample import Said, Sample, Score, ScorerParts
from evals.scorers.exact import references
from router.answers._texts import numbers
from router.answers.number import stated


class Options(BaseModel):
    """`relative`, `absolute`: how far off a number may be; it is right within either."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    relative: float = Field(default=1e-6, ge=0)
    absolute: float = Field(default=0.0, ge=0)


class Numeric:
    def __init__(self, options: Options) -> None:
        self._options = options

    def check(self, sample: Sample) -> None:
        self._wanted(sample)

    async def score(self, sample: Sample, said: Said) -> Score:
        wanted, given = self._wanted(sample), stated(said.text)
        if given is None:
            return Score(0.0, "no number in the answer")
        return Score(float(any(self._near(given, one) for one in wanted)), f"answered {float(given):g}")

    @staticmethod
    def _wanted(sample: Sample) -> list[Fraction]:
        found: list[Fraction] = []
        for reference in references(sample):
            told = numbers(reference)
            if not told:
                raise ValueError(f"sample {sample.id}: reference: expected a number, got {reference!r}")
            found.append(told[-1])
        return found

    def _near(self, given: Fraction, wanted: Fraction) -> bool:
        off = abs(given - wanted)
        return off <= abs(wanted) * Fraction(self._options.relative) or off <= Fraction(self._options.absolute)


def build(options: Options, parts: ScorerParts) -> Numeric:
    return Numeric(options)
