"""Naming the intent of a short message out of a given list: shared by the two intent suites."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from evals.sample import Sample, ask
from evals.suites._jsonl import rows


class Options(BaseModel):
    """`split` of the published data; `per_intent`: at most so many messages of each intent (0: all)."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    split: str = "test"
    per_intent: int = Field(default=0, ge=0)


def intents(path: Path, name: str, options: Options) -> list[Sample]:
    """One sample a message; the prompt lists every intent of the data set, in alphabetical order."""
    read: list[dict[str, Any]] = list(rows(path))
    known = sorted({str(row["intent"]) for row in read})
    head = ("Which of these intents does the message have? Reply with the intent's name alone.\n\nIntents: "
            + ", ".join(known) + "\n\nMessage: ")  # fmt: skip
    taken: dict[str, int] = {}
    found: list[Sample] = []
    for row in read:
        intent = str(row["intent"])
        taken[intent] = taken.get(intent, 0) + (row["split"] == options.split)
        if row["split"] != options.split or 0 < options.per_intent < taken[intent]:
            continue
        task = str(row.get("domain") or name)
        found.append(Sample(f"{name}/{row['_id']}", ask(head + row["text"]), "exact", intent, task))
    return found
