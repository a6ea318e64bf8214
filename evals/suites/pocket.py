"""The pocket experts' five skills: questions made on the spot, nothing to read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from evals.sample import Sample, ask
from experts.pocket.questions import SKILLS, questions


class Options(BaseModel):
    """`each`: questions of each skill."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    each: int = Field(default=40, ge=1)
    split: Literal["test", "train"] = "test"
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Pocket:
    options: Options

    def samples(self) -> list[Sample]:
        options = self.options
        return [
            Sample(one.id, ask(one.prompt), "pocket", one.answer, skill, {"skill": skill})
            for skill in SKILLS
            for one in questions(skill, options.split, options.each, options.seed)
        ]


def build(options: Options, data: Path) -> Pocket:
    return Pocket(options)
