"""Questions of the five skills, with their answers: what the experts are trained on and measured with.

    >>> questions("calc", "test", 1)[0].prompt
    >>> right(question, "47 + 58\\n...\\nAnswer: 105")

The test split has wordings that training never sees, and values too (`geo` is pure memory: there only the wording is
new). Cheap to import: neither torch nor transformers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from experts.pocket.judge import same_result
from experts.pocket.skills import calc, geo, sql, text, units
from experts.pocket.skills.split import Split

SKILLS: tuple[str, ...] = ("calc", "text", "units", "geo", "sql")
_DRAWS: dict[str, Callable[[Random, Split], tuple[str, str, str]]] = {
    "calc": calc.draw,
    "text": text.draw,
    "units": units.draw,
    "geo": geo.draw,
    "sql": sql.draw,
}


@dataclass(frozen=True, slots=True)
class Question:
    """`answer` is the final answer alone; `worked` the full target text, steps and a last line `Answer: ...`."""

    id: str
    skill: str
    prompt: str
    answer: str
    worked: str
    split: str


def draw(skill: str, split: Split, rng: Random, name: str = "") -> Question:
    """One question of a skill; raises `KeyError` for a skill that is not in `SKILLS`."""
    prompt, answer, worked = _DRAWS[skill](rng, split)
    return Question(name, skill, prompt, answer, worked, split)


def questions(skill: str, split: Split, n: int, seed: int = 0) -> list[Question]:
    """The first n questions of a split under a seed, no prompt twice; more of them begin with the same ones."""
    rng = Random(f"{skill} {split} {seed}")
    asked: dict[str, Question] = {}
    while len(asked) < n:
        question = draw(skill, split, rng, f"pocket-{skill}-{split}-{seed}-{len(asked)}")
        asked.setdefault(question.prompt, question)
    return list(asked.values())


def final_answer(text: str) -> str:
    """What follows the last `Answer:` of a model's text, else its last line that is not empty."""
    _, found, rest = text.rpartition("Answer:")
    lines = [line.strip() for line in (rest if found else text).splitlines() if line.strip()]
    if not lines:
        return ""
    return lines[0] if found else lines[-1]


def right(question: Question, text: str) -> bool:
    """Whether the final answer is exactly the expected one; for `sql`, whether its query gives the expected rows."""
    given = final_answer(text)
    if question.skill == "sql":
        return same_result(question.prompt, question.answer, given)
    return given == question.answer
