"""What the planner learns: questions of two skills and of one, each with its plan; and questions of made-up facts.

    >>> lesson(Random(1))
    ('reverse the capital of Fenhir', '1: What is the capital of Fenhir?\\n2: Reverse the word {1:lower}.')

Beside the training questions of `compound` come others, whose two operations are of one skill or meet in an order that
no question has: what a phrase asks for is to be read apart from what is asked about it. Combinations that only the test
has do not occur.
"""

from dataclasses import replace
from random import Random

from experts.pocket import questions
from experts.pocket.compound import (
    NOVEL,
    SKILLS_OF,
    SPELLINGS,
    WORN,
    Compound,
    Inner,
    about,
    beside,
    draw,
    fact,
    phrase,
    put,
    reckoned,
    single,
    spelling,
    total,
)  # fmt: skip
from experts.pocket.compound_words import NOUNS
from experts.pocket.made_up import MADE_UP, SUBJECT, SUMS, any_name, any_word, invented, respelled, unheard
from experts.pocket.parts import SPELL, Part, known, spelled, timed
from experts.pocket.questions import Question
from experts.pocket.skills import geo, units
from experts.pocket.skills.phrasing import jostled, wrapped
from experts.pocket.skills.text import Spelling
from experts.pocket.skills.units import Conversion

ONE_PART = 0.15
"""Share of the questions that several answer which have one part only."""
ALONE = 0.4
"""Share of the questions that an expert who learns company is asked by themselves."""
WHOLE = "1: {query}"
"""The plan of a question of one skill."""


def lesson(rng: Random) -> tuple[str, str]:
    """A training question and its plan: four of two skills to one of a single skill. Chains are three to two pairs:
    what stands beside a part may look like what is asked about it.

    Most of the names and words are others than those the skills know, many of them no words at all: a planner has to
    copy what it reads, known or not.
    """
    lot = rng.random()
    if lot < 0.2:
        return by_itself(rng).prompt, WHOLE
    if lot < 0.4:
        asked = unheard(rng)
        return asked.prompt, asked.plan
    if lot < 0.5:
        prompt, posed = _further(rng)
    else:
        asked = draw("train", rng) if lot < 0.8 else _beside(rng)
        prompt, posed = asked.prompt, [(part.skill, part.posed) for part in asked.parts]
    plan = "\n".join(f"{number}: {line}" for number, (_, line) in enumerate(posed, 1))
    for skill, line in posed:
        found = SUBJECT.search(line)
        if found and "{" not in found[1] and prompt.count(found[1]) == 1 and rng.random() < 0.75:
            other = any_name(rng) if skill == "geo" else any_word(rng)
            prompt, plan = prompt.replace(found[1], other), plan.replace(f" {found[1]}", f" {other}")
    return prompt, plan


def by_itself(rng: Random) -> Question:
    """A training question of one skill, `WORN` of them in words too many or too few; a schema stays as it is."""
    asked = questions.draw(rng.choice(questions.SKILLS), "train", rng)
    if asked.skill == "sql" or rng.random() >= WORN:
        return asked
    return replace(asked, prompt=jostled(asked.prompt, rng))


def one_part(rng: Random) -> Compound:
    """A question of one part, posed anew as those of two are: after the first part there need not be another."""
    inner = single(rng, "train", rng.choice(list(SKILLS_OF)))
    said = wrapped("{x}", "train", rng, varied=True).replace("{x}", inner.noun)
    return Compound("", inner.operation, said, inner.part.answer, (inner.part,), "train")


def shared(rng: Random) -> tuple[Compound, list[tuple[int, int]]]:
    """A training question of two skills (some of one) whose answer several write, and the spans of it that nobody could
    know.

    Many names, facts, words and operations are made up: who poses a part anew has to copy what stands there, known or
    not.
    """
    lot = rng.random()
    if rng.random() < ONE_PART:
        return one_part(rng), []
    if lot < 0.15:
        return _beside(rng) if rng.random() < 0.6 else _summed(rng), []
    if lot < 0.4:
        asked = unheard(rng)
        return asked, [asked.speakers[place][:2] for place, part in enumerate(asked.parts) if part.skill == MADE_UP]
    if lot < 0.65:
        asked, fact = invented(rng)
        return asked, [fact]
    asked = draw("train", rng)
    first = asked.parts[0]
    found = SUBJECT.search(first.posed)
    if first.skill == "text" and found and not asked.parts[-1].after and asked.prompt.count(found[1]) == 1:
        word = any_word(rng)
        other = respelled(first, asked.combination.split("&")[0], word)
        asked = replace(asked, prompt=asked.prompt.replace(found[1], word), parts=(other, asked.parts[1]),
                        answer=f"{other.answer}, {asked.parts[1].answer}")  # fmt: skip
    return asked, []


def company(rng: Random, skill: str) -> tuple[str, str, int, bool]:
    """For an expert of the skill: a question of its own, alone or after what others said; the answer, how many first
    characters of it are others', and whether it goes on.

    Of answers that several write, the expert learns only its own part: a question posed anew on the last line, and the
    line break that hands over. Two times in three the question has nothing to do with what stands before it, so that
    what is learned is to answer the last one, not what it might be; what stands before may be made up. All that the
    skill knows is asked in company too, of the facts also those of countries that no question of two skills has in
    training.
    """
    if rng.random() < ALONE:
        asked = questions.draw(skill, "train", rng)
        return asked.prompt, asked.worked, 0, False
    related = rng.random() < 1 / 3
    while True:
        whole = draw("train", rng) if related else shared(rng)[0]
        mine = [place for place, one in enumerate(whole.parts) if one.skill == skill]
        if mine or not related or skill not in SKILLS_OF.values():
            break
    related = related and bool(mine)
    place = rng.choice(mine) if related else rng.randint(0, len(whole.parts) - 1)
    before = "".join(f"{one.prompt}\n{one.worked}\n" for one in whole.parts[:place])
    last = place + 1 == len(whole.parts)
    if related:
        asked = whole.parts[place]
        goes_on = not last or not asked.after
        ends = goes_on
    else:
        asked = _posed(rng, skill) if rng.random() < 2 / 3 else questions.draw(skill, "train", rng)
        goes_on, ends = True, not last
    before += f"{asked.prompt}\n"
    return whole.prompt, before + asked.worked + ("\n" if ends else ""), len(before), goes_on


def _posed(rng: Random, skill: str) -> Part | Question:
    """A question of the skill in the words in which parts are posed."""
    match skill:
        case "geo":
            return known(rng.choice(geo.facts()))
        case "text":
            return spelled(Spelling(rng.choice(SPELLINGS), any_word(rng)))
        case "calc":
            return total(rng, "train", rng.choice(SUMS)).part
        case "units" if rng.random() < 0.5:
            return single(rng, "train", "factor").part
        case "units":
            return timed(Conversion("clock", str(rng.randint(61, 599)), "min", "h min"))
        case _:
            return questions.draw(skill, "train", rng)


def _further(rng: Random) -> tuple[str, list[tuple[str, str]]]:
    """A question of two parts that the skills would not be asked, and `(skill, sub-question)` of each part."""
    match rng.choice(("pair", "words", "world", "sums", "sums", "factor")):
        case "pair":
            asked = _beside(rng)
            return asked.prompt, [(part.skill, part.posed) for part in asked.parts]
        case "words":
            inner = spelling(rng, "train", "reverse")
            outer = rng.choice(SPELLINGS)
            core = about(outer, "train", rng)
            return _chained(rng, inner, core, "text", SPELL[outer].format("{1:lower}"))
        case "world":
            inner = fact(rng, "train", "country")
            outer = rng.choice(("continent", "currency"))
            core = phrase(NOUNS[outer], "train", rng).replace("{c}", "{x}")
            asked = {"continent": "Which continent is {1} in?", "currency": "What is the currency of {1}?"}[outer]
            return _chained(rng, inner, core, "geo", asked)
        case "sums":
            asked = _summed(rng)
            return asked.prompt, [(part.skill, part.posed) for part in asked.parts]
        case _:
            inner = total(rng, "train", rng.choice(SUMS))
            unit, target = (units.SPOKEN[name][0] for name in rng.choice(list(units.FACTORS)))
            core = phrase(NOUNS["factor"], "train", rng).replace("{v}", f"{{x}} {unit}").replace("{t}", target)
            return _chained(rng, inner, core, "units", f"Convert {{1}} {unit} to {target}.")


def _beside(rng: Random) -> Compound:
    """Two questions at once, of one skill or of two."""
    while True:
        first, second = rng.choice(list(SKILLS_OF)), rng.choice(list(SKILLS_OF))
        if f"{first}&{second}" not in NOVEL:
            said, answer, parts = beside(rng, "train", first, second)
            return Compound("", f"{first}&{second}", said, answer, parts, "train")


def _summed(rng: Random) -> Compound:
    """A sum of a sum."""
    first, second = rng.choice(SUMS), rng.choice(SUMS)
    inner = total(rng, "train", first, lambda found: found > 1)
    said, answer, parts = reckoned(rng, "train", inner, second)
    return Compound("", f"{first}>{second}", said, answer, parts, "train")


def _chained(rng: Random, inner: Inner, core: str, skill: str, posed: str) -> tuple[str, list[tuple[str, str]]]:
    """What `core` asks about `{x}`, with the inner part's noun in its place."""
    return put(core, inner.noun, "train", rng), [(inner.part.skill, inner.part.posed), (skill, posed)]
