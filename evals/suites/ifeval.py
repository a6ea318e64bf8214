"""IFEval: instructions that a program can check (Zhou et al. 2023, arXiv 2311.07911)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from evals.sample import Sample, ask
from evals.suites._jsonl import rows


class Options(BaseModel):
    """`loose`: the paper's loose criterion instead of the strict one."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    loose: bool = False


@dataclass(frozen=True, slots=True)
class IfEval:
    options: Options
    data: Path

    def samples(self) -> list[Sample]:
        return [
            Sample(
                f"ifeval/{row['key']}", ask(row["prompt"]), "ifeval",
                {"instruction_id_list": row["instruction_id_list"], "kwargs": row["kwargs"]},
                row["instruction_id_list"][0].partition(":")[0], {"loose": self.options.loose},
            )
            for row in rows(self.data / "evals" / "ifeval" / "ifeval.jsonl.gz")
        ]  # fmt: skip


def build(options: Options, data: Path) -> IfEval:
    return IfEval(options, data)
