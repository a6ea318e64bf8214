"""`table`: a CSV, TSV or Parquet file of one's own, wide or long.

Wide, one query a row: a column of texts (`prompt`, `query`, `question` or `text`), optionally `id`, `task`, `split`,
`reference`, and a column of scores per expert: `score:NAME` (or `scores.NAME`), beside which `tokens:NAME`,
`response_chars:NAME`, `cost_usd:NAME` and `latency_ms:NAME` may stand. Where no column is called so, every column that
is not one of the above is an expert (a note says which; the caller can name them). Long, one query and expert a row: a
column `model` or `expert` with the name, a column `score` (or `performance`, `correct`), and `tokens`, `cost_usd`,
`latency_ms` likewise.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evals.outcomes.formats._columns import ENDINGS, header, number_of, records
from evals.outcomes.loaded import Loaded, Row, read_models
from experts.errors import ConfigError
from router.outcomes import MEASURES

TEXT = ("prompt", "query", "question", "text")
IDENTITY = ("id", "sample_id", "query_id")
TASK = ("task", "task_name", "eval_name", "dataset", "category")
EXPERT = ("expert", "model", "model_name")
SCORE = ("score", "performance", "correct")
OTHER = ("split", "reference")


def recognises(path: Path) -> bool:
    return path.is_file() and path.name.endswith(ENDINGS)


def read(path: Path, experts: Sequence[str] = ()) -> Loaded:
    columns = header(path)
    loaded = Loaded(models=read_models(path.parent / "models.json"))
    if not columns:
        next(records(path, loaded), None)  # says what is missing, where that is why there are none
        raise ConfigError(f"{path}: expected a table with a header, found no columns")
    text = _first(columns, TEXT)
    if text is None:
        raise ConfigError(f"{path}: expected a column of texts ({', '.join(TEXT)}), found {', '.join(columns)}")
    if (expert := _first(columns, EXPERT)) and (score := _first(columns, SCORE)):
        _long(path, columns, text, expert, score, loaded)
    else:
        _wide(path, columns, text, loaded, experts)
    return loaded


def _wide(path: Path, columns: Sequence[str], text: str, loaded: Loaded, experts: Sequence[str]) -> None:
    cells = {column: parsed for column in columns if (parsed := _named(column)) is not None}
    hint = ""
    if not any(kind == "scores" for kind, _ in cells.values()):
        taken = {*IDENTITY, *TASK, *TEXT, *OTHER, *cells}
        guessed = [column for column in columns if column.strip() and column not in taken]
        cells |= {column: ("scores", column) for column in guessed}
        if not experts:
            hint = " (if this column is no expert, name those that are by --experts)"
            loaded.notes.append(
                f"no column is called score:NAME, so all these were taken for experts: {', '.join(guessed) or 'none'}; "
                "where one is none, name those that are by --experts"
            )
    there = [expert for kind, expert in cells.values() if kind == "scores"]
    if missing := [name for name in experts if name not in there]:
        raise ConfigError(f"{path}: no column of scores for {', '.join(missing)}; there are {', '.join(there)}")
    if experts:
        cells = {column: cell for column, cell in cells.items() if cell[1] in experts}
    for position, (line, record) in enumerate(records(path, loaded), 1):
        row = _row(columns, record, text, str(position))
        try:
            for column, (kind, expert) in cells.items():
                if (value := _value(record, column)) is not None:
                    if kind == "scores" and not 0 <= value <= 1:
                        raise ValueError(f"{column}: expected a number from 0 to 1, got {value!r}")
                    row.setdefault(kind, {})[expert] = value
        except ValueError as fault:
            loaded.refuse(path, line, f"{fault}{hint}")
            continue
        loaded.keep(path, line, row)


def _long(path: Path, columns: Sequence[str], text: str, expert: str, score: str, loaded: Loaded) -> None:
    table: dict[str, tuple[int, Row]] = {}
    identity, task = _first(columns, IDENTITY), _first(columns, TASK)
    measures = [kind for kind in MEASURES if kind in columns]
    for line, record in records(path, loaded):
        key = str(record[identity]) if identity else f"{record.get(task) if task else ''}\x00{record.get(text)}"
        name = str(record.get(expert) or "")
        try:
            value = _value(record, score)
            if not name or value is None or not 0 <= value <= 1:
                raise ValueError(
                    f"{score}: expected an expert's score from 0 to 1, got {name!r}: {record.get(score)!r}"
                )
            measured = {kind: _value(record, kind) for kind in measures}
            _, row = table.setdefault(key, (line, _row(columns, record, text, str(len(table) + 1))))
            if name in row["scores"]:
                raise ValueError(f"{expert}: {name!r} already has a row for this query")
            row["scores"][name] = value
            for kind, number in measured.items():
                if number is not None:
                    row.setdefault(kind, {})[name] = number
        except ValueError as fault:
            loaded.refuse(path, line, str(fault))
    for line, row in table.values():
        loaded.keep(path, line, row)


def _row(columns: Sequence[str], record: dict[str, Any], text: str, fallback: str) -> Row:
    identity, task = _first(columns, IDENTITY), _first(columns, TASK)
    row: Row = {"id": str(record[identity]) if identity else fallback, "prompt": record.get(text), "scores": {}}
    if task:
        row["task"] = str(record.get(task) or "")
    for name in OTHER:
        if name in columns and record.get(name) is not None:
            row[name] = str(record[name])
    return row


def _value(record: dict[str, Any], column: str) -> float | None:
    try:
        return number_of(record.get(column))
    except ValueError as fault:
        raise ValueError(f"{column}: {fault}") from fault


def _first(columns: Sequence[str], among: Sequence[str]) -> str | None:
    return next((name for name in among if name in columns), None)


def _named(column: str) -> tuple[str, str] | None:
    """`score:NAME`, `tokens.NAME` and the like, as (what, expert)."""
    for kind in ("scores", "score", *MEASURES):
        for mark in (":", "."):
            if column.startswith(kind + mark) and len(column) > len(kind) + 1:
                return ("scores" if kind == "score" else kind), column[len(kind) + 1 :]
    return None
