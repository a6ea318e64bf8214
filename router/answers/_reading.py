"""What an extractor makes of an answer, and which answers are one and the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Reading:
    """What an answer settles on. Answers with equal `key` are equal; others may be, see `Extractor.same`.

    `checked`: whether it stood a test that the query itself states (None: nothing to test). `shown`: for a person.
    """

    key: str
    shown: str = ""
    checked: bool | None = None


class Extractor(Protocol):
    """Reads answers. `kind` is the word under which reliability is learned: answers of a kind are alike.

    `read` gives None where the text settles on nothing. `same` decides over two keys that differ.
    """

    def kind(self, question: str) -> str: ...

    async def read(self, question: str, text: str) -> Reading | None: ...

    async def same(self, one: str, other: str) -> bool: ...

    async def close(self) -> None: ...


async def grouped(extractor: Extractor, readings: Sequence[Reading | None]) -> list[int]:
    """The number of each reading's group, in order of first appearance; -1 where there is none.

    A reading joins the first group whose first member it equals: equivalence of answers is taken to be transitive.
    """
    heads: list[str] = []
    known: dict[str, int] = {}
    groups: list[int] = []
    for reading in readings:
        groups.append(-1 if reading is None else await _place(extractor, reading.key, heads, known))  # noqa: PERF401
    return groups


async def _place(extractor: Extractor, key: str, heads: list[str], known: dict[str, int]) -> int:
    if key in known:
        return known[key]
    for number, head in enumerate(heads):
        if await extractor.same(head, key):
            known[key] = number
            return number
    heads.append(key)
    known[key] = len(heads) - 1
    return known[key]
