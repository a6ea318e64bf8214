"""Operations on the letters of one word: reverse, sort, count, length, case, and the n-th letter."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from string import ascii_lowercase

from experts.pocket import steps
from experts.pocket.skills.phrasing import Cores, chosen, wrapped
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


def values(rng: Random, split: Split, operations: tuple[str, ...] = OPERATIONS) -> Spelling:
    """An operation and its word; training has strings of random letters beside its share of the words."""
    operation = rng.choice(operations)
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


_W = "[{w}|the word {w}]"
_IN_UPPER = "in [upper case|uppercase|capitals|capital letters|all caps|upper case letters|big letters]"
_IN_LOWER = "in [lower case|lowercase|small letters|lower case letters|all lower case|little letters]"
_TO_UPPER = "[to|into] [upper case|uppercase|capitals|capital letters|all caps|upper case letters]"
_TO_LOWER = "[to|into] [lower case|lowercase|small letters|lower case letters|all lower case]"
_BACK = "[backwards|in reverse|from right to left|from back to front|in reverse order]"
_A_TO_Z = "[in alphabetical order|alphabetically|from a to z|in sorted order|in order of the alphabet]"

CORES: dict[str, Cores] = {
    "reverse": Cores(
        train=(
            f"[reverse|flip|turn around|invert] {_W}", f"[reverse|flip|turn around] the letters [of|in] {_W}",
            f"[write|spell|say|read|put|show|print] {_W} {_BACK}", f"[write|spell|say|type] {_W} {_BACK}",
            f"[write|spell|list|put|show|say] the letters [of|in] {_W} {_BACK}",
            f"{{w}} [{_BACK[1:-1]}|reversed|spelled backwards|written backwards|spelled in reverse]",
            f"the word {{w}} [{_BACK[1:-1]}|reversed|spelled backwards|read backwards|turned around]",
            f"the [reverse|reversal|reversed form|mirror image] of {_W}", f"the letters [of|in] {_W} {_BACK}",
            f"how do you [spell|write|say|read] {_W} {_BACK}?", f"how is {_W} [spelled|written|read] {_BACK}?",
            f"what do you get if you [reverse|flip|turn around] {_W}?", f"what [does|would] {_W} read {_BACK}?",
            f"what is {_W} [spelled|written|read] {_BACK}?", f"what is {_W} {_BACK}?",
            f"turn {_W} [around|backwards|back to front]", f"how does {_W} [look|sound|read] [in reverse|reversed]?",
            "what does {w} look like backwards?", "the word {w} written in reverse", "spell the word {w} in reverse",
            "put the letters of {w} in reverse order",
        ),
        validation=("the word {w} spelled backwards", "write the word {w} from right to left"),
        test=(
            "how do you spell {w} backwards?", "the word {w} written from back to front",
            "turn {w} around so that the last letter comes first and the first letter comes last",
            "write the letters of the word {w} in reverse order",
        ),
        bank="text/reverse",
    ),
    "sort": Cores(
        train=(
            f"[sort|order|arrange] the letters [of|in] {_W} [{_A_TO_Z[1:-1]}|]", f"sort the letters [of|in] {_W}",
            f"[sort|order|alphabetize] {_W} [alphabetically|by letter|by its letters|]",
            f"[put|write|list|bring|show] the letters [of|in] {_W} {_A_TO_Z}",
            f"[put|write|list|show|say] the letters [of|in] {_W} [sorted|ordered|arranged] {_A_TO_Z}",
            f"the letters [of|in] {_W} {_A_TO_Z}", f"the letters [of|in] {_W} [sorted|ordered|arranged] {_A_TO_Z}",
            f"the [sorted|ordered|alphabetized] letters [of|in] {_W}", f"the letters [of|in] {_W} sorted",
            f"the [alphabetical|sorted] order of the letters [of|in] {_W}", f"{{w}} [sorted|ordered] {_A_TO_Z}",
            "{w} [with its letters|with all letters] [sorted|ordered|in alphabetical order]",
            f"what do you get if you [sort|order|arrange] the letters [of|in] {_W}?",
            f"how do the letters [of|in] {_W} [look|go] {_A_TO_Z}?", f"alphabetize the letters [of|in] {_W}",
            f"how do you [sort|order|arrange] the letters [of|in] {_W} {_A_TO_Z}?",
            f"what [is|would be] {_W} with its letters [sorted|ordered] {_A_TO_Z}?",
            "what are the letters of {w} in alphabetical order?", "write the letters of {w} sorted from a to z",
            "arrange the letters in the word {w} from a to z", "put the letters in {w} into alphabetical order",
        ),
        validation=("sort the letters of the word {w} alphabetically", "the letters in {w} sorted from a to z"),
        test=(
            "put the letters of {w} in alphabetical order",
            "what do you get if you arrange the letters of the word {w} from a to z?",
            "the letters of {w} sorted alphabetically",
            "rearrange the word {w} so that its letters follow the order of the alphabet",
        ),
        bank="text/sort",
    ),
    "count": Cores(
        train=(
            f"how [many times|often] does [{{l}}|the letter {{l}}] [occur|appear|show up|come up] in {_W}?",
            f"how [many times|often] is [{{l}}|the letter {{l}}] [used|found|present|written] in {_W}?",
            f"how [many times|often] do you [see|find|use|write] [{{l}}|the letter {{l}}] in {_W}?",
            f"how many [{{l}}s|{{l}}'s] are [|there ]in {_W}?",
            f"how many {{l}}s does {_W} [have|contain]?",
            f"how many [{{l}}s|{{l}}'s] does {_W} [have|contain|use|include]?",
            f"count [{{l}}|the letter {{l}}|the letters {{l}}|every {{l}}|each {{l}}] in {_W}",
            f"count [the|all|all the] [{{l}}s|{{l}}'s|letters {{l}}] [in|of] {_W}",
            f"count how [often|many times] [{{l}}|the letter {{l}}] [is|occurs|appears|shows up] in {_W}",
            f"the [number|count|amount] of [{{l}}s|{{l}}'s|letters {{l}}] in {_W}",
            f"the number of times [{{l}} occurs|{{l}} appears|{{l}} is used|the letter {{l}} occurs] in {_W}",
            f"how often [is|can you find] [{{l}}|the letter {{l}}] in {_W}?", f"count the {{l}}s in {_W}",
            f"how many times does {_W} [contain|use|include] [{{l}}|the letter {{l}}]?",
            f"in {_W}, how [often|many times] does [{{l}}|the letter {{l}}] [occur|appear]?",
            f"how many of the letters [in|of] {_W} are {{l}}?",
            "how often does the letter {l} appear in the word {w}?", "how many times does {w} have the letter {l}?",
            "the number of times the letter {l} appears in {w}", "how many times is {l} in the word {w}?",
        ),
        validation=("how often does {l} appear in {w}?", "count the letter {l} in the word {w}"),
        test=(
            "how many times does the letter {l} appear in {w}?", "the number of {l}'s in the word {w}",
            "count how often {l} occurs in {w}", "how many of the letters in the word {w} are {l}?",
        ),
        bank="text/count",
    ),
    "length": Cores(
        train=(
            f"how many [letters|characters] are [|there ]in {_W}?", f"how many [letters|characters] has {_W} got?",
            f"how many [letters|characters] does {_W} [have|contain|use|consist of|include]?",
            f"how many letters does {_W} [have|contain|consist of]?", f"how many letters make up {_W}?",
            f"the [number|count|amount] of [letters|characters] [in|of] {_W}", f"the [length|size] of {_W}",
            f"the length of {_W} [in letters|in characters]", f"[find|measure|say] the length of {_W}",
            f"count [|all ]the [letters|characters] [in|of] {_W}", f"count how many [letters|characters] {_W} has",
            f"how long is {_W} [|in letters|in characters]?", f"how many [letters|characters] long is {_W}?",
            f"how many [letters|characters] does it take to [write|spell] {_W}?", f"what length does {_W} have?",
            f"count how many [letters|characters] are in {_W}", f"the total number of letters [in|of] {_W}",
            f"in {_W}, how many [letters|characters] are there?", f"how many letters do you need for {_W}?",
            "how many letters are there in {w}?", "the number of letters in the word {w}",
            "count all the letters of the word {w}", "how many characters long is the word {w}?",
        ),
        validation=("how many letters does the word {w} have?", "the length of the word {w}"),
        test=(
            "how many letters does {w} have?", "the length of the word {w} in letters",
            "count all the letters in {w}", "how many letters long is the word {w}?",
        ),
        bank="text/length",
    ),
    "upper": Cores(
        train=(
            f"[write|put|show|say|type|spell|print] {_W} {_IN_UPPER}", f"[write|type|spell] {_W} {_IN_UPPER}",
            f"[convert|change|turn|transform|put] {_W} {_TO_UPPER}", f"[change|convert] {_W} {_TO_UPPER}",
            f"{{w}} {_IN_UPPER}", f"the word {{w}} {_IN_UPPER}", f"the word {{w}} [written|spelled] {_IN_UPPER}",
            f"make {_W} [upper case|all caps|uppercase|all capitals]", f"[uppercase|capitalize|upper case] {_W}",
            f"[uppercase|capitalize] [all|all the|the] letters [of|in] {_W}", f"make all letters of {_W} [big|capital]",
            f"the [upper case|uppercase|capital] [form|version] of {_W}", f"write {_W} with [big|capital] letters only",
            f"how [do|would] you [write|spell|type] {_W} {_IN_UPPER}?", f"how is {_W} [written|spelled] {_IN_UPPER}?",
            f"what is {_W} {_IN_UPPER}?", f"what does {_W} look like {_IN_UPPER}?",
            "turn {w} into capital letters", "write the word {w} in uppercase", "the word {w} in upper case",
            "how do you write {w} in capital letters?",
        ),
        validation=("write the word {w} in capitals", "change {w} to capital letters"),
        test=(
            "write {w} in capital letters", "how does the word {w} look in all caps?", "the uppercase version of {w}",
            "change every letter of the word {w} to a capital",
        ),
        bank="text/upper",
    ),
    "lower": Cores(
        train=(
            f"[write|put|show|say|type|spell|print] {_W} {_IN_LOWER}", f"[write|type|spell] {_W} {_IN_LOWER}",
            f"[convert|change|turn|transform|put] {_W} {_TO_LOWER}", f"[change|convert] {_W} {_TO_LOWER}",
            f"{{w}} {_IN_LOWER}", f"the word {{w}} {_IN_LOWER}", f"the word {{w}} [written|spelled] {_IN_LOWER}",
            f"make {_W} [lower case|all small|lowercase|all lower case]", f"[lowercase|lower case|uncapitalize] {_W}",
            f"[lowercase|uncapitalize] [all|all the|the] letters [of|in] {_W}",
            f"make all letters of {_W} [small|little]",
            f"the [lower case|lowercase|small] [form|version] of {_W}", f"write {_W} with small letters only",
            f"how [do|would] you [write|spell|type] {_W} {_IN_LOWER}?", f"how is {_W} [written|spelled] {_IN_LOWER}?",
            f"what is {_W} {_IN_LOWER}?", f"what does {_W} look like {_IN_LOWER}?",
            "turn {w} into small letters", "write the word {w} in lowercase", "the word {w} in lower case",
            "how do you write {w} in small letters?",
        ),
        validation=("write the word {w} in small letters", "change {w} to small letters"),
        test=(
            "write {w} using only small letters", "how would the word {w} be written without any capitals?",
            "the lowercase form of {w}", "change the word {w} to all lower case",
        ),
        bank="text/lower",
    ),
    "letter": Cores(
        train=(
            f"the {{nth}} [letter|character] [of|in] {_W}", f"the {{nth}} letter [of|in] {_W}",
            f"[find|give|get|name|say|show] the {{nth}} [letter|character] [of|in] {_W}",
            f"[which|what] is the {{nth}} [letter|character] [of|in] {_W}?", f"[which|what] letter is {{nth}} in {_W}?",
            f"[which|what] letter [is|comes|stands] at [position|place] {{n}} [of|in] {_W}?",
            f"[which|what] letter [comes|stands|is written] {{nth}} in {_W}?", f"letter {{n}} [of|in] {_W}",
            f"[what|which] is letter number {{n}} [of|in] {_W}?", f"[get|find|name|say] letter {{n}} [of|in] {_W}",
            f"letter number {{n}} [of|in] {_W}", f"the [letter|character] at [position|place] {{n}} [of|in] {_W}",
            f"[find|get|show] letter number {{n}} [of|in] {_W}", f"[which|what] letter of {_W} is the {{nth}}?",
            f"what letter does {_W} have at [position|place] {{n}}?", f"in {_W}, which letter is the {{nth}}?",
            f"the [letter|character] that [is|comes] {{nth}} in {_W}",
            "what letter comes {nth} in the word {w}?", "the {nth} letter in the word {w}",
            "give letter number {n} of {w}", "which letter is at position {n} of {w}?",
        ),
        validation=("which is the {nth} letter in the word {w}?", "the letter at position {n} in the word {w}"),
        test=(
            "which letter comes {nth} in {w}?", "the {nth} letter of the word {w}",
            "tell me which letter is at position {n} in {w}",
            "if you count from the start of the word {w}, what is letter number {n}?",
        ),
        bank="text/letter",
    ),
}  # fmt: skip
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh",
             "twelfth")  # fmt: skip
_LESSONS = (*OPERATIONS, "reverse", "sort", "sort", "count", "count")


def _ordinal(place: int, rng: Random) -> str:
    if rng.random() < 0.5:
        return _ORDINALS[place - 1]
    return f"{place}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(place, 'th') }"


def draw(rng: Random, split: Split) -> tuple[str, str, str]:
    """A question, its answer, and the worked text; training has more of what is hardest to learn."""
    value = values(rng, split, _LESSONS if split == "train" else OPERATIONS)
    said = wrapped(chosen(CORES[value.operation], split, rng), split, rng, varied=True)
    quote = rng.choice(("{}", "{}", '"{}"', "'{}'"))
    mark = rng.choice(("{}", "{}", '"{}"', "'{}'")) if "{l}s" not in said and "{l}'s" not in said else "{}"
    prompt = said.format(
        w=quote.format(value.word),
        l=mark.format(value.letter),
        n=value.place,
        nth=_ordinal(value.place, rng) if value.place else "",
    )
    return prompt, value.answer, value.worked
