"""Conversions: metric prefixes, everyday factors, hours and minutes, temperatures."""

from dataclasses import dataclass
from random import Random

from experts.pocket import steps
from experts.pocket.skills.phrasing import Cores, chosen, wrapped
from experts.pocket.skills.split import Split, drawn

METRIC: dict[tuple[str, str], int] = {
    ("km", "m"): 3, ("m", "km"): -3, ("m", "cm"): 2, ("cm", "m"): -2, ("cm", "mm"): 1, ("mm", "cm"): -1,
    ("m", "mm"): 3, ("mm", "m"): -3, ("kg", "g"): 3, ("g", "kg"): -3, ("t", "kg"): 3, ("kg", "t"): -3,
    ("l", "ml"): 3, ("ml", "l"): -3, ("g", "mg"): 3, ("mg", "g"): -3,
}  # fmt: skip
"""Places by which the decimal point moves."""

FACTORS: dict[tuple[str, str], int] = {
    ("weeks", "days"): 7, ("days", "hours"): 24, ("years", "months"): 12, ("hours", "min"): 60, ("min", "s"): 60,
    ("ft", "in"): 12, ("yd", "ft"): 3, ("lb", "oz"): 16, ("gallons", "pints"): 8, ("dozen", "pieces"): 12,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Conversion:
    """An amount in one unit to be said in another; `kind` is metric, factor, clock, minutes or temperature.

    `clock` turns minutes into hours and minutes, `minutes` does the reverse (amount as `2 h 15`).
    """

    kind: str
    amount: str
    unit: str
    target: str

    @property
    def key(self) -> str:
        return self.problem

    @property
    def problem(self) -> str:
        return f"{self.amount} {self.unit} to {self.target}"

    @property
    def answer(self) -> str:
        return self.worked.rsplit("Answer: ", 1)[1]

    @property
    def worked(self) -> str:
        lines, value = self._solved()
        answer = value if self.kind == "clock" else f"{value} {self.target}"
        return steps.work(self.problem, lines, answer)

    def _solved(self) -> tuple[list[str], str]:
        match self.kind:
            case "metric":
                lines = steps.shift(self.amount, METRIC[self.unit, self.target])
                return lines, steps.tidy(lines[-1])
            case "factor":
                factor, number = FACTORS[self.unit, self.target], int(self.amount)
                if factor == 60:
                    return [*steps.multiply_digit(number, 6), f"{number * 6}0"], str(number * 60)
                return steps.multiply(number, factor), str(number * factor)
            case "clock":
                tens, unit = divmod(int(self.amount), 10)
                hours, rest = divmod(tens, 6)
                return [f"{tens}/6={hours} r{rest}", f"{rest}{unit}"], f"{hours} h {rest * 10 + unit} min"
            case "minutes":
                hours, minutes = (int(word) for word in self.amount.split(" h "))
                return [f"{hours}x60={hours * 60}", *steps.add(hours * 60, minutes)], str(hours * 60 + minutes)
            case _:
                return self._degrees()

    def _degrees(self) -> tuple[list[str], str]:
        degrees = int(self.amount)
        if self.target == "K":
            return steps.add(degrees, 273), f"{degrees + 273}.15"
        if self.target == "F":
            tenths = degrees * 18 + 320
            value = f"{tenths // 10}.{tenths % 10}"
            return [*steps.multiply(degrees, 18), f"{degrees * 18}", *steps.add(degrees * 18, 320), value], (
                steps.tidy(value)
            )
        ninths = (degrees - 32) // 9
        return [*steps.subtract(degrees, 32), *steps.divide(degrees - 32, 9), f"{ninths}x5={ninths * 5}"], str(
            ninths * 5
        )


def _amount(rng: Random, places: int) -> str:
    if places < 0:
        amounts = (rng.randint(1, 99), rng.randint(1, 999), rng.randint(1, 9999), rng.randint(1, 99) * 100)
        return str(rng.choice(amounts))
    whole = rng.choice((rng.randint(1, 9), rng.randint(1, 99), rng.randint(1, 999)))
    return f"{whole}.{rng.randint(1, 9)}" if rng.random() < 0.4 else str(whole)


def _conversion(rng: Random) -> Conversion:
    match rng.choice(("metric", "metric", "factor", "clock", "minutes", "temperature")):
        case "metric":
            (unit, target), places = rng.choice(list(METRIC.items()))
            return Conversion("metric", _amount(rng, places), unit, target)
        case "factor":
            unit, target = rng.choice(list(FACTORS))
            return Conversion("factor", str(rng.randint(2, 99)), unit, target)
        case "clock":
            return Conversion("clock", str(rng.randint(61, 599)), "min", "h min")
        case "minutes":
            return Conversion("minutes", f"{rng.randint(1, 9)} h {rng.randint(1, 59)}", "min", "min")
        case _:
            target = rng.choice("FCK")
            if target == "C":
                return Conversion("temperature", str(32 + 9 * rng.randint(1, 60)), "F", "C")
            return Conversion("temperature", str(rng.randint(1, 99)), "C", target)


def values(rng: Random, split: Split) -> Conversion:
    """A conversion from the split's share of all amounts."""
    return drawn(rng, split, _conversion, lambda value: value.key)


def drill(rng: Random) -> str:
    """The worked text of a conversion, for the base model."""
    return values(rng, "train").worked


CORES = Cores(
    train=(
        "[convert|change|turn|transform] {v} [to|into|in] {t}", "[convert|change|turn] {v} [to|into] {t}",
        "[convert|change|turn|transform] {v} [so that you get|to get|to have|and say it in|over to|to the unit] {t}",
        "[express|write|say|state|show|put] {v} [in|as|using|in the unit|in terms of|as a number of] {t}",
        "{v} [in|to|as|into] {t}", "{v} [converted to|written in|in terms of|when converted to] {t}",
        "{v} [as a number of|stated in|changed to|turned into|measured in|said in] {t}",
        "how many {t} [are|is|are in|are there in|make|make up|correspond to|equal|fit in|go into|would be] {v}?",
        "how many {t} [do|does] {v} [have|contain|equal|amount to|correspond to]?", "how many {t} [are|are in] {v}?",
        "how much is {v} [in|when written in|as|in terms of|when you turn it into|when converted to] {t}?",
        "I have {v}[.|,|:] how many {t} is [that|it]?", "{v} of it: how many {t} is that?",
        "[something|a thing|it] [is|measures|takes] {v}[,|.|:] how many {t} is [that|it]?",
        "the [number|amount|count] of {t} [in|that make|that are in|for|equal to|you get from] {v}",
        "the [equivalent|amount|value] of {v} [as|in terms of|written in|when said in] {t}", "the {t} in {v}",
        "what is {v} [in|as|in terms of|written in|when converted to|when it is said in] {t}?",
        "what do you get if you [convert|change|turn] {v} [to|into] {t}?", "{v}[:|,] how many {t} is [that|it]?",
        "{v} [equals|makes|corresponds to|is equal to|amounts to|gives] how many {t}?", "{v}: how many {t}?",
        "if [something|a thing|it] [is|takes|measures] {v}, how many {t} is [it|that]?",
        "[find|give|compute|work out] how many {t} [are in|make|there are in|you get from] {v}",
        "[find|give|compute] the [number|amount] of {t} in {v}", "in {t}, [how much|what] is {v}?",
        "using {t}, [how much|what] is {v}?", "[given|you have] {v}, how many {t} [are there|do you have|is it]?",
    ),
    validation=("the value of {v} in {t}", "how many {t} do you have in {v}?", "convert {v} so that it is in {t}"),
    test=(
        "convert {v} into {t}", "how many {t} do {v} make?", "{v} expressed in {t}", "{v} is how many {t}?",
        "give {v} in {t}", "how much is {v} if you convert it to {t}?",
    ),
)  # fmt: skip
_DEGREES = Cores(
    train=(
        "[convert|change|turn|transform] {v} [to|into|in] {t}", "[convert|change|turn] {v} [to|into] {t}",
        "[convert|change|turn] {v} [so that you get|to get|to have|and say it in|over to|to the scale] {t}",
        "[express|write|say|state|show|put] {v} [in|as|using|on the scale|in terms of] {t}", "{v} [in|to|as|into] {t}",
        "{v} [converted to|written in|in terms of|when converted to|changed to|turned into|said in] {t}",
        "how [much|hot|warm|cold] is {v} [in|as|in terms of|when converted to|when written in] {t}?",
        "it is {v}[.|,] [what|how much] is [that|it] in {t}?", "the temperature {v} [in|as|said in|written in] {t}",
        "what do you get if you [convert|change|turn] {v} [to|into] {t}?", "{v}[:|,] what is [that|it] in {t}?",
        "if it is {v} [outside|today|here|in the room], [how much|what] is [it|that] in {t}?", "{v}: how much in {t}?",
        "what is {v} [in|as|in terms of|written in|when converted to|when it is said in] {t}?",
        "the [equivalent|value] of {v} [as|in terms of|written in|when said in] {t}", "in {t}, [how much|what] is {v}?",
        "[change|convert] the temperature [of |]{v} [into|over to] {t}", "using {t}, [how much|what] is {v}?",
    ),
    validation=("the value of {v} in {t}", "convert the temperature {v} to {t}"),
    test=(
        "convert {v} into {t}", "{v} expressed in {t}", "give {v} in {t}", "what temperature is {v} in {t}?",
        "how much is {v} if you convert it to {t}?",
    ),
)  # fmt: skip
SPOKEN: dict[str, tuple[str, ...]] = {
    "km": ("km", "kilometres", "kilometers"), "m": ("m", "metres", "meters"),
    "cm": ("cm", "centimetres", "centimeters"),
    "mm": ("mm", "millimetres", "millimeters"), "kg": ("kg", "kilograms", "kilos"), "g": ("g", "grams"),
    "mg": ("mg", "milligrams"), "t": ("t", "tonnes", "tons"), "l": ("l", "litres", "liters"),
    "ml": ("ml", "millilitres", "milliliters"), "weeks": ("weeks",), "days": ("days",), "hours": ("hours", "h"),
    "years": ("years",), "months": ("months",), "min": ("minutes", "min"), "s": ("seconds", "s"), "ft": ("feet", "ft"),
    "in": ("inches",), "yd": ("yards", "yd"), "lb": ("pounds", "lb"), "oz": ("ounces", "oz"), "gallons": ("gallons",),
    "pints": ("pints",), "dozen": ("dozen",), "pieces": ("pieces",), "h min": ("hours and minutes",),
    "C": ("degrees Celsius", "Celsius", "C", "degrees C"), "F": ("degrees Fahrenheit", "Fahrenheit", "F", "degrees F"),
    "K": ("kelvin", "Kelvin", "K"),
}  # fmt: skip


def draw(rng: Random, split: Split) -> tuple[str, str, str]:
    """A question, its answer, and the worked text; training has more temperatures, the hardest to learn."""
    value = values(rng, split)
    while split == "train" and value.kind != "temperature" and rng.random() < 0.15:
        value = values(rng, split)
    said = wrapped(chosen(_DEGREES if value.kind == "temperature" else CORES, split, rng), split, rng)
    if value.kind == "minutes":
        hours, minutes = value.amount.split(" h ")
        form = rng.choice(("{} hours and {} minutes", "{} hours {} minutes", "{} h {} min", "{} h and {} min"))
        amount = form.format(hours, minutes).replace("1 hours", "1 hour" if hours == "1" else "1 hours")
    else:
        amount = f"{value.amount} {rng.choice(SPOKEN[value.unit])}"
    return said.format(v=amount, t=rng.choice(SPOKEN[value.target])), value.answer, value.worked
