"""Clinc150: 150 intents in ten domains, and `oos` for none (Larson et al. 2019, arXiv 1909.02027), by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from evals.sample import Sample
from evals.suites._intents import Options, intents


@dataclass(frozen=True, slots=True)
class Clinc150:
    options: Options
    data: Path

    def samples(self) -> list[Sample]:
        return intents(self.data / "intents" / "clinc150" / "clinc150.jsonl.gz", "clinc150", self.options)


def build(options: Options, data: Path) -> Clinc150:
    return Clinc150(options, data)
