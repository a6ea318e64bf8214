"""Operations on the letters of one word: reverse, sort, count, length, case, and the n-th letter."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from string import ascii_lowercase

from experts.pocket import steps
from experts.pocket.skills.phrasing import Cores, wrapped
from experts.pocket.skills.split import Split, part

OPERATIONS: tuple[str, ...] = ("reverse", "sort", "count", "length", "upper", "lower", "letter")


@cache
def words(split: Split) -> tuple[str, ...]:
    """The English words of a split, from `data/words.txt`."""
    lines = (Path(__file__).parent.parent / "data" / "words.txt").read_text().split()
    return tuple(word for word in lines if part(f"word {word}") == split)


@dataclass(frozen=True, slots=True)
class Spelling:
    """An operation on a word; `letter` is the one to count, `place` the one to find (from 1)."""

    operation: str
    word: str
    letter: str = ""
    place: int = 0

    @property
    def problem(self) -> str:
        match self.operation:
            case "count":
                return f"count {self.letter} in {self.word}"
            case "letter":
                return f"letter {self.place} of {self.word}"
            case _:
                return f"{self.operation} {self.word}"

    @property
    def answer(self) -> str:
        match self.operation:
            case "reverse":
                return self.word[::-1]
            case "sort":
                return "".join(sorted(self.word))
            case "count":
                return str(self.word.count(self.letter))
            case "length":
                return str(len(self.word))
            case "upper":
                return self.word.upper()
            case "lower":
                return self.word.lower()
            case _:
                return self.word[self.place - 1]

    @property
    def worked(self) -> str:
        spelled = " ".join(self.word)
        match self.operation:
            case "reverse" | "sort" | "upper" | "lower":
                lines = [spelled, " ".join(self.answer)]
            case "count":
                lines = [" ".join(f"{x}{self.word[: i + 1].count(self.letter)}" for i, x in enumerate(self.word))]
            case "length":
                lines = [" ".join(f"{x}{i}" for i, x in enumerate(self.word, 1))]
            case _:
                lines = [" ".join(f"{x}{i}" for i, x in enumerate(self.word[: self.place], 1))]
        return steps.work(self.problem, lines, self.answer)


def _word(rng: Random, split: Split) -> str:
    if split == "train" and rng.random() < 0.6:
        alphabet = rng.choice((ascii_lowercase, ascii_lowercase, "abcdefghilmnoprstu", "aeioulnrst"))
        return "".join(rng.choice(alphabet) for _ in range(rng.randint(3, 11)))
    return rng.choice(words(split))


def values(rng: Random, split: Split) -> Spelling:
    """An operation and its word; training has strings of random letters beside its share of the words."""
    operation = rng.choice(OPERATIONS)
    word = _word(rng, split)
    match operation:
        case "count":
            present = rng.random() < 0.85
            letter = rng.choice(word) if present else rng.choice(ascii_lowercase)
            return Spelling(operation, word, letter=letter)
        case "letter":
            return Spelling(operation, word, place=rng.randint(1, len(word)))
        case "lower":
            return Spelling(operation, word.upper())
        case _:
            return Spelling(operation, word)


def drill(rng: Random) -> str:
    """The worked text of an operation, for the base model."""
    return values(rng, "train").worked


_CORES: dict[str, Cores] = {
    "reverse": Cores(
        train=(
            "reverse {w}", "reverse the word {w}", "spell {w} backwards", "spell the word {w} backwards",
            "write {w} backwards", "{w} spelled backwards", "{w} backwards", "the reverse of {w}",
            "the word {w} in reverse", "how do you spell {w} backwards?", "how is {w} written backwards?",
            "turn the word {w} around", "the letters of {w} in reverse order", "write {w} in reverse",
            "write the letters of {w} in reverse order", "read {w} from right to left", "flip the word {w}",
            "what do you get if you reverse {w}?", "what does {w} read backwards?",
        ),
        validation=("the word {w} spelled backwards", "write the word {w} from right to left"),
        test=(
            "what does {w} look like backwards?", "the word {w} written in reverse", "spell the word {w} in reverse",
            "put the letters of {w} in reverse order",
        ),
    ),
    "sort": Cores(
        train=(
            "sort the letters of {w}", "sort the letters in {w}", "put the letters of {w} in alphabetical order",
            "the letters of {w} in alphabetical order", "arrange the letters of {w} alphabetically",
            "order the letters of {w} from a to z", "the letters of {w} sorted", "sort {w} alphabetically",
            "the letters of the word {w} from a to z", "sort the word {w} by its letters", "the sorted letters of {w}",
            "arrange the letters of the word {w} in alphabetical order", "write the letters of {w} alphabetically",
            "what do you get if you sort the letters of {w}?", "order {w} alphabetically",
            "how do the letters of {w} look in alphabetical order?",
        ),
        validation=("sort the letters of the word {w} alphabetically", "the letters in {w} sorted from a to z"),
        test=(
            "what are the letters of {w} in alphabetical order?", "write the letters of {w} sorted from a to z",
            "arrange the letters in the word {w} from a to z", "put the letters in {w} into alphabetical order",
        ),
    ),
    "count": Cores(
        train=(
            "how many times does {l} occur in {w}?", "how many times does the letter {l} appear in {w}?",
            "how many {l}s are in {w}?", "how many {l}'s are there in {w}?", "count the letter {l} in {w}",
            "count the {l}s in {w}", "the number of {l}s in {w}", "how often does {l} occur in {w}?",
            "how many letters {l} does {w} have?", "the number of times {l} occurs in {w}",
            "count how often {l} appears in {w}", "how many {l}s does the word {w} have?",
            "how often is {l} in the word {w}?", "count how many times {l} is in {w}",
            "how many times is the letter {l} used in {w}?", "the number of letters {l} in the word {w}",
        ),
        validation=("how often does {l} appear in {w}?", "count the letter {l} in the word {w}"),
        test=(
            "how often does the letter {l} appear in the word {w}?", "how many times does {w} have the letter {l}?",
            "the number of times the letter {l} appears in {w}", "how many times is {l} in the word {w}?",
        ),
    ),
    "length": Cores(
        train=(
            "how many letters does {w} have?", "how many letters are in {w}?",
            "how many letters are there in the word {w}?", "the number of letters in {w}", "the length of {w}",
            "count the letters in {w}", "count the letters of {w}", "how long is the word {w}?",
            "how many characters does {w} have?", "the number of characters in the word {w}", "how long is {w}?",
            "count the characters in {w}", "how many letters does it take to write {w}?",
            "count how many letters {w} has", "the length of {w} in letters", "how many letters long is {w}?",
        ),
        validation=("how many letters does the word {w} have?", "the length of the word {w}"),
        test=(
            "how many letters are there in {w}?", "the number of letters in the word {w}",
            "count all the letters of the word {w}", "how many characters long is the word {w}?",
        ),
    ),
    "upper": Cores(
        train=(
            "write {w} in upper case", "{w} in capital letters", "convert {w} to uppercase", "{w} in upper case",
            "capitalize all letters of {w}", "put {w} in capitals", "make {w} all caps", "uppercase {w}",
            "change {w} to upper case", "the word {w} in capital letters", "write {w} in capital letters",
            "write {w} with capital letters only", "turn {w} into upper case", "how is {w} written in capitals?",
            "the upper case form of {w}", "how do you write {w} in upper case?", "convert the word {w} to all capitals",
        ),
        validation=("write the word {w} in capitals", "change {w} to capital letters"),
        test=(
            "turn {w} into capital letters", "write the word {w} in uppercase", "the word {w} in upper case",
            "how do you write {w} in capital letters?",
        ),
    ),
    "lower": Cores(
        train=(
            "write {w} in lower case", "{w} in small letters", "convert {w} to lowercase", "{w} in lower case",
            "make all letters of {w} small", "put {w} in small letters", "make {w} all lower case", "lowercase {w}",
            "change {w} to lower case", "the word {w} in small letters", "write {w} in small letters",
            "write {w} with small letters only", "turn {w} into lower case", "how is {w} written in small letters?",
            "the lower case form of {w}", "how do you write {w} in lower case?", "convert the word {w} to lower case",
        ),
        validation=("write the word {w} in small letters", "change {w} to small letters"),
        test=(
            "turn {w} into small letters", "write the word {w} in lowercase", "the word {w} in lower case",
            "how do you write {w} in small letters?",
        ),
    ),
    "letter": Cores(
        train=(
            "the {nth} letter of {w}", "the {nth} letter in {w}", "which letter is {nth} in {w}?", "letter {n} of {w}",
            "what is letter number {n} of {w}?", "the letter at position {n} of {w}", "find the {nth} letter of {w}",
            "which is the {nth} letter of {w}?", "give the {nth} letter of the word {w}", "the {nth} character of {w}",
            "what letter is at position {n} in {w}?", "which letter comes {nth} in {w}?", "get letter {n} of {w}",
            "letter number {n} in the word {w}", "the {nth} letter of the word {w}",
            "which letter of {w} is the {nth}?",
        ),
        validation=("which is the {nth} letter in the word {w}?", "the letter at position {n} in the word {w}"),
        test=(
            "what letter comes {nth} in the word {w}?", "the {nth} letter in the word {w}",
            "give letter number {n} of {w}", "which letter is at position {n} of {w}?",
        ),
    ),
}  # fmt: skip
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh",
             "twelfth")  # fmt: skip


def _ordinal(place: int, rng: Random) -> str:
    if rng.random() < 0.5:
        return _ORDINALS[place - 1]
    return f"{place}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(place, 'th') }"


def draw(rng: Random, split: Split) -> tuple[str, str, str]:
    """A question, its answer, and the worked text."""
    value = values(rng, split)
    said = wrapped(rng.choice(_CORES[value.operation].of(split)), split, rng)
    quote = rng.choice(("{}", "{}", '"{}"', "'{}'"))
    mark = rng.choice(("{}", "{}", '"{}"', "'{}'")) if "{l}s" not in said and "{l}'s" not in said else "{}"
    prompt = said.format(
        w=quote.format(value.word),
        l=mark.format(value.letter),
        n=value.place,
        nth=_ordinal(value.place, rng) if value.place else "",
    )
    return prompt, value.answer, value.worked
