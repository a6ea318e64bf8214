"""HumanEval: functions written from their docstrings (Chen et al. 2021, arXiv 2107.03374). Tests are run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from evals.sample import Sample, ask
from evals.suites._jsonl import rows

HEAD = "Complete this Python function. Reply with all of it, its imports too, in one code block.\n\n```python\n"


class Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, slots=True)
class HumanEval:
    data: Path

    def samples(self) -> list[Sample]:
        return [
            Sample(
                row["task_id"], ask(f"{HEAD}{row['prompt']}```"), "code",
                {"prompt": row["prompt"], "entry_point": row["entry_point"],
                 "tests": f"{row['test']}\ncheck({row['entry_point']})"}, "humaneval",
            )
            for row in rows(self.data / "evals" / "humaneval" / "humaneval.jsonl.gz")
        ]  # fmt: skip


def build(options: Options, data: Path) -> HumanEval:
    return HumanEval(data)
