"""Decisions and outcomes in one SQLite file: several processes at once, nothing lost when one is killed.

Write-ahead logging lets readers and one writer go on together; a writer that finds another waits up to BUSY_S.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from time import monotonic, sleep

from router.records.protocol import Unrecorded
from router.records.rows import Decision, Measured, to_decision, to_json, to_measured

BUSY_S = 10.0
AGAIN_S = 0.01
PRUNE_EVERY = 1_000
PAGE = 500

SCHEMA = """
CREATE TABLE IF NOT EXISTS decisions (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, time REAL NOT NULL, route TEXT NOT NULL,
  body BLOB NOT NULL, vector BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS outcomes (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, source TEXT NOT NULL, id TEXT NOT NULL, expert TEXT NOT NULL,
  body BLOB NOT NULL, vector BLOB NOT NULL, UNIQUE (source, id, expert)
);
"""


class SqliteRecords:
    """`path` is made, with its folder, on the first call. `keep`: decisions kept, the newest ones."""

    def __init__(self, path: Path, *, keep: int) -> None:
        self._path = path
        self._keep = keep
        self._lock = Lock()
        self._open: sqlite3.Connection | None = None
        self._since_pruned = PRUNE_EVERY

    def log(self, decisions: Sequence[Decision]) -> None:
        rows = [(row.id, row.time, row.route, to_json(row), row.vector) for row in decisions]
        with self._transaction() as database:
            database.executemany(
                "INSERT INTO decisions (id, time, route, body, vector) VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT (id) DO UPDATE SET time = excluded.time, route = excluded.route, body = excluded.body, "
                "vector = excluded.vector",
                rows,
            )
            self._since_pruned += len(rows)
            if self._since_pruned >= min(PRUNE_EVERY, self._keep):
                self._since_pruned = 0
                database.execute(
                    "DELETE FROM decisions WHERE seq <= (SELECT max(seq) FROM decisions) - ?", (self._keep,)
                )

    def decision(self, decision_id: str) -> Decision | None:
        with self._transaction() as database:
            row = database.execute("SELECT body, vector FROM decisions WHERE id = ?", (decision_id,)).fetchone()
        return to_decision(*row) if row else None

    def decisions(self, route: str | None = None) -> Iterator[Decision]:
        last = 0
        while True:
            with self._transaction() as database:
                rows = database.execute(
                    "SELECT seq, body, vector FROM decisions WHERE seq > ? AND (? IS NULL OR route = ?) "
                    "ORDER BY seq LIMIT ?",
                    (last, route, route, PAGE),
                ).fetchall()
            for _, body, vector in rows:
                yield to_decision(body, vector)
            if len(rows) < PAGE:
                return
            last = rows[-1][0]

    def measure(self, outcomes: Sequence[Measured]) -> None:
        rows = [(*row.key, to_json(row), row.vector) for row in outcomes]
        with self._transaction() as database:
            database.executemany(
                "INSERT INTO outcomes (source, id, expert, body, vector) VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT (source, id, expert) DO UPDATE SET body = excluded.body, vector = excluded.vector",
                rows,
            )

    def measured(self) -> list[Measured]:
        with self._transaction() as database:
            rows = database.execute("SELECT body, vector FROM outcomes ORDER BY seq").fetchall()
        return [to_measured(body, vector) for body, vector in rows]

    def close(self) -> None:
        with self._lock:
            if self._open is not None:
                self._open.close()
                self._open = None

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """One thread at a time. Raises Unrecorded."""
        try:
            with self._lock:
                database = self._open or self._connect()
                with database:
                    yield database
        except (sqlite3.Error, OSError) as fault:
            raise Unrecorded(f"{self._path}: decisions and outcomes cannot be kept here: {fault}") from fault

    def _connect(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(self._path, timeout=BUSY_S, check_same_thread=False)
        _write_ahead(database)
        database.execute("PRAGMA synchronous = NORMAL")
        database.executescript(SCHEMA)
        self._open = database
        return database


def _write_ahead(database: sqlite3.Connection) -> None:
    """Switch to WAL. SQLite does not wait here for others who open the file at this moment, whatever the timeout."""
    until = monotonic() + BUSY_S
    while True:
        try:
            database.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as fault:
            if fault.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or monotonic() >= until:
                raise
            sleep(AGAIN_S)
