"""BIG-Bench Hard: 27 tasks of reasoning (Suzgun et al. 2022, arXiv 2210.09261). Letters and exact answers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from evals.sample import Sample, ask
from evals.suites._jsonl import rows

TAIL = "\n\nThink step by step, then end with a line `Answer: ` and the final answer alone."
_LETTER = re.compile(r"\([A-Z]\)")
_OPTION = re.compile(r"^\(([A-Z])\)\s*(.+)$", re.MULTILINE)


class Options(BaseModel):
    """`task`: one of the 27 alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    task: str | None = None


@dataclass(frozen=True, slots=True)
class Bbh:
    options: Options
    data: Path

    def samples(self) -> list[Sample]:
        found: list[Sample] = []
        for row in rows(self.data / "evals" / "bbh" / "bbh.jsonl.gz"):
            if self.options.task not in (None, row["task"]):
                continue
            lettered = _LETTER.fullmatch(row["target"]) is not None
            options = {"choices": dict(_OPTION.findall(row["input"]))} if lettered else {}
            found.append(
                Sample(row["_id"], ask(row["input"] + TAIL), "choice" if lettered else "exact", row["target"],
                       row["task"], options)
            )  # fmt: skip
        return found


def build(options: Options, data: Path) -> Bbh:
    return Bbh(options, data)
