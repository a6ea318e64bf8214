"""GSM8K: grade-school word problems (Cobbe et al. 2021, arXiv 2110.14168). The final number is compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from evals.sample import Sample, ask
from evals.suites._jsonl import rows

TAIL = "\n\nThink step by step, then end with a line `Answer: ` and the final number alone."


class Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    split: Literal["test", "train"] = "test"


@dataclass(frozen=True, slots=True)
class Gsm8k:
    options: Options
    data: Path

    def samples(self) -> list[Sample]:
        path = self.data / "evals" / "gsm8k" / f"{self.options.split}.jsonl.gz"
        return [Sample(row["_id"], ask(row["question"] + TAIL), "numeric", row["final"], "gsm8k") for row in rows(path)]


def build(options: Options, data: Path) -> Gsm8k:
    return Gsm8k(options, data)
