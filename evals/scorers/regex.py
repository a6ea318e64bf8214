"""`regex`: the reference is a regular expression that the answer must match somewhere (or wholly)."""

from __future__ import annotations

import re

from pydantic import BaseModel, ConfigDict

from evals.sample import Said, Sample, Score, ScorerParts
from evals.scorers.exact import references


class Options(BaseModel):
    """`whole`: the whole text must match. `case`: case counts."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    whole: bool = False
    case: bool = False


class Regex:
    def __init__(self, options: Options) -> None:
        self._options = options

    def check(self, sample: Sample) -> None:
        self._patterns(sample)

    def _patterns(self, sample: Sample) -> list[re.Pattern[str]]:
        flags = re.MULTILINE | (0 if self._options.case else re.IGNORECASE)
        try:
            return [re.compile(reference, flags) for reference in references(sample)]
        except re.error as fault:
            raise ValueError(f"sample {sample.id}: reference: not a regular expression: {fault}") from fault

    async def score(self, sample: Sample, said: Said) -> Score:
        text = said.text.strip()
        for pattern in self._patterns(sample):
            found = pattern.fullmatch(text) if self._options.whole else pattern.search(text)
            if found:
                return Score(1.0, f"matched {found[0][:200]!r}")
        return Score(0.0, "no match")


def build(options: Options, parts: ScorerParts) -> Regex:
    return Regex(options)
