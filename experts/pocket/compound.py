"""Questions of two skills: what one expert finds is what the next one works on, or both are asked for at once.

    >>> compounds("test", 1)[0].prompt
    'How do you spell the name of the capital of France backwards?'

Each has its parts in words that the experts were trained on, the plan that leads to them, and the glue: the parts'
worked texts one after the other, for supervising experts that are fused. Test and validation have wordings of their
own (those that the skills hold out, and further ones), countries and numbers of their own, and, marked `novel`,
combinations of operations that training never sees. Cheap to import: neither torch nor transformers.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import NamedTuple

from experts.pocket.compound_words import ASKED, BOTH, CLOCK, IT, NOUNS, THEN
from experts.pocket.parts import SPELL, Part, known, named, spelled, summed, timed
from experts.pocket.questions import Question
from experts.pocket.skills import calc, geo, text, units
from experts.pocket.skills.geo import Fact
from experts.pocket.skills.phrasing import Cores, chosen, wrapped
from experts.pocket.skills.split import Split, drawn, part
from experts.pocket.skills.text import Spelling
from experts.pocket.skills.units import Conversion

SPELLINGS: tuple[str, ...] = ("reverse", "length", "upper", "sort")
FACTS: tuple[str, ...] = ("capital", "country", "continent", "currency")
NOVEL: frozenset[str] = frozenset(
    {"capital>length", "country>reverse", "continent>sort", "currency>upper", "length>subtract", "subtract>clock",
     "factor>multiply", "length&capital", "add&country", "continent&reverse", "factor&subtract", "currency&factor"}
)  # fmt: skip
"""Combinations that only the test has; their operations occur in training, in other company."""
WORN = 0.3
"""Share of the training phrases in which small words are left out or idle ones put in."""


@dataclass(frozen=True, slots=True)
class Compound:
    """`combination` names the two operations: `capital>reverse` (in a chain), `capital&add` (side by side)."""

    id: str
    combination: str
    prompt: str
    answer: str
    parts: tuple[Part, ...]
    split: str

    @property
    def novel(self) -> bool:
        return self.combination in NOVEL

    @property
    def plan(self) -> str:
        """A numbered line for each part."""
        return "\n".join(f"{number}: {part.posed}" for number, part in enumerate(self.parts, 1))

    @property
    def glue(self) -> tuple[tuple[str, str], ...]:
        """`(skill, text)` of each part, whose texts together are one worked answer: the question posed anew, steps,
        result. A last line states the whole answer where the parts stand side by side."""
        said = [(one.skill, f"{one.prompt}\n{one.worked}") for one in self.parts]
        texts = [*(f"{words}\n" for _, words in said[:-1]), said[-1][1]]
        if len(self.parts) > 1 and not self.parts[-1].after:
            texts[-1] += f"\nAnswer: {self.answer}"
        return tuple((skill, words) for (skill, _), words in zip(said, texts, strict=True))

    @property
    def worked(self) -> str:
        """The glue as one text; its last line is `Answer: ...`."""
        return "".join(words for _, words in self.glue)

    @property
    def speakers(self) -> list[tuple[int, int, str]]:
        """Where in `worked` a skill works out its part: first character, last (excluded), skill. The questions posed
        anew, what hands over and the last line of all are nobody's."""
        spans: list[tuple[int, int, str]] = []
        before = 0
        for one, (skill, words) in zip(self.parts, self.glue, strict=True):
            start = before + len(one.prompt) + 1
            spans.append((start, start + len(one.worked), skill))
            before += len(words)
        return spans


class Inner(NamedTuple):
    """A part that asks for something, and the noun phrase that stands for it in a longer question."""

    operation: str
    part: Part
    noun: str


def phrase(cores: Cores, split: Split, rng: Random) -> str:
    """A core; of those of training, `WORN` have words too many or too few."""
    return chosen(cores, split, rng, worn=WORN)


def _country(rng: Random, split: Split, relation: str, *, word: bool) -> Fact:
    """A fact whose country is in the split's share; with `word`, one whose answer is a single word of ASCII letters."""
    while True:
        fact = rng.choice(geo.facts())
        good = not word or (fact.answer.isalpha() and 3 <= len(fact.answer) <= 11)
        if fact.relation == relation and good and part(f"compound {fact.country.name}") == split:
            return fact


def _noun(operation: str, split: Split, rng: Random, **fields: object) -> str:
    return phrase(NOUNS[operation], split, rng).format(**fields)


def fact(rng: Random, split: Split, relation: str, *, word: bool = False) -> Inner:
    found = _country(rng, split, relation, word=word)
    return Inner(relation, known(found), _noun(relation, split, rng, c=named(found), k=found.country.capital))


def spelling(rng: Random, split: Split, operation: str) -> Inner:
    value = Spelling(operation, rng.choice(text.words(split)))
    return Inner(operation, spelled(value), _noun(operation, split, rng, w=value.word))


def total(rng: Random, split: Split, operation: str, good: Callable[[int], bool] = lambda _: True) -> Inner:
    while True:
        value = calc.values(rng, split)
        if value.operation == operation and good(int(value.answer)):
            noun = _mentioned(phrase(NOUNS[operation], split, rng), operation, str(value.a), str(value.b))
            return Inner(operation, summed(value), noun)


def _mentioned(words: str, operation: str, a: str, b: str) -> str:
    """The words with a and b in their places; of a sum or a product, a is the one that is mentioned first."""
    if operation in ("add", "multiply") and words.find("{b}") < words.find("{a}"):
        a, b = b, a
    return words.replace("{a}", a).replace("{b}", b)


def _factor(rng: Random, split: Split) -> Inner:
    def draw(rng: Random) -> Conversion:
        unit, target = rng.choice(list(units.FACTORS))
        most = min(40, 800 // units.FACTORS[unit, target])
        return Conversion("factor", str(rng.randint(2, most)), unit, target)

    value = drawn(rng, split, draw, lambda one: one.key)
    unit, target = units.SPOKEN[value.unit][-1 if len(value.unit) < 4 else 0], units.SPOKEN[value.target][0]
    unit = units.SPOKEN[value.unit][0] if value.unit == "hours" else unit
    asked = f"Convert {value.amount} {unit} to {target}."
    noun = _noun("factor", split, rng, v=f"{value.amount} {unit}", t=target)
    return Inner("factor", Part("units", asked, asked, value.answer, value.worked), noun)


def put(core: str, noun: str, split: Split, rng: Random) -> str:
    """An outer core about `{x}`, wrapped, with the noun in its place, or with the noun first and `{x}` called it."""
    if rng.random() < 0.35 and not core.startswith(("the ", "{")) and not core.endswith("?"):
        then = phrase(THEN, split, rng)
        core = then.replace("{do}", core.replace("{x}", phrase(IT, split, rng)))
    said = wrapped(core, split, rng, varied=True).replace("{x}", noun)
    return said if split == "train" else said[:1].upper() + said[1:]


def about(operation: str, split: Split, rng: Random) -> str:
    """What text is asked about `{x}`."""
    return phrase(ASKED[operation], split, rng).replace("the word {w}", "{x}").replace("{w}", "{x}")


def _spelled(rng: Random, split: Split, relation: str, operation: str) -> tuple[str, str, tuple[Part, ...]]:
    """What geo knows, for text to work on, which reads lower case."""
    inner = fact(rng, split, relation, word=True)
    value = Spelling(operation, inner.part.answer.lower())
    core = about(operation, split, rng)
    last = spelled(value, SPELL[operation].format("{1:lower}"), (1,))
    return put(core, inner.noun, split, rng), value.answer, (inner.part, last)


def reckoned(rng: Random, split: Split, inner: Inner, operation: str) -> tuple[str, str, tuple[Part, ...]]:
    """A number that text or units find, for calc to work on."""
    found = int(inner.part.answer.split()[0])
    cores = [
        core for core in ASKED[operation].of(split) if " {b}" in core and not re.search("{(things|name|other)}", core)
    ]
    first = rng.random() < 0.6 if operation == "add" else found > (9 if operation == "multiply" else 60)
    if operation == "multiply":
        other = rng.randint(2, 9) if found > 99 else rng.randint(11, 99)
    elif operation == "subtract" and first:
        other = rng.randint(2, found - 1)
    else:
        other = rng.randint(max(found, 11), max(found, 11) + 150)
    value = calc.Sum(operation, *((found, other) if first else (other, found)))
    core = phrase(replace(ASKED[operation], **{split: tuple(cores), "bank": ""}), split, rng)
    a, b = ("{x}", str(other)) if first else (str(other), "{x}")
    mark = "{1:number}" if inner.part.skill == "units" else "{1}"
    sign = calc.SIGNS[operation]
    posed = f"What is {mark} {sign} {other}?" if first else f"What is {other} {sign} {mark}?"
    last = summed(value, posed, (1,))
    said = put(_mentioned(core, operation, a, b), inner.noun, split, rng)
    return said, value.answer, (inner.part, last)


def _timed(rng: Random, split: Split, operation: str) -> tuple[str, str, tuple[Part, ...]]:
    """A number of minutes that calc finds, for units to say in hours."""
    inner = total(rng, split, operation, lambda found: 61 <= found <= 599)
    value = Conversion("clock", inner.part.answer, "min", "h min")
    last = timed(value, "Convert {1} minutes to hours and minutes.", (1,))
    return put(phrase(CLOCK, split, rng), inner.noun, split, rng), value.answer, (inner.part, last)


def beside(rng: Random, split: Split, first: str, second: str) -> tuple[str, str, tuple[Part, ...]]:
    """Two questions at once; the answer is both answers, with a comma between."""
    return joined(rng, split, single(rng, split, first), single(rng, split, second))


def joined(rng: Random, split: Split, x: Inner, y: Inner) -> tuple[str, str, tuple[Part, ...]]:
    """One question that asks for both."""
    said = wrapped(phrase(BOTH, split, rng).replace("{x}", "{w}", 1), split, rng, varied=True)
    said = said.replace("{w}", x.noun).replace("{y}", y.noun)
    said = said if split == "train" else said[:1].upper() + said[1:]
    return said, f"{x.part.answer}, {y.part.answer}", (x.part, y.part)


def single(rng: Random, split: Split, operation: str) -> Inner:
    """A part that stands by itself."""
    if operation in FACTS:
        return fact(rng, split, operation)
    if operation in ("reverse", "length"):
        return spelling(rng, split, operation)
    return _factor(rng, split) if operation == "factor" else total(rng, split, operation)


SKILLS_OF: dict[str, str] = {**dict.fromkeys(FACTS, "geo"), "reverse": "text", "length": "text", "factor": "units",
          "add": "calc", "subtract": "calc", "multiply": "calc"}  # fmt: skip
CHAINS: tuple[str, ...] = (
    *(f"{relation}>{operation}" for relation in FACTS for operation in SPELLINGS),
    *(f"{inner}>{operation}" for inner in ("length", "factor") for operation in ("add", "subtract", "multiply")),
    *(f"{operation}>clock" for operation in ("add", "subtract", "multiply")),
)
PAIRS: tuple[str, ...] = tuple(f"{a}&{b}" for a in SKILLS_OF for b in SKILLS_OF if SKILLS_OF[a] != SKILLS_OF[b])


def draw(split: Split, rng: Random, name: str = "") -> Compound:
    """One question: three chains to one pair; those of the test have a novel combination half the time."""
    kinds = CHAINS if rng.random() < 0.75 else PAIRS
    novel = split == "test" and rng.random() < 0.5
    combination = rng.choice([kind for kind in kinds if (kind in NOVEL) == novel])
    first, mark, second = combination.replace("&", " & ").replace(">", " > ").split()
    if mark == "&":
        said, answer, parts = beside(rng, split, first, second)
    elif second == "clock":
        said, answer, parts = _timed(rng, split, first)
    elif first in FACTS:
        said, answer, parts = _spelled(rng, split, first, second)
    else:
        inner = spelling(rng, split, "length") if first == "length" else _factor(rng, split)
        said, answer, parts = reckoned(rng, split, inner, second)
    return Compound(name, combination, said, answer, parts, split)


def compounds(split: Split, n: int, seed: int = 0) -> list[Compound]:
    """The first n questions of a split under a seed, no prompt twice; more of them begin with the same ones."""
    rng = Random(f"compound {split} {seed}")
    asked: dict[str, Compound] = {}
    while len(asked) < n:
        question = draw(split, rng, f"pocket-compound-{split}-{seed}-{len(asked)}")
        asked.setdefault(question.prompt, question)
    return list(asked.values())


def part_questions(split: Split, n: int, seed: int = 0) -> list[Question]:
    """The parts as a plan poses them, results filled in: n of each skill that has any, no prompt twice."""
    rng = Random(f"parts {split} {seed}")
    found: dict[str, dict[str, Question]] = {skill: {} for skill in sorted(set(SKILLS_OF.values()))}
    while any(len(asked) < n for asked in found.values()):
        for one in draw(split, rng).parts:
            asked = found[one.skill]
            if len(asked) < n and one.prompt not in asked:
                name = f"pocket-part-{one.skill}-{split}-{seed}-{len(asked)}"
                asked[one.prompt] = Question(name, one.skill, one.prompt, one.answer, one.worked, split)
    return [question for asked in found.values() for question in asked.values()]
