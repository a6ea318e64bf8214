"""`boxed`: a mathematical expression, the last `\\boxed{}` where there is one; equal where SymPy finds it equal.

Plain numbers are compared as numbers and texts as texts without asking SymPy: see `_algebra` for how it is held in.
"""

from __future__ import annotations

import re

from pydantic import BaseModel, ConfigDict, Field

from router.answers._algebra import Algebra
from router.answers._reading import Reading
from router.answers._texts import final, last_boxed, numbers
from router.answers.number import key_of

_WRAPPED = re.compile(r"\\(?:text|mbox|textbf|mathrm|mathbf|textrm|operatorname)\s*\{([^{}]*)\}")
_SPACING = re.compile(r"\\[,;:! ]|~|\\(?:left|right|displaystyle|quad|qquad)(?![a-zA-Z])")
_UNIT = re.compile(r"(?:\^\{?\\circ\}?|\\degree|\\%|%|\\\$|\$)")
_SHORT = re.compile(r"\\frac\s*(\d)\s*(\d)|\\frac\s*(\d)\s*(\{)")
_NAMED = re.compile(r"^[a-zA-Z]\w?(?:\([a-z]\))?=(?=[^=])")
_NUMBER = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|-?\.\d+|-?\d+/\d+")
_FRACTION = re.compile(r"^(-?)\\frac\{(-?\d+)\}\{(\d+)\}$")
_PLAIN = re.compile(r"^[^\d\\^_{}()\[\]=+*/<>]*$")


class Options(BaseModel):
    """`seconds` for one comparison by SymPy; `longest`: characters, a longer expression is compared as a text."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    seconds: float = Field(default=2.0, gt=0, le=60)
    longest: int = Field(default=200, ge=1)


class Boxed:
    def __init__(self, options: Options) -> None:
        self._longest = options.longest
        self._algebra = Algebra(options.seconds)

    def kind(self, question: str) -> str:
        return "boxed"

    async def read(self, question: str, text: str) -> Reading | None:
        boxed = last_boxed(text)
        said = (boxed if boxed is not None else _stated(text)).strip()
        key = tidied(said)
        return Reading(key, said) if key else None

    async def same(self, one: str, other: str) -> bool:
        if max(len(one), len(other)) > self._longest:
            return False
        if is_number(one) and is_number(other):
            return False  # keys of equal numbers are equal
        if _PLAIN.match(one) or _PLAIN.match(other):
            return one.casefold() == other.casefold()
        return await self._algebra.same(one, other)

    async def close(self) -> None:
        await self._algebra.close()


def _stated(text: str) -> str:
    """What is said to be the answer where nothing is boxed: a formula at the end of it, else its last number."""
    said = final(text)
    formulas = re.findall(r"\$([^$]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", said)
    if formulas:
        formula = next(part for part in formulas[-1] if part)
        return formula.rpartition("=")[2] if "=" in formula else formula
    if len(said) <= 30 and "=" not in said:
        return said
    found = _NUMBER.findall(said)
    return found[-1] if found else ""


def tidied(said: str) -> str:
    """One spelling for what is written in many: spaces, sizes, units and `x =` go, numbers are written one way."""
    text = said.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac").replace("\\cdot", "*")
    for _ in range(3):
        unwrapped = _WRAPPED.sub(lambda match: match[1], text)
        if unwrapped == text:
            break
        text = unwrapped
    text = _UNIT.sub("", _SPACING.sub("", text))
    text = re.sub(r"\s+", "", text.replace("\\\\", "\\\\ ").replace("\\\\ ", "\\\\"))
    text = _SHORT.sub(lambda m: f"\\frac{{{m[1]}}}{{{m[2]}}}" if m[1] else f"\\frac{{{m[3]}}}{m[4]}", text)
    text = _NAMED.sub("", text.strip(".,;"))
    if match := _FRACTION.match(text):
        text = f"{match[1]}{match[2]}/{match[3]}".replace("--", "")
    if _NUMBER.fullmatch(text) and (found := numbers(text)):
        return key_of(found[0])
    return text.casefold() if _PLAIN.match(text) else text


def is_number(key: str) -> bool:
    return _NUMBER.fullmatch(key) is not None


def build(options: Options) -> Boxed:
    return Boxed(options)
