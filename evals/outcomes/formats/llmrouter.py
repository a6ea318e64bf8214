"""`llmrouter`: LLMRouter's routing data, JSON lines of one (query, model) pair each.

Fields used: `query`, `task_name`, `model_name`, `performance`, and where present `token_num` or `output_tokens`,
`response_time` (seconds), `ground_truth` or `gt`, `split`, `task_id`. A sibling JSON of LLM candidates (`size`, such
as "7B"; `input_price`, `output_price` per million tokens) gives prices. Of a folder, the files whose names hold
`routing` are read; `train`, `val` or `test` in a file's name is the split of its rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import orjson

from evals.outcomes.formats.consilium import first_line
from evals.outcomes.loaded import Loaded, Model, Prices, Row
from experts.errors import ConfigError
from router.outcomes import numbered_lines

ENDINGS = (".jsonl", ".jsonl.gz")


def recognises(path: Path) -> bool:
    for file in _files(path):
        head = first_line(file)
        if b'"model_name"' in head and b'"performance"' in head and b'"query"' in head:
            return True
    return False


def read(path: Path, experts: Sequence[str] = ()) -> Loaded:
    files = _files(path)
    if not files:
        raise ConfigError(f"{path}: expected LLMRouter's routing data (*routing*.jsonl), found none")
    loaded = Loaded(models=_models(files[0].parent))
    table: dict[tuple[str, str], Row] = {}
    begun: list[tuple[Path, int]] = []
    for file in files:
        split = _split(file.name)
        for number, line in numbered_lines(file):
            try:
                _take(table, orjson.loads(line), split)
            except (ValueError, KeyError, TypeError) as fault:
                what = f"{fault.args[0]}: missing" if isinstance(fault, KeyError) else str(fault)
                loaded.refuse(file, number, what)
            if len(table) > len(begun):
                begun.append((file, number))
    for (file, number), row in zip(begun, table.values(), strict=True):
        loaded.keep(file, number, row)
    return loaded


def _take(table: dict[tuple[str, str], Row], cells: dict[str, Any], split: str) -> None:
    query, expert, score = str(cells["query"]), str(cells["model_name"]), float(cells["performance"])
    if not 0 <= score <= 1:
        raise ValueError(f"performance: expected a number from 0 to 1, got {score!r}")
    task = str(cells.get("task_name") or "")
    row = table.setdefault((task, query), {
        "id": f"{task}/{len(table)}", "task": task, "prompt": query, "scores": {}, "tokens": {}, "latency_ms": {},
    })  # fmt: skip
    if expert in row["scores"]:
        raise ValueError(f"model_name: {expert!r} already has a row for this query")
    if named := str(cells.get("split") or split):
        row["split"] = named
    reference = cells.get("ground_truth") or cells.get("gt")
    if reference is not None:
        row["reference"] = str(reference)
    row["scores"][expert] = score
    tokens = cells.get("output_tokens") or cells.get("token_num")
    if tokens is not None:
        row["tokens"][expert] = float(tokens)
    if (seconds := cells.get("response_time")) is not None:
        row["latency_ms"][expert] = float(seconds) * 1e3


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.name.endswith(ENDINGS) else []
    return sorted(file for file in path.rglob("*") if file.name.endswith(ENDINGS) and "routing" in file.name)


def _split(name: str) -> str:
    for word, split in (("train", "train"), ("val", "validation"), ("test", "test")):
        if word in name:
            return split
    return ""


def _models(folder: Path) -> dict[str, Model]:
    """Prices and sizes from a candidates file beside the data, or one folder up."""
    found: dict[str, Model] = {}
    for file in sorted((*folder.glob("*llm*.json"), *folder.parent.glob("*/*llm*.json"))):
        try:
            entries = orjson.loads(file.read_bytes())
        except ValueError:
            continue  # some other JSON: prices are optional
        if not isinstance(entries, dict):
            continue
        for name, entry in cast(dict[str, Any], entries).items():
            if isinstance(entry, dict) and ("size" in entry or "input_price" in entry):
                found.setdefault(name, _model(cast(dict[str, Any], entry)))
    return found


def _model(entry: dict[str, Any]) -> Model:
    price = None
    if isinstance(entry.get("input_price"), int | float):
        price = Prices(input=entry["input_price"], output=entry.get("output_price", entry["input_price"]))
    size = str(entry.get("size") or "").upper().removesuffix("B")
    billions = float(size) if size.replace(".", "", 1).isdigit() else None
    return Model(usd_per_million=price, params_b=billions or None, description=str(entry.get("feature") or ""))
