"""Profiling: every expert of a registry answers a suite, and the scores become outcomes that routers are fitted on."""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import time
from typing import Any

import orjson

from evals.journal import Journal
from evals.run import Item
from evals.sample import Sample, split_of
from experts.language import Card
from router.records.protocol import Records
from router.records.rows import Measured

BATCH = 1_000


def pairs(samples: Sequence[Sample], experts: Sequence[str]) -> list[Item]:
    """Every sample of every expert, sample by sample, so that an early stop leaves whole rows."""
    return [Item(sample, expert) for sample in samples for expert in experts]


def measured(
    items: Sequence[Item], journal: Journal, suite: str, skills: Mapping[str, tuple[str, ...]] | None = None
) -> list[Measured]:
    """The scored items as rows of the outcome store. An id is `suite/sample`; splits are 60/20/20 by its hash.

    `skills`: the words for what each sample takes, by its id.
    """
    rows: list[Measured] = []
    for item in items:
        score, answer = journal.scores.get(item.key), journal.answers.get(item.key)
        if score is None or answer is None:
            continue
        name = f"{suite}/{item.sample.id}"
        rows.append(
            Measured(
                id=name, expert=item.model, score=score.value, source="profile", time=answer.time or time(),
                task=item.sample.task or suite, split=item.sample.split or split_of(name), text=item.sample.prompt,
                tokens=float(answer.completion_tokens), cost_usd=answer.cost_usd, latency_ms=answer.latency_ms,
                skills=(skills or {}).get(item.sample.id, ()),
            )
        )  # fmt: skip
    return rows


def keep(rows: Sequence[Measured], records: Records) -> None:
    """Into the outcome store; rows that are there already are replaced. Raises Unrecorded."""
    for start in range(0, len(rows), BATCH):
        records.measure(rows[start : start + BATCH])


def outcome_rows(rows: Sequence[Measured]) -> list[dict[str, Any]]:
    """The same as lines of `outcomes.jsonl`, one a query."""
    queries: dict[str, dict[str, Any]] = {}
    for row in rows:
        line = queries.setdefault(row.id, {
            "id": row.id, "task": row.task, "split": row.split, "prompt": row.text, "scores": {}, "tokens": {},
            "cost_usd": {}, "latency_ms": {}, **({"skills": list(row.skills)} if row.skills else {}),
        })  # fmt: skip
        line["scores"][row.expert] = row.score
        for name in ("tokens", "cost_usd", "latency_ms"):
            value = getattr(row, name)
            if value is not None:
                line[name][row.expert] = value
    return list(queries.values())


def write(path: Path, rows: Sequence[Measured], cards: Mapping[str, Card]) -> Path:
    """`outcomes.jsonl.gz`, replaced whole, and `models.json` beside it; `path` names the file or its folder."""
    file = path if path.name.endswith((".jsonl", ".jsonl.gz")) else path / "outcomes.jsonl.gz"
    file.parent.mkdir(parents=True, exist_ok=True)
    data = b"".join(orjson.dumps(row) + b"\n" for row in outcome_rows(rows))
    _replace(file, gzip.compress(data, mtime=0) if file.suffix == ".gz" else data)
    models = {
        name: {"usd_per_million": {"input": cards[name].price.input, "output": cards[name].price.output},
               "description": cards[name].description, "skills": list(cards[name].skills),
               **({"params_b": cards[name].parameters_b} if cards[name].parameters_b else {})}
        for name in dict.fromkeys(row.expert for row in rows)
    }  # fmt: skip
    _replace(file.parent / "models.json", orjson.dumps(models, option=orjson.OPT_INDENT_2))
    return file


def _replace(path: Path, data: bytes) -> None:
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    part.replace(path)
