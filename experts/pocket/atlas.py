"""A `geo` expert that never learned half of the countries, and reads what it does not know in a passage.

For measuring whether retrieval is used where it pays: the facts of the withheld countries are in a small corpus
(`documents`) instead of in the weights. Training has passages with made-up facts of every country, so that the model
learns to read what a passage says, and no true fact of a withheld one.
"""

from random import Random
from zlib import crc32

from experts.language import Passage
from experts.pocket.skills.geo import Country, Fact, ask, countries, facts
from experts.pocket.skills.split import Split
from experts.pocket.training import Example
from experts.retrieval.prompting import with_sources

TEMPLATE = "{sources}\n{question}"
"""Short: the pocket models read one character at a time."""


def withheld(country: Country) -> bool:
    """Whether the country's facts are kept out of training: every second one, by a hash of its code."""
    return crc32(f"withheld {country.code}".encode()) % 2 == 0


def document(country: Country) -> Passage:
    """What the corpus says of a country."""
    said = f"capital {country.capital}; continent {country.continent}; currency {country.currency}"
    return Passage(id=country.code, text=f"{country.name}: {said}")


def documents() -> list[Passage]:
    """The corpus: the withheld countries."""
    return [document(country) for country in countries() if withheld(country)]


def draw(rng: Random) -> Example:
    """A training example: half are known facts by heart, most others are read from a passage with made-up facts."""
    lot = rng.random()
    known = [fact for fact in facts() if not withheld(fact.country)]
    if lot < 0.45:
        return _asked(rng.choice(known), rng, ())
    if lot < 0.55:
        fact = rng.choice(known)
        other = rng.choice([country for country in countries() if country is not fact.country])
        return _asked(fact, rng, (document(_made_up(other, rng)),))
    country = _made_up(rng.choice(countries()), rng)
    return _asked(Fact(rng.choice(("capital", "country", "continent", "currency")), country), rng,
                  (document(country),))  # fmt: skip


def question(fact: Fact, rng: Random, split: Split) -> tuple[str, str]:
    """A question for a fact, in a wording of the split, and its answer."""
    prompt, answer, _ = ask(fact, rng, split)
    return prompt, answer


def _asked(fact: Fact, rng: Random, passages: tuple[Passage, ...]) -> Example:
    prompt, _, worked = ask(fact, rng, "train")
    return Example(with_sources(prompt, passages, TEMPLATE) if passages else prompt, worked)


def _made_up(country: Country, rng: Random) -> Country:
    """The country with another's capital, continent and currency: none of its own."""

    def other(field: str) -> str:
        own = getattr(country, field)
        return rng.choice([value for place in countries() if (value := getattr(place, field)) != own])

    return Country(country.name, country.code, other("capital"), other("continent"), other("currency"))
