"""`contains`: the answer holds the reference, but for case and spaces; of several references, any of them, or all."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict

from evals.sample import Said, Sample, Score, ScorerParts
from evals.scorers.exact import references


class Options(BaseModel):
    """`need`: `any` of the references, `all` of them, or the `share` of them found."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    need: Literal["any", "all", "share"] = "any"


class Contains:
    def __init__(self, options: Options) -> None:
        self._options = options

    def check(self, sample: Sample) -> None:
        references(sample)

    async def score(self, sample: Sample, said: Said) -> Score:
        text, wanted = _flat(said.text), references(sample)
        found = [one for one in wanted if _flat(one) in text]
        match self._options.need:
            case "any":
                value = float(bool(found))
            case "all":
                value = float(len(found) == len(wanted))
            case "share":
                value = len(found) / len(wanted)
        return Score(value, f"{len(found)} of {len(wanted)} found")


def _flat(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().casefold()


def build(options: Options, parts: ScorerParts) -> Contains:
    return Contains(options)
