"""Columns of CSV and Parquet files as plain Python values, whatever the file."""

from __future__ import annotations

import csv
import gzip
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from evals.outcomes.loaded import Loaded
from experts.errors import ConfigError
from router.outcomes import whole_gzip

TRUE, FALSE = frozenset({"true", "yes", "correct"}), frozenset({"false", "no", "wrong", "incorrect"})
NOTHING = frozenset({"", "nan", "none", "null", "na"})
ENDINGS = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")


def header(path: Path) -> tuple[str, ...]:
    """Names of the columns, empty where the file is of another kind or cannot be read: `records` says why."""
    if not path.is_file() or not path.name.endswith(ENDINGS):
        return ()
    try:
        if path.suffix == ".parquet":
            with _parquet(path) as file:
                return tuple(file.schema_arrow.names)
        with _text(path) as file:
            return tuple(next(csv.reader(file, delimiter=_delimiter(path)), ()))
    except (OSError, ConfigError):
        return ()


def records(path: Path, loaded: Loaded) -> Iterator[tuple[int, dict[str, Any]]]:
    """Records, each with the line that it begins on (of a Parquet file: the number of its row, from 1).

    Rows of a CSV that have not a cell for every column are named in `loaded.bad`. Raises ConfigError where the file
    cannot be read: no pyarrow, not the kind of file that its name says, not UTF-8, cut short, a column named twice.
    """
    if path.suffix == ".parquet":
        yield from _rows(path)
        return
    csv.field_size_limit(sys.maxsize)
    with _text(path) as file:
        reader = csv.reader(file, delimiter=_delimiter(path), strict=True)
        columns = _cells(reader, path, 1)
        if isinstance(columns, str):
            raise ConfigError(f"{path}:1: {columns}")
        twice = [name for name, times in Counter(columns or ()).items() if times > 1 and name.strip()]
        if twice:
            raise ConfigError(f"{path}: more than one column is called {twice[0]!r}")
        while True:
            line = reader.line_num + 1
            cells = _cells(reader, path, line)
            if cells is None:
                return
            if isinstance(cells, str):
                loaded.refuse(path, line, cells)
            elif cells and len(cells) != len(columns or ()):
                loaded.refuse(path, line, f"expected {len(columns or ())} cells, one a column, got {len(cells)}")
            elif cells:
                yield line, dict(zip(columns or (), cells, strict=True))


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


def _cells(reader: Any, path: Path, line: int) -> list[str] | str | None:
    """The next row of cells, None at the end; what is wrong with it, where it is none."""
    try:
        return next(reader, None)
    except csv.Error as fault:
        if "end of data" in str(fault):
            return "a quote is opened in this row and never closed: all that follows is inside it"
        return f"not CSV: {fault}"


@contextmanager
def _text(path: Path) -> Iterator[Any]:
    """The file's text. Raises ConfigError that says where it is no UTF-8, or that the compressed data are not whole."""
    packed = path.suffix == ".gz"
    with whole_gzip(path):
        try:
            with (
                gzip.open(path, "rt", encoding="utf-8-sig", newline="")
                if packed
                else path.open(encoding="utf-8-sig", newline="")
            ) as file:
                yield file
        except UnicodeDecodeError as fault:
            with gzip.open(path, "rb") if packed else path.open("rb") as raw:
                line = next((number for number, each in enumerate(raw, 1) if not _is_utf8(each)), 1)
            raise ConfigError(
                f"{path}:{line}: expected UTF-8, got the byte 0x{fault.object[fault.start]:02x}; convert the file "
                "first, say by `iconv -f latin1 -t utf-8`"
            ) from fault


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _delimiter(path: Path) -> str:
    return "\t" if ".tsv" in path.suffixes else ","


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    number = 0
    with _parquet(path) as file:
        for batch in file.iter_batches(batch_size=4096):
            for row in batch.to_pylist():
                number += 1
                yield number, row


@contextmanager
def _parquet(path: Path) -> Iterator[Any]:
    try:
        module: Any = import_module("pyarrow.parquet")
        invalid: Any = import_module("pyarrow.lib").ArrowException
    except ImportError as fault:
        raise ConfigError(
            f"{path}: Parquet needs the package pyarrow (pip install pyarrow), or convert it to CSV"
        ) from fault
    try:
        with module.ParquetFile(path) as file:
            yield file
    except invalid as fault:
        raise ConfigError(f"{path}: not a whole Parquet file: {fault}") from fault
