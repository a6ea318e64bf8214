"""Capital, continent and currency of the 193 members and two observers of the United Nations.

Continents follow the United Nations' regions (M49), currencies ISO 4217 (2026); names are written without accents.
"""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random

from experts.pocket import steps
from experts.pocket.skills.phrasing import Cores, chosen, wrapped
from experts.pocket.skills.split import Split

_DATA = Path(__file__).parent.parent / "data"


@dataclass(frozen=True, slots=True)
class Country:
    name: str
    code: str
    capital: str
    continent: str
    currency: str


@cache
def countries() -> tuple[Country, ...]:
    """All 195, from `data/countries.csv`, with the currency's name from `data/currencies.csv`."""
    with (_DATA / "currencies.csv").open() as file:
        currencies = {row["code"]: row["name"] for row in csv.DictReader(file)}
    with (_DATA / "countries.csv").open() as file:
        return tuple(
            Country(row["country"], row["code"], row["capital"], row["continent"], currencies[row["currency"]])
            for row in csv.DictReader(file)
        )


@cache
def names() -> tuple[str, ...]:
    """Every country, capital, continent and currency, in alphabetical order: spelling without knowledge."""
    fields = (name for x in countries() for name in (x.name, x.capital, x.continent, x.currency))
    return tuple(sorted(set(fields)))


@dataclass(frozen=True, slots=True)
class Fact:
    """One relation of one country: capital, country (of a capital), continent or currency."""

    relation: str
    country: Country

    @property
    def problem(self) -> str:
        return f"{self.country.capital if self.relation == 'country' else self.country.name}, {self.relation}"

    @property
    def answer(self) -> str:
        match self.relation:
            case "capital":
                return self.country.capital
            case "country":
                return self.country.name
            case "continent":
                return self.country.continent
            case _:
                return self.country.currency

    @property
    def worked(self) -> str:
        return steps.work(self.problem, [], self.answer)


CORES: dict[str, Cores] = {
    "capital": Cores(
        train=(
            "the capital of {c}", "the capital of {c}", "the capital city of {c}", "{c}'s capital",
            "which city is the capital of {c}?", "name the capital of {c}", "what is {c}'s capital city?",
            "which city is {c}'s capital?", "what is the capital city of {c} called?",
            "what is the capital of {c} called?", "{c}: what is its capital?", "say the capital of {c}",
            "which is the capital of {c}?", "what city is the capital of {c}?", "the city that is the capital of {c}",
            "what capital does {c} have?", "the name of the capital of {c}",
        ),
        validation=("name the capital city of {c}", "which city is the capital city of {c}?"),
        test=(
            "the name of {c}'s capital", "what is the name of the capital city of {c}?",
            "which is the capital city of {c}?", "what city is {c}'s capital?",
        ),
    ),
    "country": Cores(
        train=(
            "which country has the capital {k}?", "{k} is the capital of which country?",
            "of which country is {k} the capital?", "the country whose capital is {k}",
            "what country has {k} as its capital?", "name the country whose capital is {k}", "whose capital is {k}?",
            "what country is {k} the capital of?", "which country is {k} the capital of?",
            "what country has the capital {k}?", "the country with the capital {k}", "{k} is the capital of what?",
            "what is the country with {k} as capital?", "which country has {k} as capital city?",
            "the name of the country with the capital {k}", "which country's capital city is {k}?",
        ),
        validation=("of what country is {k} the capital?", "name the country with the capital {k}"),
        test=(
            "which country's capital is {k}?", "{k} is the capital city of what country?",
            "the country that has {k} as its capital", "which country has {k} as its capital?",
        ),
    ),
    "continent": Cores(
        train=(
            "which continent is {c} in?", "on which continent is {c}?", "the continent of {c}", "{c}'s continent",
            "what continent does {c} belong to?", "in which continent is {c} located?", "name the continent of {c}",
            "what continent is {c} in?", "on what continent does {c} lie?", "which continent is {c} part of?",
            "what is the continent of {c}?", "which continent is home to {c}?", "{c} is on which continent?",
            "the continent that {c} is in", "on which continent can you find {c}?", "where is {c}: on which continent?",
        ),
        validation=("which continent is {c} located in?", "the name of the continent of {c}"),
        test=(
            "to which continent does {c} belong?", "what continent is {c} part of?", "on which continent does {c} lie?",
            "the continent on which {c} is located",
        ),
    ),
    "currency": Cores(
        train=(
            "the currency of {c}", "{c}'s currency", "what money is used in {c}?", "which currency does {c} use?",
            "what do people pay with in {c}?", "what currency is used in {c}?", "with which money do you pay in {c}?",
            "what money do people use in {c}?", "name the currency of {c}", "what is the money of {c}?",
            "which money does {c} have?", "the money used in {c}", "what currency do they use in {c}?",
            "what currency does {c} have?", "what is the name of the currency of {c}?",
            "in which currency do you pay in {c}?", "what is {c}'s money called?",
        ),
        validation=("what currency does {c} use?", "the name of the money used in {c}"),
        test=(
            "which currency do people use in {c}?", "what is the money of {c} called?", "the currency used in {c}",
            "in what currency do people pay in {c}?",
        ),
    ),
}  # fmt: skip
ARTICLE = frozenset(
    {"Bahamas", "Central African Republic", "Comoros", "DR Congo", "Dominican Republic", "Gambia", "Maldives",
     "Marshall Islands", "Netherlands", "Philippines", "Republic of the Congo", "Seychelles", "Solomon Islands",
     "United Arab Emirates", "United Kingdom", "United States"}
)  # fmt: skip


@cache
def facts() -> tuple[Fact, ...]:
    """All 780 facts: what the skill knows by heart, in every split; only the wording of the test is new."""
    return tuple(Fact(relation, country) for relation in CORES for country in countries())


def ask(fact: Fact, rng: Random, split: Split) -> tuple[str, str, str]:
    """A question for this fact, its answer, and the worked text."""
    name, capital = fact.country.name, fact.country.capital
    said = wrapped(chosen(CORES[fact.relation], split, rng), split, rng)
    article = "the " if name in ARTICLE and rng.random() < 0.7 else ""
    if rng.random() < 0.15:
        name, capital = name.lower(), capital.lower()
    prompt = said.format(c=f"{article}{name}", k=capital)
    if article and prompt.startswith("the "):
        prompt = f"T{prompt[1:]}"
    return prompt, fact.answer, fact.worked


def draw(rng: Random, split: Split) -> tuple[str, str, str]:
    """A question on any fact, its answer, and the worked text; continents, the easiest, are asked less in training."""
    fact = rng.choice(facts())
    if split == "train" and fact.relation == "continent" and rng.random() < 0.4:
        fact = rng.choice(facts())
    return ask(fact, rng, split)
