"""`auto`: picks an extractor by what the query asks for; none where answers cannot be compared.

Code with tests to stand, or a function to write; SQL over stated tables; a listed choice; an answer to be boxed; a
question of how many or how much. An essay has no final answer to agree on, and is never voted on.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from pydantic import BaseModel, ConfigDict

from router.answers import boxed, choice, code, number, sql
from router.answers._reading import Extractor, Reading

_BOXED = re.compile(r"\\boxed\b")
_FORMULA = re.compile(r"\\[a-zA-Z]+|\$[^$\s][^$]*\$")
_TABLES = re.compile(r"\bCREATE\s+TABLE\b", re.IGNORECASE)
_NUMBER = re.compile(r"\bhow (?:many|much|long|far|old|tall|fast)\b|\bwhat (?:is|was) the "
                     r"(?:number|total|sum|average)\b|\b(?:calculate|compute)\b", re.IGNORECASE)  # fmt: skip


class Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Auto:
    def __init__(self) -> None:
        self._opened: dict[str, Extractor] = {}

    def kind(self, question: str) -> str:
        """The name of the extractor that fits; empty where none does."""
        return picked(question)

    async def read(self, question: str, text: str) -> Reading | None:
        name = picked(question)
        if not name:
            return None
        if name not in self._opened:
            self._opened[name] = _BUILT[name]()
        found = await self._opened[name].read(question, text)
        return None if found is None else Reading(f"{name}:{found.key}", found.shown, found.checked)

    async def same(self, one: str, other: str) -> bool:
        name, _, left = one.partition(":")
        kind, _, right = other.partition(":")
        return name == kind and name in self._opened and await self._opened[name].same(left, right)

    async def close(self) -> None:
        for extractor in self._opened.values():
            await extractor.close()


_BUILT: dict[str, Callable[[], Extractor]] = {
    "code": lambda: code.build(code.Options()), "sql": lambda: sql.build(sql.Options()),
    "choice": lambda: choice.build(choice.Options()), "boxed": lambda: boxed.build(boxed.Options()),
    "number": lambda: number.build(number.Options()),
}  # fmt: skip


def picked(question: str) -> str:
    """The extractor's name, empty where the answers to this question cannot be compared."""
    if code.tests_of(question):
        return "code"
    if _TABLES.search(question):
        return "sql"
    if choice.options_of(question):
        return "choice"
    if _BOXED.search(question):
        words = question.replace("\\boxed", "")
        return "boxed" if _FORMULA.search(words) or not _NUMBER.search(words) else "number"
    return "number" if len(question) < 2000 and _NUMBER.search(question) else ""


def build(options: Options) -> Auto:
    return Auto()
