"""Outcomes: measured facts, this expert got this score on this query. The one format, read and held in memory.

`outcomes.jsonl(.gz)`, one query a line:
`{id, task, split, prompt, scores: {expert: 0..1}, tokens|response_chars|cost_usd|latency_ms: {expert: n}?, …}`.
A row of a file that names no split is given one by a hash of its id, the same for whoever reads it.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import orjson

from experts.errors import ConfigError
from experts.protocols import Vectors
from router.plan import Matrix

CHARS_PER_TOKEN = 4.0


@dataclass(frozen=True, slots=True)
class Outcomes:
    """A table of measured scores, NaN where an expert was not asked.

    `scores`, `tokens`, `cost_usd`, `latency_ms`: shape (n, e) float32. `vectors`: (n, d) or None before embedding.
    `tasks` and `splits` are labels for fitting and reporting; no decision may read them. The text of a query that was
    not kept is empty, and `digests` (n,) holds its hash, empty for all others. `skills`: what each query was said to
    take, (n,) tuples of words; empty where nobody was asked.
    """

    ids: tuple[str, ...]
    tasks: tuple[str, ...]
    splits: tuple[str, ...]
    texts: tuple[str, ...]
    experts: tuple[str, ...]
    scores: Matrix
    tokens: Matrix
    cost_usd: Matrix
    latency_ms: Matrix
    vectors: Vectors | None = None
    digests: tuple[str, ...] = ()
    skills: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        if not self.digests:
            object.__setattr__(self, "digests", ("",) * len(self.ids))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def keys(self) -> tuple[str, ...]:
        """What tells equal queries to be equal: the text, or the digest of one that was not kept, or else the id."""
        return tuple(
            text or digest or one for text, digest, one in zip(self.texts, self.digests, self.ids, strict=True)
        )

    @staticmethod
    def empty(experts: Sequence[str]) -> Outcomes:
        nothing = np.zeros((0, len(experts)), np.float32)
        return Outcomes((), (), (), (), tuple(experts), nothing, nothing, nothing, nothing)

    def take(self, rows: Sequence[int] | np.ndarray[Any, Any]) -> Outcomes:
        """The same table with only these rows, in this order."""
        index: list[int] = np.asarray(rows, dtype=np.int64).tolist()

        def pick(values: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(values[i] for i in index)

        return replace(
            self, ids=pick(self.ids), tasks=pick(self.tasks), splits=pick(self.splits), texts=pick(self.texts),
            scores=self.scores[index], tokens=self.tokens[index], cost_usd=self.cost_usd[index],
            latency_ms=self.latency_ms[index], vectors=None if self.vectors is None else self.vectors[index],
            digests=pick(self.digests),
            skills=tuple(self.skills[i] for i in index) if self.skills else (),
        )  # fmt: skip

    @property
    def words(self) -> tuple[tuple[str, ...], ...]:
        """`skills`, with an empty entry for every row where nobody was asked."""
        return self.skills or ((),) * len(self)

    def of_split(self, *splits: str) -> Outcomes:
        return self.take([i for i, split in enumerate(self.splits) if split in splits])

    def for_experts(self, experts: Sequence[str]) -> Outcomes:
        """Columns in the given order; an expert without outcomes becomes a column of NaN."""
        position = {name: i for i, name in enumerate(self.experts)}
        order = [position.get(name, -1) for name in experts]

        def pick(values: Matrix) -> Matrix:
            out = np.full((len(self), len(order)), np.nan, np.float32)
            for column, source in enumerate(order):
                if source >= 0:
                    out[:, column] = values[:, source]
            return out

        return replace(
            self, experts=tuple(experts), scores=pick(self.scores), tokens=pick(self.tokens),
            cost_usd=pick(self.cost_usd), latency_ms=pick(self.latency_ms),
        )  # fmt: skip

    def measured_for(self, experts: Sequence[str], columns: Sequence[str] | None = None) -> Outcomes:
        """Rows in which at least one of these experts was measured; their columns, or the named ones."""
        own = self.for_experts(experts)
        rows = np.flatnonzero(~np.isnan(own.scores).all(axis=1))
        return (own if columns is None else self.for_experts(columns)).take(rows)


def rows_to_outcomes(rows: Iterable[dict[str, Any]]) -> Outcomes:
    """A table from parsed rows; experts in order of first appearance."""
    kept = list(rows)
    experts = tuple(dict.fromkeys(name for row in kept for name in row["scores"]))
    column = {name: i for i, name in enumerate(experts)}
    shape = (len(kept), len(experts))
    tables = {name: np.full(shape, np.nan, np.float32) for name in ("scores", "tokens", "cost_usd", "latency_ms")}
    for i, row in enumerate(kept):
        for name, table in tables.items():
            for expert, value in cast(dict[str, float | None], row.get(name) or {}).items():
                if value is not None and expert in column:
                    table[i, column[expert]] = value
        if not row.get("tokens"):
            for expert, chars in cast(dict[str, float | None], row.get("response_chars") or {}).items():
                if chars is not None and expert in column:
                    tables["tokens"][i, column[expert]] = chars / CHARS_PER_TOKEN
    skills = tuple(tuple(map(str, row.get("skills") or ())) for row in kept)
    return Outcomes(
        tuple(str(row["id"]) for row in kept), tuple(str(row.get("task") or "") for row in kept),
        tuple(str(row.get("split") or "train") for row in kept), tuple(str(row["prompt"]) for row in kept),
        experts, tables["scores"], tables["tokens"], tables["cost_usd"], tables["latency_ms"],
        digests=tuple(str(row.get("digest") or "") for row in kept),
        skills=skills if any(skills) else (),
    )  # fmt: skip


class BadRow(NamedTuple):
    """One row that is not an outcome: where it stands, and what is wrong with it."""

    source: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.source}:{self.line}: {self.message}"


def outcomes_file(path: Path) -> Path:
    """`path`, or `outcomes.jsonl(.gz)` in it where it is a folder. Raises ConfigError where there is none."""
    if path.is_dir():
        found = [path / name for name in ("outcomes.jsonl.gz", "outcomes.jsonl") if (path / name).exists()]
        if not found:
            raise ConfigError(f"{path}: expected a file outcomes.jsonl or outcomes.jsonl.gz in this folder, found none")
        return found[0]
    if not path.exists():
        raise ConfigError(f"{path}: no such outcomes file")
    return path


def read_rows(path: Path) -> tuple[list[dict[str, Any]], list[BadRow]]:
    """Every row of a file (or folder, see `outcomes_file`), the bad ones apart. Raises ConfigError: no such file."""
    path = outcomes_file(path)
    rows: list[dict[str, Any]] = []
    bad: list[BadRow] = []
    first_seen: dict[str, int] = {}
    for number, line in numbered_lines(path):
        try:
            row = orjson.loads(line)
            check_row(row)
        except ValueError as fault:
            bad.append(BadRow(str(path), number, str(fault)))
            continue
        known = first_seen.setdefault(str(row["id"]), number)
        if known != number:
            bad.append(BadRow(str(path), number, f"id {row['id']!r}: already on line {known}"))
            continue
        rows.append(row)
    return rows, bad


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Numbered lines that are not blank. Raises ConfigError where the compressed data end or break off early."""
    with whole_gzip(path), gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, line


@contextmanager
def whole_gzip(path: Path) -> Iterator[None]:
    """Raises ConfigError that names the file where what is read inside ends or breaks off early."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error) as fault:
        raise ConfigError(f"{path}: not a whole gzip file: {fault}") from fault


def read_outcomes(path: Path) -> Outcomes:
    """Reads one file, or `outcomes.jsonl(.gz)` in a folder.

    Raises ConfigError naming file, line and what is wrong: outcomes decide who is asked, so none is dropped.
    """
    rows, bad = read_rows(path)
    if bad:
        more = f" (and {len(bad) - 1} more such rows)" if len(bad) > 1 else ""
        raise ConfigError(f"{bad[0].source}:{bad[0].line}: not an outcome: {bad[0].message}{more}")
    return rows_to_outcomes(with_splits(rows))


def with_splits(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, each with a split: those that name none are split 60/20/20 by a hash of their id."""
    return [row if row.get("split") else {**row, "split": split_of(str(row["id"]))} for row in rows]


def split_of(key: str) -> str:
    """train, validation or test with shares 60, 20, 20; always the same for the same key."""
    part = int.from_bytes(blake2b(key.encode(errors="surrogatepass"), digest_size=4).digest()) % 10
    return "train" if part < 6 else "validation" if part < 8 else "test"


MEASURES = ("tokens", "response_chars", "cost_usd", "latency_ms")


def check_row(row: Any) -> None:
    """Raises ValueError with what was expected and found where `row` is not an outcome."""
    if not isinstance(row, dict):
        raise ValueError(f"expected an object, got {type(row).__name__}")
    cells = cast(dict[str, Any], row)
    for key in ("id", "prompt", "scores"):
        if key not in cells:
            raise ValueError(f"{key}: missing")
    if not isinstance(cells["prompt"], str):
        raise ValueError(f"prompt: expected a text, got {type(cells['prompt']).__name__}")
    if not (cells["prompt"].strip() or cells.get("digest")):
        raise ValueError("prompt: expected a text, got an empty one")
    if cells.get("split") is not None and not isinstance(cells["split"], str):
        raise ValueError(f"split: expected a name, got {cells['split']!r}")
    scores = _cells(cells, "scores")
    for expert, score in scores.items():
        if score is not None and (not isinstance(score, int | float) or not 0 <= score <= 1):
            raise ValueError(f"scores.{expert}: expected a number from 0 to 1, got {score!r}")
    if all(score is None for score in scores.values()):
        raise ValueError("scores: no expert has one")
    for key in MEASURES:
        for expert, value in _cells(cells, key).items() if cells.get(key) is not None else ():
            if value is not None and (not isinstance(value, int | float) or not 0 <= value < float("inf")):
                raise ValueError(f"{key}.{expert}: expected a number from 0 up, got {value!r}")


def _cells(row: dict[str, Any], key: str) -> dict[str, Any]:
    value = row[key]
    if not isinstance(value, dict):
        raise ValueError(f"{key}: expected an object of expert: number, got {type(value).__name__}")
    return cast(dict[str, Any], value)
