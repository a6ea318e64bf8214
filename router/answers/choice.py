"""`choice`: the letter that the answer settles on: `(B)`, `B`, `B.`, `Answer: B) because …`.

An answer that gives an option's text instead of its letter is understood where the query lists its options.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

from router.answers._reading import Reading
from router.answers._texts import final, plain

_BRACKETED = re.compile(r"\(([A-Z])\)")
_FIRST = re.compile(r"^(?:option\s+)?\(?([A-Za-z])(?:[).:,]|\s*$)", re.IGNORECASE)
_ALONE = re.compile(r"\b([A-Z])\b")
_OPTION = re.compile(r"^\s*\(?([A-Z])[).:]\s+(\S.*)$", re.MULTILINE)


class Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Choice:
    def kind(self, question: str) -> str:
        return "choice"

    async def read(self, question: str, text: str) -> Reading | None:
        given = letter(text, options_of(question))
        return Reading(given, given) if given else None

    async def same(self, one: str, other: str) -> bool:
        return False

    async def close(self) -> None:
        return None


def options_of(question: str) -> dict[str, str]:
    """The options that a question lists, by letter; empty unless they begin with A and follow one another."""
    found = {match[1]: match[2].strip() for match in _OPTION.finditer(question)}
    letters = "".join(found)
    return found if len(found) > 1 and letters == "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(found)] else {}


def letter(text: str, choices: Mapping[str, str]) -> str:
    """The letter chosen; empty where there is none."""
    answer = final(text)
    for pattern in (_BRACKETED, _FIRST):
        if match := pattern.search(answer):
            return match[1].upper()
    said = plain(answer)
    for name, option in choices.items():
        if plain(option) == said:
            return name.upper()
    alone = _ALONE.findall(answer) or _BRACKETED.findall(text)
    return alone[-1] if alone else ""


def build(options: Options) -> Choice:
    return Choice()
