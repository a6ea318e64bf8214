"""Reading samples: published files, and files of one's own.

A file of one's own has one object a line: `{id, prompt | messages, reference?, scorer?, options?, task?, follow_ups?,
split?}`. `scorer` is a name, or `{name, options…}`; without one it is `exact`.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import orjson

from evals.sample import Sample, ask
from experts.errors import ConfigError

KEYS = frozenset({"id", "prompt", "messages", "reference", "scorer", "options", "task", "follow_ups", "split"})


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON lines file. Raises ConfigError where there is none, naming the line that is wrong."""
    if not path.exists():
        raise ConfigError(f"{path}: no such file; --data FOLDER or CONSILIUM_DATA says where published data sets are")
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row: object = orjson.loads(line)
            except orjson.JSONDecodeError as fault:
                raise ConfigError(f"{path}:{number}: not JSON: {fault}") from fault
            if not isinstance(row, dict):
                raise ConfigError(f"{path}:{number}: expected an object, got {type(row).__name__}")
            yield cast(dict[str, Any], row)


def own_samples(path: Path) -> list[Sample]:
    """Raises ConfigError with the line and what is wrong with it."""
    found: list[Sample] = []
    for number, row in enumerate(rows(path), 1):
        try:
            found.append(_sample(row, str(number)))
        except (ValueError, TypeError) as fault:
            raise ConfigError(f"{path}: sample {number}: {fault}") from fault
    return found


def _sample(row: dict[str, Any], fallback: str) -> Sample:
    if unknown := sorted(row.keys() - KEYS):
        raise ValueError(f"{unknown[0]}: no such key; known are {', '.join(sorted(KEYS))}")
    if ("prompt" in row) == ("messages" in row):
        raise ValueError("expected either prompt or messages")
    turns = ask(_text(row, "prompt")) if "prompt" in row else tuple(row["messages"])
    if not turns or not all(isinstance(turn, dict) and "role" in turn for turn in turns):
        raise ValueError('messages: expected a list of {"role": …, "content": …}')
    scorer, options = row.get("scorer", "exact"), dict(row.get("options") or {})
    if isinstance(scorer, dict):
        options |= {key: value for key, value in cast(dict[str, Any], scorer).items() if key != "name"}
        scorer = cast(dict[str, Any], scorer).get("name")
    if not isinstance(scorer, str):
        raise ValueError(f"scorer: expected a name or {{name, options…}}, got {scorer!r}")
    return Sample(
        str(row.get("id", fallback)), cast(tuple[dict[str, Any], ...], turns), scorer, row.get("reference"),
        str(row.get("task") or ""), options, tuple(row.get("follow_ups") or ()), str(row.get("split") or ""),
    )  # fmt: skip


def _text(row: dict[str, Any], key: str) -> str:
    if not isinstance(row[key], str) or not row[key]:
        raise ValueError(f"{key}: expected a text, got {row[key]!r}")
    return row[key]
