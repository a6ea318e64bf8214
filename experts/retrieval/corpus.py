"""A corpus on disk: documents, the passages they were cut into, their vectors and their words, in one SQLite file.

One file, one transaction a batch: a passage, its vector and its entry in the word index come and go together, so that
a process killed at any moment leaves whole documents and nothing else. Writers append to the log (WAL) and readers see
a change at their next search; `consilium index` and a running gateway may use one corpus at once.

A row's number is never given out twice (AUTOINCREMENT), and `gone` keeps the numbers of the deleted ones: what a
reader must do to catch up is read the rows above the last one it knows, and forget those in `gone`.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from experts.errors import ConfigError
from experts.language import Passage
from experts.protocols import Vectors

FILE = "corpus.sqlite"
FORMAT = 1
_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE documents (id TEXT PRIMARY KEY, digest BLOB NOT NULL);
CREATE TABLE passages (
    row INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, document TEXT NOT NULL,
    title TEXT NOT NULL, text TEXT NOT NULL, metadata TEXT NOT NULL, vector BLOB);
CREATE INDEX of_document ON passages (document);
CREATE TABLE gone (seq INTEGER PRIMARY KEY AUTOINCREMENT, row INTEGER NOT NULL);
CREATE VIRTUAL TABLE words USING fts5 (
    title, text, content='passages', content_rowid='row', tokenize='porter unicode61 remove_diacritics 2');
CREATE TRIGGER passage_in AFTER INSERT ON passages BEGIN
    INSERT INTO words (rowid, title, text) VALUES (new.row, new.title, new.text);
END;
CREATE TRIGGER passage_out AFTER DELETE ON passages BEGIN
    INSERT INTO words (words, rowid, title, text) VALUES ('delete', old.row, old.title, old.text);
    INSERT INTO gone (row) VALUES (old.row);
END;
"""


@dataclass(frozen=True, slots=True)
class Embedded:
    """How a corpus was embedded: what to open again, and the fingerprint that must come out."""

    model: str
    runtime: str
    fingerprint: str
    dimensions: int
    url: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    """A document whole, before it is cut into `pieces`: passages that carry its title and metadata."""

    id: str
    title: str
    pieces: tuple[str, ...]
    metadata: dict[str, Any]

    @property
    def digest(self) -> bytes:
        """16 bytes that change when anything of the document does."""
        said = orjson.dumps([self.title, self.pieces, self.metadata], option=orjson.OPT_SORT_KEYS)
        return blake2b(said, digest_size=16).digest()


class Fresh(NamedTuple):
    """What came and went since a reader last looked. `rows` (n,), `vectors` (n, d); `gone` the rows deleted."""

    rows: NDArray[np.int64]
    vectors: Vectors
    gone: list[int]


class Corpus:
    """One connection to a corpus. Not for several threads at once."""

    def __init__(self, folder: Path, connection: sqlite3.Connection, embedded: Embedded | None) -> None:
        self.folder = folder
        self.embedded = embedded
        self._db = connection

    @property
    def name(self) -> str:
        return self.folder.name

    def version(self) -> int:
        """Changes whenever another connection has written. Microseconds."""
        return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    def size(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM passages").fetchone()[0])

    def stats(self) -> dict[str, Any]:
        documents = int(self._db.execute("SELECT count(*) FROM documents").fetchone()[0])
        bytes_ = sum(file.stat().st_size for file in self.folder.iterdir() if file.is_file())
        known = (self.embedded.fingerprint, self.embedded.dimensions) if self.embedded else (None, None)
        return {"index": str(self.folder), "documents": documents, "passages": self.size(), "bytes": bytes_,
                "encoder": known[0], "dimensions": known[1]}  # fmt: skip

    def unchanged(self, document: Document) -> bool:
        """Whether exactly this document is there."""
        found = self._db.execute("SELECT digest FROM documents WHERE id = ?", (document.id,)).fetchone()
        return found is not None and found[0] == document.digest

    def put(self, documents: Sequence[Document], vectors: Vectors | None) -> None:
        """Adds documents, or replaces those of the same ids, all or none. `vectors`: one row a piece, in order."""
        count = sum(len(document.pieces) for document in documents)
        if self.embedded is not None and (vectors is None or vectors.shape != (count, self.embedded.dimensions)):
            got = None if vectors is None else vectors.shape
            raise ValueError(f"put: expected vectors of shape {(count, self.embedded.dimensions)}, got {got}")
        at = 0
        with self._transaction():
            for document in documents:
                self._db.execute("DELETE FROM passages WHERE document = ?", (document.id,))
                self._db.execute("INSERT OR REPLACE INTO documents VALUES (?, ?)", (document.id, document.digest))
                metadata = orjson.dumps(document.metadata).decode()
                for number, piece in enumerate(document.pieces):
                    name = document.id if len(document.pieces) == 1 else f"{document.id}#{number + 1}"
                    vector = None if vectors is None else np.ascontiguousarray(vectors[at], np.float32).tobytes()
                    at += 1
                    self._db.execute(
                        "INSERT INTO passages (id, document, title, text, metadata, vector) VALUES (?, ?, ?, ?, ?, ?)",
                        (name, document.id, document.title, piece, metadata, vector),
                    )

    def delete(self, ids: Iterable[str]) -> int:
        """Deletes documents by their ids, all or none; returns how many there were."""
        found = 0
        with self._transaction():
            for name in ids:
                self._db.execute("DELETE FROM passages WHERE document = ?", (name,))
                found += self._db.execute("DELETE FROM documents WHERE id = ?", (name,)).rowcount
        return found

    def since(self, row: int, seq: int) -> Fresh:
        """Rows above `row` with their vectors, and rows deleted after entry `seq` of the list of deleted ones."""
        dimensions = self.embedded.dimensions if self.embedded else 0
        found = self._db.execute(
            "SELECT row, vector FROM passages WHERE row > ? AND vector IS NOT NULL ORDER BY row", (row,)
        ).fetchall()
        vectors = np.frombuffer(b"".join(blob for _, blob in found), np.float32).reshape(-1, dimensions or 1)
        gone = [int(item[0]) for item in self._db.execute("SELECT row FROM gone WHERE seq > ?", (seq,))]
        return Fresh(np.array([number for number, _ in found], np.int64), vectors, gone)

    def counted_since(self, row: int, seq: int) -> int:
        """How many rows came above `row`, and how many went after entry `seq`."""
        came = self._db.execute("SELECT count(*) FROM passages WHERE row > ?", (row,)).fetchone()[0]
        return int(came) + self.gone_until() - seq

    def gone_until(self) -> int:
        """The last entry of the list of deleted rows."""
        return int(self._db.execute("SELECT coalesce(max(seq), 0) FROM gone").fetchone()[0])

    def vectors(self, rows: Sequence[int]) -> dict[int, NDArray[np.float32]]:
        """The vectors of these rows; rows that are not there are left out."""
        marks = ",".join("?" * len(rows))
        found = self._db.execute(f"SELECT row, vector FROM passages WHERE row IN ({marks})", tuple(rows))
        return {number: np.frombuffer(blob, np.float32) for number, blob in found if blob is not None}

    def all_vectors(self, batch: int = 20_000) -> Iterator[tuple[NDArray[np.int64], Vectors]]:
        """Every row and vector, in batches, in order."""
        last, dimensions = 0, self.embedded.dimensions if self.embedded else 1
        while True:
            found = self._db.execute(
                "SELECT row, vector FROM passages WHERE row > ? AND vector IS NOT NULL ORDER BY row LIMIT ?",
                (last, batch),
            ).fetchall()
            if not found:
                return
            last = found[-1][0]
            vectors = np.frombuffer(b"".join(blob for _, blob in found), np.float32).reshape(-1, dimensions)
            yield np.array([number for number, _ in found], np.int64), vectors

    def sampled(self, most: int) -> Vectors:
        """Up to `most` vectors, evenly over the corpus."""
        rows = [row for (row,) in self._db.execute("SELECT row FROM passages ORDER BY row")]
        found = self.vectors(rows[:: max(1, len(rows) // most)][:most])
        dimensions = self.embedded.dimensions if self.embedded else 1
        return np.stack(list(found.values())) if found else np.zeros((0, dimensions), np.float32)

    def last_row(self) -> int:
        """The highest row that is there, 0 where there is none."""
        return int(self._db.execute("SELECT coalesce(max(row), 0) FROM passages").fetchone()[0])

    def passages(
        self, scored: Sequence[tuple[int, float]], retriever: str, ways: Mapping[int, Mapping[str, float]]
    ) -> list[Passage]:
        """The passages of these rows with their scores, in this order; rows that have gone are left out."""
        marks = ",".join("?" * len(scored))
        found = {
            item[0]: item[1:]
            for item in self._db.execute(
                f"SELECT row, id, title, text, metadata FROM passages WHERE row IN ({marks})",
                tuple(number for number, _ in scored),
            )
        }
        return [
            Passage(*(found[number][0], found[number][2], found[number][1]), score, retriever, self.name,
                    orjson.loads(found[number][3]), ways.get(number, {}))
            for number, score in scored if number in found
        ]  # fmt: skip

    def match(self, query: str, k: int) -> list[tuple[int, float]]:
        """Rows by BM25 (SQLite's FTS5: k1 = 1.2, b = 0.75), best first, with their scores. `query`: an FTS5 query."""
        found = self._db.execute(
            "SELECT rowid, -bm25(words) FROM words WHERE words MATCH ? ORDER BY rank LIMIT ?", (query, k)
        ).fetchall()
        return [(int(number), float(score)) for number, score in found]

    def match_in(self, query: str, rows: Sequence[int]) -> dict[int, float]:
        """The BM25 of these rows, as `match` has it; rows without any of the words are left out."""
        marks = ",".join("?" * len(rows))
        found = self._db.execute(  # +rowid: one pass over the matches, not a search for each row
            f"SELECT rowid, -bm25(words) FROM words WHERE words MATCH ? AND +rowid IN ({marks})", (query, *rows)
        )
        return {int(number): float(score) for number, score in found}

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


def create_corpus(folder: Path, embedded: Embedded | None) -> Corpus:
    """Makes an empty corpus, or opens the one that is there. Raises ConfigError where that was embedded otherwise."""
    if (folder / FILE).exists():
        corpus = open_corpus(folder)
        found, wanted = _name(corpus.embedded), _name(embedded)
        if found != wanted:
            corpus.close()
            raise ConfigError(f"{folder}: expected a corpus embedded by {wanted}, found one by {found}; "
                              "name that encoder, or build into another folder")  # fmt: skip
        return corpus
    folder.mkdir(parents=True, exist_ok=True)
    known = [("format", str(FORMAT))]
    if embedded is not None:
        known += [(key, str(getattr(embedded, key))) for key in Embedded.__dataclass_fields__]
    script = "".join(f"INSERT INTO meta VALUES ({_quoted(key)}, {_quoted(value)});" for key, value in known)
    draft = folder / f"{FILE}.{os.getpid()}.tmp"
    draft.unlink(missing_ok=True)
    db = _connected(draft)
    db.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}{script}COMMIT;PRAGMA journal_mode = WAL;")
    db.close()
    draft.replace(folder / FILE)  # whole or not there: a kill before this line leaves no half-made corpus
    return open_corpus(folder)


def open_corpus(folder: Path) -> Corpus:
    """Raises ConfigError where there is none, or one of another format."""
    path = folder / FILE
    if not path.exists():
        raise ConfigError(f"{folder}: there is no index here; `consilium index build {folder} DOCUMENTS…` makes one")
    db = _connected(path)
    try:
        meta = dict(db.execute("SELECT key, value FROM meta").fetchall())
    except sqlite3.DatabaseError as fault:
        db.close()
        raise ConfigError(f"{path}: expected a corpus written by this project, cannot be read: {fault}") from fault
    if meta.get("format") != str(FORMAT):
        db.close()
        raise ConfigError(f"{path}: expected corpus format {FORMAT}, found {meta.get('format')}; build it again")
    embedded = None
    if "fingerprint" in meta:
        embedded = Embedded(meta["model"], meta["runtime"], meta["fingerprint"], int(meta["dimensions"]), meta["url"])
    return Corpus(folder, db, embedded)


def _connected(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA mmap_size = 4294967296")
    return db


def _name(embedded: Embedded | None) -> str:
    return embedded.fingerprint if embedded else "no encoder"


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
