"""Parts, facts and words that are made up, for questions in which nobody can know what is asked.

Whoever learns to pose parts anew from such questions learns to read them, and to copy what stands there.
"""

import re
from dataclasses import replace
from random import Random

from experts.pocket.compound import (
    FACTS,
    SKILLS_OF,
    SPELLINGS,
    Compound,
    Inner,
    about,
    draw,
    fact,
    joined,
    put,
    reckoned,
    single,
    spelling,
    total,
)  # fmt: skip
from experts.pocket.parts import SPELL, Part, spelled
from experts.pocket.skills import geo, text
from experts.pocket.skills.text import Spelling

SUMS: tuple[str, ...] = ("add", "subtract", "multiply")

MADE_UP = "made up"
"""The skill of a part that nobody has."""

SUBJECT = re.compile(
    r"(?:the capital of|the capital|continent is|currency of|the word|letters does) (?:the )?(.+?)(?: in| have)?[?.]$"
)
"""What a part that is posed asks about."""


def invented(rng: Random) -> tuple[Compound, tuple[int, int]]:
    """A training question whose fact is made up, and where in its worked answer the fact is first stated.

    Of most countries the name is made up, too. Whoever learns from the rest of these learns what follows a fact, not
    the fact.
    """
    while True:
        asked = draw("train", rng)
        place = next((place for place, one in enumerate(asked.parts) if one.skill == "geo"), None)
        found = SUBJECT.search(asked.parts[place].posed) if place is not None else None
        if place is not None and found and asked.prompt.count(found[1]) == 1:
            break
    known, last = asked.parts[place], asked.parts[-1]
    name = found[1] if rng.random() < 0.3 else any_name(rng)
    answer = any_word(rng).capitalize()
    answer = answer.lower() if known.answer.islower() else answer
    fact = replace(
        known,
        posed=known.posed.replace(found[1], name),
        prompt=known.prompt.replace(found[1], name),
        worked=known.worked.replace(f"Answer: {known.answer}", "Answer: ").replace(found[1], name) + answer,
        answer=answer,
    )
    parts = [fact if one is known else one for one in asked.parts]
    if last.after:
        parts[-1] = respelled(last, asked.combination.split(">")[1], answer.lower())
    made = replace(
        asked,
        prompt=asked.prompt.replace(found[1], name),
        answer=parts[-1].answer if last.after else ", ".join(one.answer for one in parts),
        parts=tuple(parts),
    )
    start = made.speakers[place][1] - len(answer)
    return made, (start, start + len(answer))


def unheard(rng: Random) -> Compound:
    """A question one of whose operations is made up: something's `vorn`, or to `blick` a word.

    What is known of one part then says nothing of the other, so that each is read by itself, in combinations that are
    new as well. The worked answer to the made-up part is as made up as the part.
    """
    lot, numeric = rng.random(), rng.random() < 0.5
    if lot < 0.25:
        return _done_to_it(rng)
    inner = _number_of(rng) if numeric else _of_a_name(rng)
    if lot < 0.5:
        other = single(rng, "train", rng.choice(list(SKILLS_OF)))
        said, answer, parts = joined(rng, "train", *((inner, other) if rng.random() < 0.5 else (other, inner)))
        return Compound("", f"made up&{other.operation}", said, answer, parts, "train")
    if numeric:
        operation = rng.choice(SUMS)
        said, answer, parts = reckoned(rng, "train", inner, operation)
    else:
        operation = rng.choice(SPELLINGS)
        value = Spelling(operation, inner.part.answer.lower())
        core = about(operation, "train", rng)
        said, answer = put(core, inner.noun, "train", rng), value.answer
        parts = (inner.part, spelled(value, SPELL[operation].format("{1:lower}"), (1,)))
    return Compound("", f"made up>{operation}", said, answer, parts, "train")


def _of_a_name(rng: Random) -> Inner:
    what, name, answer = any_word(rng), any_name(rng), any_word(rng).capitalize()
    noun = rng.choice(
        (f"the {what} of {name}", f"{name}'s {what}", f"the {what} that {name} has", f"the {what} which {name} has",
         f"the name of the {what} of {name}", f"the {what} {rng.choice(('in', 'for', 'around'))} {name}")
    )  # fmt: skip
    asked = f"What is the {what} of {name}?"
    return Inner(MADE_UP, Part(MADE_UP, asked, asked, answer, f"{name}, {what}\nAnswer: {answer}"), noun)


def _number_of(rng: Random) -> Inner:
    what, name, answer = any_word(rng), rng.choice((any_name, any_word))(rng), str(rng.randint(2, 99))
    noun = rng.choice(
        (f"the number of {what} in {name}", f"the {what} count of {name}", f"how many {what} {name} has",
         f"the {what} that {name} has", f"the number of {what} {name} has", f"{name} counted in {what}")
    )  # fmt: skip
    asked = f"How many {what} does {name} have?"
    return Inner(MADE_UP, Part(MADE_UP, asked, asked, answer, f"{what} {name}\nAnswer: {answer}"), noun)


def _done_to_it(rng: Random) -> Compound:
    """A known part, and a made-up thing that is to be done to what it finds."""
    match rng.choice(("fact", "spelling", "total")):
        case "fact":
            inner = fact(rng, "train", rng.choice(FACTS), word=True)
        case "spelling":
            inner = spelling(rng, "train", rng.choice(("reverse", "length")))
        case _:
            inner = total(rng, "train", rng.choice(SUMS))
    verb = any_word(rng)
    found = inner.part.answer.lower()
    core = rng.choice(
        (f"{verb} {{x}}", f"{verb} the word {{x}}", f"give me {{x}} after you {verb} it", f"{verb} {{x}} now")
    )
    posed, asked = (f"{verb.capitalize()} {word}." for word in ("{1:lower}", found))
    answer = any_word(rng)
    last = Part(MADE_UP, posed, asked, answer, f"{verb} {found}\nAnswer: {answer}", (1,))
    said = put(core, inner.noun, "train", rng)
    return Compound("", f"{inner.operation}>made up", said, answer, (inner.part, last), "train")


def respelled(part: Part, operation: str, word: str) -> Part:
    """A part of the skill text, about another word."""
    value = Spelling(operation, word)
    posed = part.posed if part.after else SPELL[operation].format(word)
    return replace(part, posed=posed, prompt=SPELL[operation].format(word), answer=value.answer, worked=value.worked)


def any_word(rng: Random) -> str:
    if rng.random() < 0.4:
        return rng.choice(text.words("train"))
    letters = rng.choice(("abcdefghijklmnopqrstuvwxyz", "abcdefghilmnoprstu", "aeioulnrst"))
    return "".join(rng.choice(letters) for _ in range(rng.randint(3, 11)))


def any_name(rng: Random) -> str:
    """One to four words with capitals, some joined by `and`; a third of them are names of the world."""
    if rng.random() < 0.35:
        return rng.choice(geo.names())
    words = [any_word(rng).capitalize() for _ in range(rng.choice((1, 1, 1, 2, 2, 3)))]
    if len(words) > 1 and rng.random() < 0.3:
        words.insert(-1, rng.choice(("and", "and", "of")))
    return " ".join(words)
