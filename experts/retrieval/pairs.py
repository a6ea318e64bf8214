"""What adapters are trained on: queries, and which passages answer them.

Either JSON lines, `{"query": "…", "passage": "…"}` (perhaps with `"negatives": ["…"]`), or a BEIR folder: its
`corpus.jsonl`, `queries.jsonl` and `qrels.tsv`, gzipped or not, less the queries whose split begins with `test`. A
passage is embedded as an index does: its title, where it has one, on a line before the text.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import orjson

from experts.errors import ConfigError

TEST = "test"


@dataclass(slots=True, eq=False)
class Pairs:
    """`relevant`, `rejected`: positions in `passages` of each query. Of a BEIR folder, `passages` is the corpus."""

    queries: list[str] = field(default_factory=list[str])
    passages: list[str] = field(default_factory=list[str])
    relevant: list[list[int]] = field(default_factory=list[list[int]])
    rejected: list[list[int]] = field(default_factory=list[list[int]])


def read_all(sources: Sequence[Path]) -> Pairs:
    """Several sources as one. Raises ConfigError."""
    whole = Pairs()
    for source in sources:
        pairs = read_pairs(source)
        start = len(whole.passages)
        whole.queries += pairs.queries
        whole.passages += pairs.passages
        whole.relevant += [[start + row for row in rows] for rows in pairs.relevant]
        whole.rejected += [[start + row for row in rows] for rows in pairs.rejected]
    return whole


def read_pairs(source: Path) -> Pairs:
    """Raises ConfigError naming the file and line that is wrong, and where there is nothing to train on."""
    pairs = _beir(source) if source.is_dir() else _jsonl(source)
    if not pairs.queries:
        raise ConfigError(f"{source}: expected queries with relevant passages to train on, found none")
    return pairs


def _jsonl(file: Path) -> Pairs:
    pairs = Pairs()
    place: dict[str, int] = {}
    asked: dict[str, int] = {}

    def passage(text: str) -> int:
        if text not in place:
            place[text] = len(pairs.passages)
            pairs.passages.append(text)
        return place[text]

    for number, row in _rows(file):
        query, text, negatives = row.get("query"), row.get("passage"), row.get("negatives", [])
        if not isinstance(query, str) or not isinstance(text, str) or not _texts(negatives):
            raise ConfigError(f"{file}:{number}: expected `query`, `passage` and perhaps `negatives`, a list of texts")
        if query not in asked:
            asked[query] = len(pairs.queries)
            pairs.queries.append(query)
            pairs.relevant.append([])
            pairs.rejected.append([])
        pairs.relevant[asked[query]].append(passage(text))
        pairs.rejected[asked[query]] += [passage(each) for each in negatives]
    return pairs


def _beir(folder: Path) -> Pairs:
    pairs = Pairs()
    place: dict[str, int] = {}
    for number, row in _rows(_found(folder, "corpus.jsonl")):
        place[_word(row, "_id", folder / "corpus.jsonl", number)] = len(pairs.passages)
        title, text = str(row.get("title") or ""), _word(row, "text", folder / "corpus.jsonl", number)
        pairs.passages.append(f"{title}\n{text}" if title else text)
    judged: dict[str, tuple[list[int], list[int]]] = {}
    for number, line in enumerate(_lines(_found(folder, "qrels.tsv")), 1):
        cells = line.decode().rstrip("\n").split("\t")
        if number == 1 or not line.strip():
            continue
        try:
            query, document, gain = cells[0], cells[1], int(cells[2])
        except (IndexError, ValueError):
            raise ConfigError(f"{folder}/qrels.tsv:{number}: expected query-id, corpus-id and a whole number, "
                              f"tabs between them, got {line[:80]!r}") from None  # fmt: skip
        if document in place:
            judged.setdefault(query, ([], []))[0 if gain > 0 else 1].append(place[document])
    for number, row in _rows(_found(folder, "queries.jsonl")):
        relevant, rejected = judged.get(_word(row, "_id", folder / "queries.jsonl", number), ([], []))
        if relevant and not str(row.get("split") or "").startswith(TEST):
            pairs.queries.append(_word(row, "text", folder / "queries.jsonl", number))
            pairs.relevant.append(relevant)
            pairs.rejected.append(rejected)
    return pairs


def _found(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise ConfigError(f"{folder}: expected a BEIR folder with {name} or {name}.gz, found neither")


def _lines(file: Path) -> Iterator[bytes]:
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as lines:
            yield from lines
    except OSError as fault:
        raise ConfigError(f"{file}: cannot be read: {fault}") from fault


def _rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(_lines(file), 1):
        if not line.strip():
            continue
        try:
            row: object = orjson.loads(line)
        except orjson.JSONDecodeError as fault:
            raise ConfigError(f"{file}:{number}: not valid JSON: {fault}") from None
        if not isinstance(row, dict):
            raise ConfigError(f"{file}:{number}: expected an object, got {line[:60]!r}")
        yield number, cast(dict[str, Any], row)


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in cast(list[object], value))


def _word(row: dict[str, Any], key: str, file: Path, number: int) -> str:
    value = row.get(key)
    if not isinstance(value, str):
        raise ConfigError(f"{file}:{number}: expected a text {key!r}, got {value!r}")
    return value
