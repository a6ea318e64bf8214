"""`routellm`: RouteLLM's benchmark responses (arXiv 2406.18665), `mmlu_SUBJECT.csv` and `gsm8k_responses.csv`.

Columns: `prompt`, one of True/False per model, and for GSM8K each model's text in `MODEL_response`. Of a folder, all
such files are read. The task is `mmlu` or `gsm8k`, the MMLU subject is kept as `subtask`.
"""

from __future__ import annotations

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


def read(path: Path) -> Loaded:
    files = _files(path)
    if not files:
        raise ConfigError(f"{path}: expected RouteLLM's mmlu_*.csv or gsm8k_responses.csv, found none")
    loaded, seen = Loaded(), dict[str, int]()
    position = 0
    for file in files:
        columns = header(file)
        experts = [name for name in columns[1:] if not name.endswith(RESPONSE)]
        loaded.models |= {expert: _model(expert) for expert in experts}
        for number, record in records(file):
            position += 1
            row = _row(file, number, record, experts)
            if isinstance(row, str):
                loaded.refuse(file, number, row)
                continue
            known = len(loaded.bad)
            loaded.keep(file, position, row, seen)
            if len(loaded.bad) > known:
                loaded.bad[-1] = loaded.bad[-1]._replace(line=number)
    own = read_models((path if path.is_dir() else path.parent) / "models.json")
    loaded.models |= own
    return loaded


def _row(file: Path, number: int, record: dict[str, Any], experts: list[str]) -> Row | str:
    task, _, subject = file.stem.partition("_")
    row: Row = {"id": f"{file.stem}/{number - 1}", "task": task, "prompt": record.get("prompt"), "scores": {}}
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
