"""`consilium`: the project's own format, `outcomes.jsonl(.gz)` with `models.json` beside it."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

import orjson

from evals.outcomes.loaded import Loaded, read_models
from experts.errors import ConfigError
from router.outcomes import outcomes_file, read_rows, whole_gzip

PACKED, PLAIN = "outcomes.jsonl.gz", "outcomes.jsonl"


def recognises(path: Path) -> bool:
    if path.is_dir():
        return any((path / name).exists() for name in (PACKED, PLAIN))
    return path.name.endswith((".jsonl", ".jsonl.gz")) and b'"scores"' in first_line(path)


def read(path: Path, experts: Sequence[str] = ()) -> Loaded:
    file = outcomes_file(path)
    rows, bad = read_rows(file)
    return Loaded(rows, bad, read_models(file.parent / "models.json"))


def first_line(path: Path) -> bytes:
    """The first line of a text file, compressed or not; empty where it cannot be read.

    Raises ConfigError where the compressed data are not whole: no shape could be read then.
    """
    try:
        with whole_gzip(path), gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            return file.readline(1_000_000)
    except OSError:
        return b""


def check_target(folder: Path, source: Path) -> None:
    """Raises ConfigError where what is written to `folder` would replace or hide the source, or plain outcomes."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: expected a folder to write {PACKED} and models.json to, found a file")
    if source.resolve() in (folder.resolve(), (folder / PACKED).resolve()):
        raise ConfigError(f"{folder}: what is imported from here would be replaced; write to another folder")
    if (folder / PLAIN).exists():
        raise ConfigError(
            f"{folder / PLAIN}: {PACKED} beside it would hide it; move it away, or write to another folder"
        )


def write(folder: Path, loaded: Loaded) -> Path:
    """`outcomes.jsonl.gz` and `models.json` in a folder, the first whole or not at all. Gives the first's path.

    A `models.json` that is there is left as it is where nothing is known of any model.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target, about = folder / PACKED, folder / "models.json"
    part = folder / f"{PACKED}.part"
    with part.open("wb") as raw, gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as file:
        for row in loaded.rows:
            file.write(orjson.dumps(row) + b"\n")
    part.replace(target)
    models = {name: model.model_dump(exclude_defaults=True) for name, model in loaded.models.items()}
    if models or not about.exists():
        about.write_bytes(orjson.dumps(models, option=orjson.OPT_INDENT_2))
    return target
