"""Domains to search, with judged queries: one folder a domain, in the shape of BEIR.

`corpus.jsonl(.gz)` holds `{_id, title, text}` a line, `queries.jsonl(.gz)` `{_id, text, split}`, and `qrels.tsv(.gz)`
a header line and `query-id<TAB>corpus-id<TAB>score` a line; a score of 0 says: judged, not relevant.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from experts.errors import ConfigError

TEST = "test"


@dataclass(frozen=True, slots=True)
class Judged:
    """A query of one domain. `relevant`: document id -> gain, above 0 only; `rejected`: judged, not relevant."""

    id: str
    text: str
    split: str
    relevant: Mapping[str, int]
    rejected: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, eq=False)
class Domain:
    """One corpus and its queries. `texts`: title, a space and text of each document, as it is searched."""

    name: str
    ids: tuple[str, ...]
    titles: tuple[str, ...]
    texts: tuple[str, ...]
    queries: tuple[Judged, ...]

    def test(self) -> tuple[Judged, ...]:
        """The queries to judge by; those without a relevant document say nothing."""
        return tuple(query for query in self.queries if query.split == TEST and query.relevant)

    def training(self) -> tuple[Judged, ...]:
        return tuple(q for q in self.queries if not q.split.startswith(TEST) and q.relevant)


def read_domains(folder: Path) -> tuple[Domain, ...]:
    """Every subfolder with a corpus, by name. Raises ConfigError where there is none."""
    if not folder.is_dir():
        raise ConfigError(f"{folder}: expected a folder with one folder a domain, found no folder")
    found = tuple(read_domain(each) for each in sorted(folder.iterdir()) if _find(each, "corpus.jsonl") is not None)
    if len(found) < 2:
        raise ConfigError(
            f"{folder}: expected two or more folders with corpus.jsonl(.gz), queries.jsonl(.gz) and qrels.tsv(.gz), "
            f"found {len(found)}"
        )
    return found


def read_domain(folder: Path) -> Domain:
    """One domain. Raises ConfigError with the file and the line that is wrong."""
    judged: dict[str, dict[str, int]] = {}
    for number, line in enumerate(_lines(folder, "qrels.tsv")):
        if not number or not line.strip():
            continue
        cells = line.rstrip("\n").split("\t")
        try:
            query, document, score = cells
            judged.setdefault(query, {})[document] = int(score)
        except ValueError:
            raise ConfigError(
                f"{folder}/qrels.tsv line {number + 1}: expected query-id, corpus-id and a whole number, tabs between "
                f"them, got {line[:80]!r}"
            ) from None
    rows = [(_word(row, "_id", where), _text(row, "title"), _text(row, "text"))
            for where, row in _objects(folder, "corpus.jsonl")]  # fmt: skip
    queries = tuple(
        _judged(_word(row, "_id", where), _word(row, "text", where), _text(row, "split") or TEST, judged)
        for where, row in _objects(folder, "queries.jsonl")
    )
    return Domain(
        folder.name, tuple(row[0] for row in rows), tuple(row[1] for row in rows),
        tuple(f"{title} {text}".strip() for _, title, text in rows), queries,
    )  # fmt: skip


def _judged(name: str, text: str, split: str, judged: Mapping[str, Mapping[str, int]]) -> Judged:
    mine = judged.get(name, {})
    return Judged(
        name, text, split, {document: gain for document, gain in mine.items() if gain > 0},
        frozenset(document for document, gain in mine.items() if gain <= 0),
    )  # fmt: skip


def _find(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _lines(folder: Path, name: str) -> Iterator[str]:
    path = _find(folder, name)
    if path is None:
        raise ConfigError(f"{folder}: expected {name} or {name}.gz beside the others, found neither")
    try:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
            yield from file
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as fault:
        raise ConfigError(f"{path}: cannot be read: {fault}") from fault


def _objects(folder: Path, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(_lines(folder, name), 1):
        if not line.strip():
            continue
        try:
            row: Any = orjson.loads(line)
        except orjson.JSONDecodeError as fault:
            raise ConfigError(f"{folder / name} line {number}: not JSON: {fault}") from None
        if not isinstance(row, dict):
            raise ConfigError(f"{folder / name} line {number}: expected an object, got {line[:60]!r}")
        yield f"{folder / name} line {number}", row


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    return value if isinstance(value, str) else ""


def _word(row: Mapping[str, Any], key: str, where: str) -> str:
    value = row.get(key)
    if not isinstance(value, str):
        raise ConfigError(f"{where}: expected a text {key!r}, got {value!r}")
    return value
