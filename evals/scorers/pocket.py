"""`pocket`: a question of a pocket skill; for `sql`, two queries are equal when they give the same rows."""

from __future__ import annotations

import asyncio
from typing import Literal

from pydantic import BaseModel, ConfigDict

from evals.sample import Said, Sample, Score, ScorerParts
from experts.pocket.questions import Question, final_answer, right


class Options(BaseModel):
    """`skill`: which one the question is of."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    skill: Literal["calc", "text", "units", "geo", "sql"]


class Pocket:
    def __init__(self, options: Options) -> None:
        self._options = options

    async def score(self, sample: Sample, said: Said) -> Score:
        question = Question(sample.id, self._options.skill, sample.prompt, str(sample.reference), "", "test")
        value = await asyncio.to_thread(right, question, said.text)
        return Score(float(value), f"answered {final_answer(said.text)[:200]!r}")


def build(options: Options, parts: ScorerParts) -> Pocket:
    return Pocket(options)
