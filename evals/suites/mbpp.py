"""MBPP, sanitized: short functions from a sentence (Austin et al. 2021, arXiv 2108.07732). Tests are run.

As published, the prompt shows the tests, which fix the function's name.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from evals.sample import Sample, ask
from evals.suites._jsonl import rows


class Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, slots=True)
class Mbpp:
    data: Path

    def samples(self) -> list[Sample]:
        found: list[Sample] = []
        for row in rows(self.data / "evals" / "mbpp_sanitized" / "mbpp_sanitized.jsonl.gz"):
            tests = "\n".join(row["test_list"])
            text = (f"{row['text']}\n\nReply with Python code in one code block. It must pass these tests:\n\n"
                    f"```python\n{tests}\n```")  # fmt: skip
            reference = {"tests": tests, "setup": row["test_setup_code"]}
            found.append(Sample(f"mbpp/{row['task_id']}", ask(text), "code", reference, "mbpp"))
        return found


def build(options: Options, data: Path) -> Mbpp:
    return Mbpp(data)
