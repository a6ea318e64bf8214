"""Integer arithmetic with worked steps: sums and differences to three digits, small products, exact quotients.

Products are of a number up to three digits with one digit, or of two two-digit numbers; quotients are of a number up
to three digits by one digit, and whole where they are measured; differences are not negative.
"""

from dataclasses import dataclass
from random import Random

from experts.pocket import steps
from experts.pocket.skills.phrasing import Cores, chosen, wrapped
from experts.pocket.skills.split import Split, drawn

SIGNS: dict[str, str] = {"add": "+", "subtract": "-", "multiply": "x", "divide": "/"}


@dataclass(frozen=True, slots=True)
class Sum:
    """One operation on two non-negative integers."""

    operation: str
    a: int
    b: int

    @property
    def key(self) -> str:
        """The same for `a+b` and `b+a`, so that no sum is met in training the other way round."""
        first, second = (self.a, self.b) if self.operation in ("subtract", "divide") else sorted((self.a, self.b))
        return f"{self.operation} {first} {second}"

    @property
    def problem(self) -> str:
        return f"{self.a} {SIGNS[self.operation]} {self.b}"

    @property
    def answer(self) -> str:
        match self.operation:
            case "add":
                return str(self.a + self.b)
            case "subtract":
                return str(self.a - self.b)
            case "multiply":
                return str(self.a * self.b)
            case _:
                quotient, rest = divmod(self.a, self.b)
                return f"{quotient} remainder {rest}" if rest else str(quotient)

    @property
    def worked(self) -> str:
        match self.operation:
            case "add":
                lines = steps.add(self.a, self.b)
            case "subtract":
                lines = steps.subtract(self.a, self.b)
            case "multiply":
                lines = steps.multiply(self.a, self.b)
            case _:
                lines = steps.divide(self.a, self.b)
        return steps.work(self.problem, lines, self.answer)


def _number(rng: Random) -> int:
    digits = rng.choice((1, 2, 2, 3, 3))
    return rng.randrange(1 if digits == 1 else 10 ** (digits - 1), 10**digits)


def _sum(rng: Random) -> Sum:
    operation = rng.choice(("add", "subtract", "multiply", "multiply", "divide"))
    match operation:
        case "add":
            return Sum(operation, _number(rng), _number(rng))
        case "subtract":
            low, high = sorted((_number(rng), _number(rng)))
            return Sum(operation, high, low)
        case "multiply" if rng.random() < 0.5:
            return Sum(operation, rng.randint(10, 99), rng.randint(11, 99))
        case "multiply":
            a, b = _number(rng), rng.randint(2, 9)
            return Sum(operation, b, a) if a < 10 and rng.random() < 0.5 else Sum(operation, a, b)
        case _:
            return _quotient(rng)


def _quotient(rng: Random) -> Sum:
    b = rng.randint(2, 9)
    return Sum("divide", b * rng.randint(2, 999 // b), b)


def _uneven(rng: Random) -> Sum:
    return Sum("divide", rng.randint(10, 999), rng.randint(2, 9))


def _borrowed(rng: Random) -> Sum:
    low, high = sorted((rng.randint(10, 999), rng.randint(100, 999)))
    return Sum("subtract", high, low)


def values(rng: Random, split: Split) -> Sum:
    """An operation and its numbers, from the split's share of all pairs."""
    return drawn(rng, split, _sum, lambda value: value.key)


def drill(rng: Random) -> str:
    """The worked text of a sum, for the base model."""
    return values(rng, "train").worked


CORES: dict[str, Cores] = {
    "add": Cores(
        train=(
            "{a} plus {b}", "{a} + {b}", "{a}+{b}", "the sum of {a} and {b}", "the total of {a} and {b}",
            "add {a} and {b}", "add {a} to {b}", "sum {a} and {b}", "calculate {a} plus {b}", "work out {a} + {b}",
            "compute {a} + {b}", "work out the sum of {a} and {b}", "how much is {a} plus {b}?",
            "how much is {a} + {b}?", "what do you get if you add {a} and {b}?", "what does {a} plus {b} make?",
            "how much do {a} and {b} make together?", "what is {a} added to {b}?", "what does {a} + {b} equal?",
            "if you have {a} {things} and get {b} more, how many {things} do you have?",
            "{name} has {a} {things} and buys {b} more. how many {things} does {name} have now?",
            "{name} has {a} {things} and {other} has {b}. how many {things} do they have together?",
            "there are {a} {things} here and {b} there. how many {things} are there in all?",
            "the result of {a} plus {b}", "work out {a} plus {b}", "what do you get when you add {a} to {b}?",
            "how much is {a} and {b} together?",
            "{name} had {a} {things} and got {b} more. how many {things} are there now?",
        ),
        validation=("calculate the sum of {a} and {b}", "how much do you get if you add {a} to {b}?"),
        test=(
            "what do you get when you add {a} and {b} together?", "the total of {a} and {b}", "work out {a} plus {b}",
            "if i put {a} and {b} together, how much is that altogether?",
            "if {name} picks {a} {things} in the morning and another {b} {things} in the afternoon, how many "
            "{things} does {name} pick that day?",
        ),
        bank="calc/add",
    ),
    "subtract": Cores(
        train=(
            "{a} minus {b}", "{a} - {b}", "{a}-{b}", "the difference between {a} and {b}",
            "the difference of {a} and {b}", "subtract {b} from {a}", "take {b} from {a}", "take {b} away from {a}",
            "calculate {a} minus {b}", "work out {a} - {b}", "compute {a} - {b}", "how much is {a} minus {b}?",
            "how much is {a} - {b}?", "what do you get if you take {b} from {a}?", "what does {a} minus {b} make?",
            "what is left if you take {b} away from {a}?", "what does {a} - {b} equal?",
            "work out the difference between {a} and {b}", "what do you get if you subtract {b} from {a}?",
            "if you have {a} {things} and lose {b}, how many {things} are left?",
            "{name} has {a} {things} and gives away {b}. how many {things} does {name} have left?",
            "there were {a} {things} and {b} are gone. how many {things} are left?",
            "{name} had {a} {things} and sold {b}. how many {things} remain?",
            "the result of {a} minus {b}", "work out {a} minus {b}",
            "what do you get when you subtract {b} from {a}?", "what remains if {b} is taken away from {a}?",
            "{name} has {a} {things} and loses {b} of them. how many {things} are left?",
        ),
        validation=("calculate the difference between {a} and {b}", "how much is left if you take {b} from {a}?"),
        test=(
            "how much is left if you take {b} away from {a}?", "the difference between {a} and {b}",
            "subtract {b} from {a}", "what number is {b} less than {a}?",
            "{name} bought {a} {things} and then gave {b} of them to a neighbour, so how many {things} does "
            "{name} still have?",
        ),
        bank="calc/subtract",
    ),
    "multiply": Cores(
        train=(
            "{a} times {b}", "{a} x {b}", "{a} * {b}", "{a}*{b}", "{a} multiplied by {b}", "the product of {a} and {b}",
            "multiply {a} by {b}", "multiply {a} and {b}", "calculate {a} times {b}", "work out {a} x {b}",
            "compute {a} x {b}", "work out the product of {a} and {b}", "how much is {a} times {b}?",
            "how much is {a} x {b}?", "what do you get if you multiply {a} by {b}?", "what does {a} times {b} make?",
            "what does {a} x {b} equal?", "there are {a} boxes with {b} {things} each. how many {things} are there?",
            "{name} buys {a} bags with {b} {things} in each. how many {things} does {name} have in total?",
            "if one box holds {b} {things}, how many {things} are in {a} boxes?",
            "{a} shelves hold {b} {things} each. how many {things} are there in all?",
            "the result of {a} times {b}", "work out {a} times {b}", "what do you get when you multiply {a} and {b}?",
            "how much is {a} multiplied by {b}?",
            "{name} has {a} boxes with {b} {things} in each. how many {things} is that in total?",
        ),
        validation=("calculate the product of {a} and {b}", "how much do you get if you multiply {a} and {b}?"),
        test=(
            "how much is {a} times {b}?", "the product of {a} and {b}", "multiply {a} by {b} and tell me the result",
            "what does {a} multiplied by {b} come to?",
            "there are {a} boxes on a shelf and {name} puts {b} {things} into each box, so how many {things} "
            "are in the boxes altogether?",
        ),
        bank="calc/multiply",
    ),
    "divide": Cores(
        train=(
            "{a} divided by {b}", "{a} / {b}", "{a}/{b}", "the quotient of {a} and {b}", "divide {a} by {b}",
            "calculate {a} divided by {b}", "work out {a} / {b}", "compute {a} / {b}", "split {a} into {b} equal parts",
            "how much is {a} divided by {b}?", "how much is {a} / {b}?", "what do you get if you divide {a} by {b}?",
            "how many times does {b} go into {a}?", "what does {a} divided by {b} make?", "what does {a} / {b} equal?",
            "work out the quotient of {a} and {b}", "how often does {b} fit into {a}?",
            "{b} friends share {a} {things} equally. how many {things} does each friend get?",
            "{a} {things} are split equally into {b} boxes. how many {things} are in each box?",
            "{name} shares {a} {things} equally among {b} people. how many {things} does each one get?",
            "the result of {a} divided by {b}", "work out {a} divided by {b}",
            "what do you get when you divide {a} by {b}?", "how many times does {b} fit into {a}?",
            "{a} {things} are shared equally among {b} friends. how many {things} does each one get?",
        ),
        validation=("calculate the quotient of {a} and {b}", "how much do you get if you divide {a} by {b}?"),
        test=(
            "how many times does {b} go into {a}?", "the result of dividing {a} by {b}", "divide {a} by {b}",
            "what is {a} split into {b} equal parts?",
            "{name} shares {a} {things} equally among {b} children, so how many {things} does each child get?",
        ),
        bank="calc/divide",
    ),
}  # fmt: skip
_NAMES = ("Tom", "Anna", "Maria", "Ben", "Lisa", "Omar", "Yuki", "Ivan", "Sara", "Leo", "Nina", "Paul")
_THINGS = ("apples", "books", "coins", "pens", "cards", "stamps", "shells", "marbles", "eggs", "cookies", "stones",
           "tickets", "balls", "toys", "flowers", "buttons")  # fmt: skip


def draw(rng: Random, split: Split) -> tuple[str, str, str]:
    """A question, its answer, and the worked text; training has more quotients, and more that is borrowed.

    The quotients have remainders: the steps of a whole quotient, such as 53 / 8, come from few dividends, and from none
    in training when these are held out.
    """
    value = values(rng, split)
    if split == "train" and (lot := rng.random()) < 0.4:
        value = drawn(rng, split, _uneven if lot < 0.2 else _borrowed, lambda more: more.key)
    said = wrapped(chosen(CORES[value.operation], split, rng), split, rng, varied=True)
    name, other = rng.sample(_NAMES, 2)
    prompt = said.format(a=value.a, b=value.b, name=name, other=other, things=rng.choice(_THINGS))
    return prompt, value.answer, value.worked
