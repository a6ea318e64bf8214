"""What the base model learns: the procedures behind the skills, in shorthand, without any natural question.

A drill is `(prompt, worked, known)`. The prompt is the problem in shorthand or a few unrelated words; in the latter
case the model cannot know the problem, so the loss starts after the `known` first characters of the worked text. So
the base learns to carry a stated problem through, and the adapters have only to read questions and state the problem.
"""

from random import Random
from typing import NamedTuple

from experts.pocket.skills import calc, geo, sql, text, units


class Drill(NamedTuple):
    prompt: str
    worked: str
    known: int


_CHATTERED = """
    what is the of please can you tell me how many much work out find calculate convert give which in to and a an
    does it have has word letter letters number plus minus times add sum total difference product divide by from
    reverse backwards spelled order alphabetical upper lower case capital country continent currency money city
    table where rows list show name query select value i need want know quickly hello would like could make written
    as hours minutes degrees metres grams litres
"""
_CHATTER: tuple[str, ...] = tuple(_CHATTERED.split())


def chatter(rng: Random) -> str:
    """A few unrelated words, as long as a question."""
    return " ".join(rng.choice(_CHATTER) for _ in range(rng.randint(1, 9)))


def _stated(rng: Random, worked: str) -> Drill:
    problem = worked.split("\n", 1)[0]
    if rng.random() < 0.4:
        return Drill(problem, worked, 0)
    if rng.random() < 0.5:
        return Drill(f"{chatter(rng)} {problem} {chatter(rng)}", worked, 0)
    return Drill(chatter(rng), worked, len(problem) + 1)


def _echo(rng: Random) -> Drill:
    names = geo.names()
    chosen = ", ".join(rng.choice(names) for _ in range(rng.randint(1, 3)))
    return Drill(f"{chatter(rng)}: {chosen}", f"{chosen}\nAnswer: {chosen}", 0)


def draw(rng: Random) -> Drill:
    """One drill: arithmetic 36 %, words 22 %, units 22 %, tables 14 %, echoing of names 6 %."""
    lot = rng.random()
    if lot < 0.36:
        return _stated(rng, calc.drill(rng))
    if lot < 0.58:
        return _stated(rng, text.drill(rng))
    if lot < 0.80:
        return _stated(rng, units.drill(rng))
    if lot < 0.94:
        return Drill(*sql.drill(rng), 0)
    return _echo(rng)
