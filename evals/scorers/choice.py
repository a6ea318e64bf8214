"""`choice`: the letter that the answer settles on is the reference's: `(B)`, `B`, `B.`, `Answer: B) because …`.

An answer that gives an option's text instead of its letter is understood where `choices` lists the texts.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field

from evals.sample import Said, Sample, Score, ScorerParts
from evals.scorers.exact import references
from router.answers.choice import letter


class Options(BaseModel):
    """`choices`: the option's text for each letter."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    choices: Mapping[str, str] = Field(default_factory=dict[str, str])


class Choice:
    def __init__(self, options: Options) -> None:
        self._options = options

    def check(self, sample: Sample) -> None:
        references(sample)

    async def score(self, sample: Sample, said: Said) -> Score:
        wanted = {reference.strip().strip("().").upper() for reference in references(sample)}
        given = letter(said.text, self._options.choices)
        return Score(float(given in wanted), f"chose {given or 'nothing'}")


def build(options: Options, parts: ScorerParts) -> Choice:
    return Choice(options)
