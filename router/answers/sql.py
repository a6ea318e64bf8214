"""`sql`: the rows that the answer's query gives on the tables which the question states, run in a sandbox.

Tables are the question's `CREATE TABLE` and `INSERT` statements. Rows are a set unless the query orders them. Where
the question states no data, or the query does not run, its text counts: case, spaces and a last semicolon aside.
"""

from __future__ import annotations

import asyncio
import re
from secrets import token_hex

import orjson
from pydantic import BaseModel, ConfigDict, Field

from router.answers._reading import Reading
from router.answers._texts import code_blocks, final
from router.sandbox import Isolation, Limits, isolation, run

_STATEMENT = re.compile(r"\b(?:CREATE\s+TABLE|INSERT\s+INTO)\b[^;]*;", re.IGNORECASE)
_SELECT = re.compile(r"\b(?:SELECT|WITH)\b[^;]*", re.IGNORECASE)
_DRIVER = """
import json, sqlite3
held = sqlite3.connect(":memory:")
held.executescript({tables!r})
rows = held.execute({query!r}).fetchmany(10000)
print({mark!r} + json.dumps(rows, default=repr))
"""


class Options(BaseModel):
    """`tables`: statements that make the tables, beside those of the question; `seconds` for one query."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    tables: str = ""
    seconds: float = Field(default=5.0, gt=0, le=600)
    at_once: int = Field(default=2, ge=1)


class Sql:
    def __init__(self, options: Options) -> None:
        self._tables = options.tables
        self._limits = Limits(options.seconds, max(1, round(options.seconds)))
        self._slots = asyncio.Semaphore(options.at_once)
        self._isolation: Isolation | None = None

    def kind(self, question: str) -> str:
        return "sql"

    async def read(self, question: str, text: str) -> Reading | None:
        query = query_of(text)
        if not query:
            return None
        tables = self._tables + "\n".join(_STATEMENT.findall(question))
        if tables:
            rows = await self._rows(tables, query)
            if rows is None:
                return Reading(f"error:{plainly(query)}", query, False)
            cells = [orjson.dumps(row).decode() for row in rows]
            ordered = re.search(r"\border\s+by\b", query, re.IGNORECASE)
            return Reading("rows:" + "\n".join(cells if ordered else sorted(cells)), query)
        return Reading(plainly(query), query)

    async def same(self, one: str, other: str) -> bool:
        """Rows that one query orders and the other does not may still be the same."""
        if not (one.startswith("rows:") and other.startswith("rows:")):
            return False
        return sorted(one[5:].split("\n")) == sorted(other[5:].split("\n"))

    async def close(self) -> None:
        return None

    async def _rows(self, tables: str, query: str) -> list[list[object]] | None:
        mark = token_hex(8)
        async with self._slots:
            if self._isolation is None:
                self._isolation = await isolation()
            source = _DRIVER.format(tables=tables, query=query, mark=mark)
            ran = await run(source, self._isolation, self._limits)
        _, found, report = ran.output.rpartition(mark)
        return orjson.loads(report) if ran.status == 0 and found else None


def query_of(text: str) -> str:
    """The query in an answer: in its last code block that has one, else in its final answer, else anywhere."""
    for part in (*reversed(code_blocks(text)), final(text), text):
        if match := _SELECT.search(part):
            return match[0].strip()
    return ""


def plainly(query: str) -> str:
    return re.sub(r"\s*([(),=<>])\s*", r"\1", re.sub(r"\s+", " ", query).strip()).casefold()


def build(options: Options) -> Sql:
    return Sql(options)
