"""`consilium`: the project's own format, `outcomes.jsonl(.gz)` with `models.json` beside it."""

from __future__ import annotations

import gzip
from pathlib import Path

import orjson

from evals.outcomes.loaded import Loaded, read_models
from router.outcomes import outcomes_file, read_rows


def recognises(path: Path) -> bool:
    if path.is_dir():
        return any((path / name).exists() for name in ("outcomes.jsonl.gz", "outcomes.jsonl"))
    return path.name.endswith((".jsonl", ".jsonl.gz")) and b'"scores"' in first_line(path)


def read(path: Path) -> Loaded:
    file = outcomes_file(path)
    rows, bad = read_rows(file)
    return Loaded(rows, bad, read_models(file.parent / "models.json"))


def first_line(path: Path) -> bytes:
    """The first line of a text file, compressed or not; empty where it cannot be read."""
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            return file.readline(1_000_000)
    except OSError:
        return b""


def write(folder: Path, loaded: Loaded) -> Path:
    """`outcomes.jsonl.gz` and `models.json` in a folder, the first whole or not at all. Gives the first's path."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "outcomes.jsonl.gz"
    part = folder / "outcomes.jsonl.gz.part"
    with part.open("wb") as raw, gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as file:
        for row in loaded.rows:
            file.write(orjson.dumps(row) + b"\n")
    part.replace(target)
    models = {name: model.model_dump(exclude_defaults=True) for name, model in loaded.models.items()}
    (folder / "models.json").write_bytes(orjson.dumps(models, option=orjson.OPT_INDENT_2))
    return target
