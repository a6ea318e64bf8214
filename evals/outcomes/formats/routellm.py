"""`routellm`: RouteLLM's benchmark responses (arXiv 2406.18665), `mmlu_SUBJECT.csv` and `gsm8k_responses.csv`.

Columns: `prompt`, one of True/False per model, and for GSM8K each model's text in `MODEL_response`. Of a folder, all
such files are read. The task is `mmlu` or `gsm8k`, the MMLU subject is kept as `subtask`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evals.outcomes.formats._columns import header, number_of, records
from evals.outcomes.loaded import Loaded, Model, Prices, Row, read_models
from experts.errors import ConfigError

RESPONSE = "_response"
PRICES = (("gpt-4-1106-preview", 10.0, 30.0), ("mixtral-8x7b", 0.24, 0.24))
"""USD per million tokens as in the paper's cost analysis (section 5.3), by how a model's name begins."""


def recognises(path: Path) -> bool:
    files = _files(path)
    return bool(files) and header(files[0])[:1] == ("prompt",)


def read(path: Path, experts: Sequence[str] = ()) -> Loaded:
    files = _files(path)
    if not files:
        raise ConfigError(f"{path}: expected RouteLLM's mmlu_*.csv or gsm8k_responses.csv, found none")
    loaded = Loaded()
    for file in files:
        there = [name for name in header(file)[1:] if not name.endswith(RESPONSE)]
        read_of = [name for name in there if name in experts] if experts else there
        loaded.models |= {expert: _model(expert) for expert in read_of}
        for position, (line, record) in enumerate(records(file, loaded)):
            row = _row(file, position, record, read_of)
            if isinstance(row, str):
                loaded.refuse(file, line, row)
            else:
                loaded.keep(file, line, row)
    own = read_models((path if path.is_dir() else path.parent) / "models.json")
    loaded.models |= own
    return loaded


def _row(file: Path, position: int, record: dict[str, Any], experts: Sequence[str]) -> Row | str:
    task, _, subject = file.stem.partition("_")
    row: Row = {"id": f"{file.stem}/{position}", "task": task, "prompt": record.get("prompt"), "scores": {}}
    if task == "mmlu":
        row["subtask"] = subject
    for expert in experts:
        try:
            score = number_of(record.get(expert))
        except ValueError as fault:
            return f"{expert}: {fault}"
        if score is not None:
            row["scores"][expert] = score
        if isinstance(said := record.get(expert + RESPONSE), str):
            row.setdefault("response_chars", {})[expert] = len(said)
    return row


def _files(path: Path) -> list[Path]:
    files = [path] if path.is_file() else sorted(path.rglob("*.csv"))
    return [file for file in files if file.suffix == ".csv" and file.name.startswith(("mmlu_", "gsm8k_responses"))]


def _model(name: str) -> Model:
    for start, price_in, price_out in PRICES:
        if name.split("/")[-1].lower().startswith(start):
            return Model(usd_per_million=Prices(input=price_in, output=price_out))
    return Model()
