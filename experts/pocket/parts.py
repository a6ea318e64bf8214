"""What is asked of one skill within a longer question, in the words in which it is posed."""

from dataclasses import dataclass

from experts.pocket.skills import calc, geo
from experts.pocket.skills.geo import Fact
from experts.pocket.skills.text import Spelling
from experts.pocket.skills.units import Conversion

SPELL: dict[str, str] = {"reverse": "Reverse the word {}.", "length": "How many letters does {} have?",
          "upper": "Write {} in upper case.", "sort": "Sort the letters of {}."}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Part:
    """A question for one skill. `posed` is how a plan writes it, with `{1}` for the first part's answer; `after` says
    which parts (from 1) it needs."""

    skill: str
    posed: str
    prompt: str
    answer: str
    worked: str
    after: tuple[int, ...] = ()


def named(fact: Fact) -> str:
    """The fact's country, with the article that it has."""
    return f"the {fact.country.name}" if fact.country.name in geo.ARTICLE else fact.country.name


def known(fact: Fact) -> Part:
    """A fact, asked for."""
    name = named(fact)
    asked = {
        "capital": f"What is the capital of {name}?",
        "country": f"Which country has the capital {fact.country.capital}?",
        "continent": f"Which continent is {name} in?", "currency": f"What is the currency of {name}?",
    }[fact.relation]  # fmt: skip
    return Part("geo", asked, asked, fact.answer, fact.worked)


def spelled(value: Spelling, posed: str = "", after: tuple[int, ...] = ()) -> Part:
    """A word, and what is to be done to it."""
    asked = SPELL[value.operation].format(value.word)
    return Part("text", posed or asked, asked, value.answer, value.worked, after)


def summed(value: calc.Sum, posed: str = "", after: tuple[int, ...] = ()) -> Part:
    asked = f"What is {value.problem}?"
    return Part("calc", posed or asked, asked, value.answer, value.worked, after)


def timed(value: Conversion, posed: str = "", after: tuple[int, ...] = ()) -> Part:
    """Minutes, to be said in hours."""
    asked = f"Convert {value.amount} minutes to hours and minutes."
    return Part("units", posed or asked, asked, value.answer, value.worked, after)
