"""Columns of CSV and Parquet files as plain Python values, whatever the file."""

from __future__ import annotations

import csv
import gzip
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from experts.errors import ConfigError

TRUE, FALSE = frozenset({"true", "yes", "correct"}), frozenset({"false", "no", "wrong", "incorrect"})
NOTHING = frozenset({"", "nan", "none", "null", "na"})
ENDINGS = (".csv", ".csv.gz", ".tsv", ".parquet")


def header(path: Path) -> tuple[str, ...]:
    """Names of the columns, empty where the file is of another kind or cannot be read without an optional package."""
    if not path.is_file() or not path.name.endswith(ENDINGS):
        return ()
    try:
        if path.suffix == ".parquet":
            return tuple(_parquet(path).schema_arrow.names)
        with _text(path) as file:
            return tuple(next(csv.reader(file, delimiter=_delimiter(path)), ()))
    except (OSError, ConfigError, UnicodeDecodeError):
        return ()


def records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Numbered records, 1 for the first (of a CSV: the line below the header). Raises ConfigError without pyarrow."""
    if path.suffix == ".parquet":
        number = 0
        for batch in _parquet(path).iter_batches(batch_size=4096):
            for row in batch.to_pylist():
                number += 1
                yield number, row
        return
    csv.field_size_limit(sys.maxsize)
    with _text(path) as file:
        for number, row in enumerate(csv.DictReader(file, delimiter=_delimiter(path)), 1):
            yield number, row


def number_of(value: Any) -> float | None:
    """A number, None where the cell is empty. Raises ValueError for anything else. True and false are 1 and 0."""
    if value is None:
        return None
    if isinstance(value, bool | int | float):
        return None if value != value else float(value)
    text = str(value).strip().lower()
    if text in NOTHING:
        return None
    if text in TRUE or text in FALSE:
        return float(text in TRUE)
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"expected a number, true or false, got {str(value)[:40]!r}") from None


def _text(path: Path) -> Any:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _delimiter(path: Path) -> str:
    return "\t" if path.suffix == ".tsv" else ","


def _parquet(path: Path) -> Any:
    try:
        module: Any = import_module("pyarrow.parquet")
    except ImportError as fault:
        raise ConfigError(
            f"{path}: Parquet needs the package pyarrow (pip install pyarrow), or convert it to CSV"
        ) from fault
    return module.ParquetFile(path)
