"""Banking77: 77 intents of bank customers (Casanueva et al. 2020, arXiv 2003.04807). The name is compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from evals.sample import Sample
from evals.suites._intents import Options, intents


@dataclass(frozen=True, slots=True)
class Banking77:
    options: Options
    data: Path

    def samples(self) -> list[Sample]:
        return intents(self.data / "intents" / "banking77" / "banking77.jsonl.gz", "banking77", self.options)


def build(options: Options, data: Path) -> Banking77:
    return Banking77(options, data)
