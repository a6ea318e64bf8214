"""Ways of asking. A skill writes cores; this module wraps them in the manners of speech.

A training core may hold choices, `[a|b|]`; the held-out cores are kept out of what they spell. A core that ends with
`?` is a question, one that begins with `the ` or `{` is a noun phrase, any other is a command. Each split has its own
cores and, beside the plain ones, its own wrappings: no test wording occurs in training. Training text also gets
greetings, slips of the finger, lower case and, where a skill asks for it, many more manners of speech and words that do
not belong there, so that the models learn to look for the words that matter. `data/wordings.json` has what was written
down for training by people who had not seen the held-out wordings.
"""

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from string import ascii_lowercase

from experts.pocket.skills.split import Split


@cache
def taught(group: str) -> tuple[str, ...]:
    """Training wordings that were written down: `calc/add`, `layouts/all`, `wrappings/nouns`, ...; `KeyError` else."""
    name, kind = group.split("/")
    return tuple(json.loads((Path(__file__).parent.parent / "data" / "wordings.json").read_text())[name][kind])


@dataclass(frozen=True, slots=True)
class Cores:
    """The cores of one kind of question, a tuple a split; `bank` names more for training in `data/wordings.json`."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    bank: str = ""

    def of(self, split: Split) -> tuple[str, ...]:
        match split:
            case "train":
                return self.train + taught(self.bank) if self.bank else self.train
            case "validation":
                return self.validation
            case _:
                return self.test


NOUNS = Cores(
    train=(
        "{x}", "{X}?", "What is {x}?", "What's {x}?", "What is {x}?", "Tell me {x}.", "Give me {x}.", "Find {x}.",
        "I need {x}.", "Can you tell me {x}?", "Could you give me {x}?", "Please find {x}.", "Do you know {x}?",
        "I would like to know {x}.", "What would {x} be?", "Do you know what {x} is?", "Please tell me {x}.",
        "{X}, please.", "Can you say what {x} is?", "I want to know what {x} is.", "Show me {x}.", "{X} is what?",
    ),
    validation=("What is {x}?", "Would you mind telling me {x}?", "I wonder what {x} is.", "Can you find {x}?"),
    test=("What is {x}?", "Could you tell me what {x} is?", "I'd like to know {x}, please.", "Please let me know {x}."),
)  # fmt: skip
COMMANDS = Cores(
    train=(
        "{X}.", "{X}", "{x}", "Please {x}.", "{X}, please.", "Can you {x}?", "Could you {x}?", "Would you {x}?",
        "I want you to {x}.", "Now {x}.", "Try to {x}.", "Help me {x}.", "Your task: {x}.", "Go ahead and {x}.",
        "Can you help me {x}?", "I would like you to {x}.", "You should {x}.",
    ),
    validation=("{X}.", "Can you {x}, please?", "Would you kindly {x}?"),
    test=("{X}.", "Could you please {x} for me?", "I need you to {x}.", "Will you {x}?"),
)  # fmt: skip
QUESTIONS = Cores(
    train=(
        "{X}?", "{X}?", "{x}?", "{x}", "Tell me, {x}?", "Quick question: {x}?", "Please tell me: {x}?",
        "{X}? Thanks.", "I have a question: {x}?", "So {x}?", "Now {x}?", "Can you tell me: {x}?", "Do you know {x}?",
        "Question: {x}?", "Well, {x}?", "Just wondering: {x}?",
    ),
    validation=("{X}?", "Another question: {x}?", "{X}, please?"),
    test=("{X}?", "Hey, {x}?", "Can you help me? {X}?", "Here is my question: {x}?"),
)  # fmt: skip

_WRAPPINGS = {"nouns": NOUNS, "commands": COMMANDS, "questions": QUESTIONS}
_GREETINGS = (
    "Hi!", "Hello!", "Hello,", "Hi there,", "Good morning.", "OK,", "Hey!", "Dear assistant,", "Excuse me,",
    "Thanks for your help.", "Hi, I have a task for you.", "Listen,", "Alright,", "Sorry to ask,",
)  # fmt: skip


_CHOICE = re.compile(r"\[([^\[\]]*)\]")


def _tidy(core: str) -> str:
    return re.sub(r" +", " ", core).replace(" ?", "?").strip()


def chosen(cores: Cores, split: Split, rng: Random, *, worn: float = 0.0) -> str:
    """One core of a split, its choices made; in training never one that is held out, and this share of them `worn`."""
    while True:
        core = rng.choice(cores.of(split))
        spelled = _tidy(_CHOICE.sub(lambda found: rng.choice(found[1].split("|")), core)) if "[" in core else core
        if split == "train" and worn and rng.random() < worn:
            spelled = _worn(spelled, rng)
        if split != "train" or (spelled not in cores.validation and spelled not in cores.test):
            return spelled


def wrapped(core: str, split: Split, rng: Random, *, varied: bool = False) -> str:
    """A core in one of the split's wrappings; its `{fields}` are left for the skill to fill.

    When `varied`, training text has the written wrappings too, and some begins or ends with a few idle words.
    """
    noun = core.startswith(("the ", "{"))
    kind = "questions" if core.endswith("?") else "nouns" if noun else "commands"
    forms = _WRAPPINGS[kind].of(split)
    if varied and split == "train" and rng.random() < 0.5:
        forms = taught(f"wrappings/{kind}")
    form = rng.choice(forms)
    core = core.rstrip("?")
    said = form.replace("{x}", core).replace("{X}", core if core.startswith("{") else core[:1].upper() + core[1:])
    if split != "train":
        return said
    if rng.random() < 0.12:
        said = _slip(said, rng)
    if varied:
        said = _disturbed(said, rng)
    if rng.random() < 0.15:
        said = f"{rng.choice(_GREETINGS)} {said}"
    if rng.random() < 0.2:
        said = _lower(said)
    if rng.random() < 0.15:
        said = said.rstrip("?.")
    return said


def _slip(said: str, rng: Random) -> str:
    """Drop or double one letter outside the fields."""
    depth, places = 0, list[int]()
    for place, character in enumerate(said):
        depth += (character == "{") - (character == "}")
        if depth == 0 and character.isalpha():
            places.append(place)
    if not places:
        return said
    place = rng.choice(places)
    return said[:place] + rng.choice(("", said[place] * 2)) + said[place + 1 :]


_SAID_IDLY = """
    a about again all an and any anyway as ask at be been but by could day do does everyone fine for from give given
    good got had has have having here homework how i if in is it its just kind know let like look make maybe me mind
    my need next now of on once one or our out over please problem question quickly really right say see should
    small so some sure take task tell thank thanks that the then there these thing think this time to today try us
    use very want was we well what when where which while who will with wonder work would yes you your
"""
_IDLE: tuple[str, ...] = tuple(_SAID_IDLY.split())


def idle(rng: Random, most: int) -> str:
    """From one to `most` words that say nothing, now and then one that is no word at all."""
    words = [rng.choice(_IDLE) for _ in range(rng.randint(1, most))]
    if rng.random() < 0.3:
        words[rng.randrange(len(words))] = "".join(rng.choice(ascii_lowercase) for _ in range(rng.randint(2, 9)))
    return " ".join(words)


_SAID_EASILY = "a an are does has have is it of that the there this what which you"
_SMALL: frozenset[str] = frozenset(_SAID_EASILY.split())
"""Words that a question can do without."""


def _worn(core: str, rng: Random) -> str:
    """One or two small words left out or idle ones put in: whoever learns from it reads the words that matter, and
    minds none that it never saw. The first word stays: what kind of core it is, it says."""
    words = core.split()
    for _ in range(rng.randint(1, 2)):
        small = [place for place, word in enumerate(words) if place and word in _SMALL]
        if small and rng.random() < 0.5:
            place = rng.choice(small)
            words[place : place + 1] = [idle(rng, 1)] if rng.random() < 0.5 else []
        elif not words[-1].endswith("?"):
            words.insert(rng.randint(1, len(words)), idle(rng, 2))
    return " ".join(words)


def jostled(said: str, rng: Random) -> str:
    """A whole question, one or two small words of it left out or pushed aside by idle ones. Other words stay side by
    side, as they may be a name."""
    words = said.split(" ")
    for _ in range(rng.randint(1, 2)):
        small = [place for place, word in enumerate(words) if place and word in _SMALL]
        if small:
            place = rng.choice(small)
            words[place : place + 1] = rng.choice(([], [idle(rng, 1)], [idle(rng, 2), words[place]]))
    return " ".join(words)


def _disturbed(said: str, rng: Random) -> str:
    """Put idle words before or after the question, now and then."""
    lot = rng.random()
    if lot < 0.12:
        before = idle(rng, 5)
        return f"{before[:1].upper()}{before[1:]}{rng.choice((' ', ' ', ', ', ': ', '. '))}{said}"
    if lot < 0.2:
        return f"{said} {idle(rng, 4)}"
    return said


def _lower(said: str) -> str:
    """Lower case outside the fields (whose names are in lower case anyway)."""
    return said.lower()
