"""Plans of a pipeline: sub-queries with dependencies, read from what a planner wrote."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import orjson

from router.answers._texts import final, numbers

_LINE = re.compile(r"^\s*(?:[-*]\s*)?(?:step\s+)?(\d+)\s*[:.)]\s*(.+?)\s*$", re.IGNORECASE)
_MARK = re.compile(r"\{(\d+)(?::(\w+))?\}")
FORMS: tuple[str, ...] = ("lower", "upper", "number")
"""What `{1:lower}`, `{1:upper}` and `{1:number}` make of a result; `{1}` is the result as it was stated."""


class Step(NamedTuple):
    """A sub-query; `after` are the numbers of those whose results its text names."""

    number: int
    text: str
    after: tuple[int, ...]

    def asked(self, results: Mapping[int, str]) -> str:
        """The sub-query with the results in their places. Raises ValueError where a form cannot be made."""
        return _MARK.sub(lambda mark: _formed(results[int(mark[1])], mark[2] or ""), self.text)


def parse(written: str, most: int) -> list[Step]:
    """The steps of a plan: numbered lines, or JSON (a list of texts, or of objects with `question`).

    Raises ValueError naming what is wrong: no plan, more than `most` steps, numbers that do not count from 1, a result
    used before it is there, an unknown form.
    """
    texts = _listed(written)
    if texts is None:
        found = [match for line in written.splitlines() if (match := _LINE.match(line))]
        if [int(match[1]) for match in found] != list(range(1, len(found) + 1)):
            raise ValueError("its lines are not numbered from 1")
        texts = [match[2] for match in found]
    if not texts:
        raise ValueError("it has no numbered lines and is no JSON list")
    if len(texts) > most:
        raise ValueError(f"it has {len(texts)} steps, and {most} are allowed")
    steps: list[Step] = []
    for number, text in enumerate(texts, 1):
        marks = _MARK.findall(text)
        after = tuple(sorted({int(mark) for mark, _ in marks}))
        if any(not 0 < mark < number for mark in after):
            raise ValueError(f"step {number} uses a result that is not there yet")
        for _, form in marks:
            if form and form not in FORMS:
                raise ValueError(f"step {number} asks for the form {form!r}; known are {', '.join(FORMS)}")
        steps.append(Step(number, text, after))
    return steps


def leaves(steps: Sequence[Step]) -> list[Step]:
    """The steps whose results no other step uses: together they are the answer."""
    used = {number for step in steps for number in step.after}
    return [step for step in steps if step.number not in used]


def depth(steps: Sequence[Step]) -> int:
    """How many rounds the steps take, those of one round at once."""
    rounds: dict[int, int] = {}
    for step in steps:
        rounds[step.number] = 1 + max((rounds[number] for number in step.after), default=0)
    return max(rounds.values(), default=0)


def result(text: str) -> str:
    """What an expert's answer comes to."""
    return final(text)


def _formed(found: str, form: str) -> str:
    match form:
        case "lower":
            return found.lower()
        case "upper":
            return found.upper()
        case "number":
            stated = numbers(found)
            if not stated:
                raise ValueError(f"there is no number in {found!r}")
            return str(stated[-1].numerator) if stated[-1].denominator == 1 else f"{float(stated[-1]):g}"
        case _:
            return found


def _listed(written: str) -> list[str] | None:
    """The texts of a JSON list; None where there is no such list."""
    start, end = written.find("["), written.rfind("]")
    if not 0 <= start < end:
        return None
    try:
        rows: Any = orjson.loads(written[start : end + 1])
    except orjson.JSONDecodeError:
        return None
    found: list[str] = []
    for row in cast(list[Any], rows):
        text: Any = cast(dict[str, Any], row).get("question") if isinstance(row, dict) else row
        if not isinstance(text, str) or not text.strip():
            return None
        found.append(text.strip())
    return found
