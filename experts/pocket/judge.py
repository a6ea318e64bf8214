"""Judging a query by what it returns, in SQLite, on rows made up for the table of the question."""

import re
import sqlite3
from collections import Counter
from random import Random

_SCHEMA = re.compile(r"(\w+) ?\(([^()]*)\)")
_LITERAL = re.compile(r"'([^']*)'|\b(\d+)\b")
_ALLOWED = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION})
_STEPS = 200_000
"""Instructions of SQLite's virtual machine before a query is stopped."""

Rows = list[tuple[object, ...]]


def table(prompt: str) -> tuple[str, dict[str, str]]:
    """The table that a question declares: its name, and the kind (`text` or `integer`) of each column.

    Raises `ValueError` when the prompt declares none.
    """
    found = _SCHEMA.search(prompt)
    if not found:
        raise ValueError(f"no table in the question: {prompt!r}")
    columns: dict[str, str] = {}
    for column in found[2].split(","):
        name, kind = column.split()
        columns[name] = "text" if kind.lower() == "text" else "integer"
    return found[1], columns


def database(prompt: str, query: str, seed: int) -> sqlite3.Connection:
    """An in-memory database with forty rows, in which the literals of `query` occur among their likes."""
    name, columns = table(prompt)
    rng = Random(f"{prompt} {seed}")
    literals = _LITERAL.findall(query)
    words = [word for word, _ in literals if word] + ["amber", "birch", "cobalt", "delta"]
    numbers = [int(number) + step for _, number in literals if number for step in (-1, 0, 0, 1)]
    connection = sqlite3.connect(":memory:")
    connection.execute(f"CREATE TABLE {name} ({', '.join(f'{column} {kind}' for column, kind in columns.items())})")
    rows = [
        [
            rng.choice(words) + rng.choice(("", "", str(rng.randrange(9))))
            if kind == "text"
            else rng.choice([*numbers, rng.randrange(1, 10_000), rng.randrange(1, 100)])
            for kind in columns.values()
        ]
        for _ in range(40)
    ]
    connection.executemany(f"INSERT INTO {name} VALUES ({', '.join('?' * len(columns))})", rows)
    connection.commit()
    return connection


def run(connection: sqlite3.Connection, query: str) -> Rows | None:
    """The rows of one SELECT; None when it is something else, fails, or runs too long."""
    if not query.lstrip().lower().startswith("select"):
        return None
    calls = 0

    def stop() -> int:
        nonlocal calls
        calls += 1
        return int(calls > _STEPS // 1000)

    connection.set_authorizer(
        lambda action, *_: sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY  # pyright: ignore
    )
    connection.set_progress_handler(stop, 1000)
    try:
        return connection.execute(query).fetchmany(1000)
    except (sqlite3.Error, sqlite3.Warning, ValueError):
        return None
    finally:
        connection.set_progress_handler(None, 0)
        connection.set_authorizer(None)


def same_result(prompt: str, expected: str, given: str, databases: int = 3) -> bool:
    """Whether both queries return the same rows in every database; their order counts where one is asked for."""
    for seed in range(databases):
        connection = database(prompt, expected, seed)
        try:
            wanted, got = run(connection, expected), run(connection, given)
        finally:
            connection.close()
        if wanted is None or got is None:
            return False
        same = wanted == got if "ORDER BY" in expected else Counter(wanted) == Counter(got)
        if not same:
            return False
    return True
