"""Finding the final answer in a text, as it was asked for and as models give it anyway."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from fractions import Fraction

_STRONG = re.compile(r"(?:final answer|the answer is|answer\s*[:：]|answer[*_]+\s*[:：]|####)", re.IGNORECASE)
_NUMBER = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][+-]?\d+)?(?:\s*/\s*\d+)?|-?\.\d+")
_FENCE = re.compile(r"```[ \t]*([\w+-]*)[^\n]*\n(.*?)(?:```|\Z)", re.DOTALL)


def final(text: str) -> str:
    """What is stated as the answer: the last `\\boxed{}`, else what follows the last `Answer:`, `#### ` or `the answer
    is` up to the line's end, else the last line that is not empty."""
    boxed = last_boxed(text)
    if boxed is not None:
        return boxed.strip()
    found = list(_STRONG.finditer(text))
    if found:
        rest = text[found[-1].end() :].lstrip(" \t*_:：")
        for line in rest.splitlines():
            if line.strip():
                return bare(line)
    lines = [line for line in text.splitlines() if line.strip()]
    return bare(lines[-1]) if lines else ""


def bare(text: str) -> str:
    """Without the marks that typeset an answer: asterisks, backticks, quotes, dollars, a full stop at the end."""
    text = text.strip()
    while text:
        peeled = text.strip("*_`$").strip()
        if len(peeled) > 1 and peeled[0] == peeled[-1] and peeled[0] in "\"'":
            peeled = peeled[1:-1].strip()
        if peeled.endswith(".") and not peeled.endswith("..") and len(peeled) > 1:
            peeled = peeled[:-1].strip()
        if peeled == text:
            return text
        text = peeled
    return text


def last_boxed(text: str) -> str | None:
    """The contents of the last `\\boxed{…}`, braces matched; None where there is none, or it is not closed."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    depth, begin = 0, start + len("\\boxed")
    for at in range(begin, len(text)):
        depth += (text[at] == "{") - (text[at] == "}")
        if depth == 0:
            return text[begin + 1 : at]
    return None


def numbers(text: str) -> list[Fraction]:
    """Every number, in order; `1,234.50`, `3/4`, `-2e3` and `.5` are understood."""
    found: list[Fraction] = []
    for match in _NUMBER.finditer(text):
        top, _, bottom = match[0].replace(",", "").partition("/")
        try:
            value = Fraction(int(top)) if top.isdecimal() else Fraction(Decimal(top.strip()))
            found.append(value / int(bottom) if bottom else value)
        except (InvalidOperation, ZeroDivisionError, OverflowError):
            continue
    return found


def code_blocks(text: str) -> list[str]:
    """The contents of fenced code blocks, in order; the last may lack its closing fence."""
    return [match[2] for match in _FENCE.finditer(text)]


def plain(text: str) -> str:
    """Lower case, single spaces, bare."""
    return bare(re.sub(r"\s+", " ", text).strip()).casefold()
