"""MT-Bench: eighty conversations of two turns, graded by a judge (Zheng et al. 2023, arXiv 2306.05685)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from evals.sample import Sample, ask
from evals.suites._jsonl import rows


class Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, slots=True)
class MtBench:
    data: Path

    def samples(self) -> list[Sample]:
        return [
            Sample(
                f"mt_bench/{row['question_id']}", ask(row["turns"][0]), "judge",
                "\n\n".join(row["gpt4_reference"]) if row["gpt4_reference"] else None, row["category"],
                follow_ups=tuple(row["turns"][1:]),
            )
            for row in rows(self.data / "evals" / "mt_bench" / "mt_bench.jsonl.gz")
        ]  # fmt: skip


def build(options: Options, data: Path) -> MtBench:
    return MtBench(data)
