"""`choice`: the letter that the answer settles on is the reference's: `(B)`, `B`, `B.`, `Answer: B) because …`.

An answer that gives an option's text instead of its letter is understood where `choices` lists the texts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field

from evals.sample import Said, Sample, Score, ScorerParts
from evals.scorers._answers import final, plain
from evals.scorers.exact import references

_BRACKETED = re.compile(r"\(([A-Z])\)")
_FIRST = re.compile(r"^(?:option\s+)?\(?([A-Za-z])(?:[).:,]|\s*$)", re.IGNORECASE)
_ALONE = re.compile(r"\b([A-Z])\b")


class Options(BaseModel):
    """`choices`: the option's text for each letter."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    choices: Mapping[str, str] = Field(default_factory=dict[str, str])


class Choice:
    def __init__(self, options: Options) -> None:
        self._options = options

    async def score(self, sample: Sample, said: Said) -> Score:
        wanted = {reference.strip().strip("().").upper() for reference in references(sample)}
        given = self._letter(said.text)
        return Score(float(given in wanted), f"chose {given or 'nothing'}")

    def _letter(self, text: str) -> str:
        answer = final(text)
        for pattern in (_BRACKETED, _FIRST):
            if match := pattern.search(answer):
                return match[1].upper()
        said = plain(answer)
        for letter, option in self._options.choices.items():
            if plain(option) == said:
                return letter.upper()
        alone = _ALONE.findall(answer) or _BRACKETED.findall(text)
        return alone[-1] if alone else ""


def build(options: Options, parts: ScorerParts) -> Choice:
    return Choice(options)
