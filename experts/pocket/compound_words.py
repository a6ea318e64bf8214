"""The words of the questions of two skills: noun phrases for what is asked first, and what is asked about it."""

from dataclasses import replace

from experts.pocket.compound_more import MORE, OUTER
from experts.pocket.skills import calc, text
from experts.pocket.skills.phrasing import Cores

_NOUNS: dict[str, Cores] = {
    "capital": Cores(
        ("the capital of {c}", "the capital city of {c}", "{c}'s capital", "the city that is the capital of {c}",
         "the name of the capital of {c}", "the capital that {c} has", "the capital [in|for] {c}",
         "the [town|city] that is {c}'s capital", "the seat of government of {c}", "the main city of {c}",
         "{c}'s capital city"),
        ("the name of the capital city of {c}",),
        ("the name of {c}'s capital", "the city which {c} has as its capital"),
    ),
    "country": Cores(
        ("the country whose capital is {k}", "the country with the capital {k}", "the name of the country of {k}",
         "the country that {k} is the capital of", "the country with {k} as capital", "the country of {k}",
         "the [state|nation|country] [that has|with] the capital city {k}",
         "the country [governed from|run from] {k}",
         "the land whose capital is {k}", "the nation whose capital is {k}"),
        ("the country whose capital city is {k}",),
        ("the country that has {k} as its capital", "the name of the country whose capital is {k}"),
    ),
    "continent": Cores(
        ("the continent of {c}", "{c}'s continent", "the continent that {c} is in", "the name of {c}'s continent",
         "the continent {c} lies on",
         "the [continent|part of the world] [where|in which] [{c} is|you find {c}|{c} can be found]",
         "the continent that {c} belongs to", "the continent {c} is part of"),
        ("the name of the continent of {c}",), ("the continent on which {c} is located", "the continent {c} is on"),
    ),
    "currency": Cores(
        ("the currency of {c}", "{c}'s currency", "the money used in {c}", "the money of {c}",
         "the [currency|money] [in use in|of the country|spent in] {c}", "the name of {c}'s [money|currency]",
         "{c}'s money",
         "the name of the currency of {c}", "the currency that {c} has", "the money people pay with in {c}"),
        ("the name of the money used in {c}",), ("the currency used in {c}", "the currency with which {c} pays"),
    ),
    "length": Cores(
        ("the number of letters in {w}", "the length of {w}", "the number of letters of {w}",
         "the letter count of {w}",
         "how many letters {w} has", "the length of {w}",
         "the [size|length|letter count] of [{w}|the word {w}|the name {w}]",
         "the [number|count|total] of [letters|characters] [in|of] [the word {w}|the name {w}]",
         "how [many letters|long] the word {w} is", "the [number|count] of letters [that make up|to spell] {w}",
         "the number of characters in {w}", "the amount of letters in {w}"),
        ("the length of the word {w}",), ("the number of letters that {w} has", "the length of {w} in letters"),
    ),
    "add": Cores(
        ("the sum of {a} and {b}", "{a} plus {b}", "{a} + {b}", "the result of {a} plus {b}", "{a} and {b} together",
         "the [result|outcome|sum] [when|if] you add {a} to {b}", "{a} increased by {b}", "{b} more than {a}",
         "the [sum|total] of the numbers {a} and {b}", "the [amount|number] that {a} and {b} make",
         "the sum {a} + {b}", "what {a} plus {b} makes", "the sum you get from {a} and {b}"),
        ("the result of adding {a} and {b}",), ("the total of {a} and {b}", "{a} added to {b}"),
    ),
    "subtract": Cores(
        ("the difference of {a} and {b}", "{a} minus {b}", "{a} - {b}", "the result of {a} minus {b}", "{a} less {b}",
         "the [result|outcome] of subtracting {b} from {a}", "{a} reduced by {b}", "{b} less than {a}",
         "the [result|outcome|number] [when|if] you take {b} away from {a}", "{b} [subtracted|taken away] from {a}",
         "the [amount|number] left [of|from] {a} after taking away {b}", "the gap between {a} and {b}",
         "the difference {a} - {b}", "what {a} minus {b} makes", "what is left of {a} without {b}"),
        ("the result of taking {b} from {a}",), ("the difference between {a} and {b}",
         "what remains of {a} minus {b}"),
    ),
    "multiply": Cores(
        ("the product of {a} and {b}", "{a} times {b}", "{a} x {b}", "the result of {a} times {b}", "{a} * {b}",
         "the [result|outcome|product] [when|if] you multiply {a} by {b}", "{a} lots of {b}",
         "the [result|outcome] of {a} multiplied with {b}", "the product of the numbers {a} and {b}",
         "the product {a} x {b}", "what {a} times {b} makes", "the product you get from {a} and {b}"),
        ("the result of multiplying {a} by {b}",), ("{a} multiplied by {b}", "the result of {a} multiplied by {b}"),
    ),
    "factor": Cores(
        ("the number of {t} in {v}", "{v} in {t}", "the {t} in {v}", "the amount of {t} in {v}", "{v} as {t}",
         "[the amount of|the number of|how many] {t} [are in|fit into|correspond to|go into] {v}",
         "{v} changed to {t}",
         "{v} [measured|counted|stated|given] in {t}", "the [size|value|amount] of {v} in {t}",
         "{v} converted to {t}", "the {t} that {v} have", "the number of {t} that {v} make"),
        ("the count of {t} in {v}",), ("the number of {t} that are in {v}", "{v} expressed in {t}"),
    ),
    "reverse": Cores(
        ("the reverse of {w}", "{w} backwards", "the word {w} backwards", "{w} spelled backwards", "{w} in reverse",
         "[the word {w}|{w}] [reversed|back to front|turned backwards|read backwards|in backward order]",
         "the [reversed|backward] [form|spelling] of [{w}|the word {w}]", "the letters of {w} backwards",
         "the letters of {w} in reverse", "the word {w} in reverse order", "{w} read from right to left"),
        ("the word {w} spelled backwards",), ("{w} written from back to front", "the word {w} turned around"),
    ),
}  # fmt: skip
_CLOCK = Cores(
    ("[convert|change|turn] {x} minutes [to|into] hours and minutes", "{x} minutes in hours and minutes",
     "[write|express|say|give|put] {x} minutes [in|as] hours and minutes",
     "how many hours and minutes are {x} minutes?",
     "what is {x} in hours and minutes, if it is minutes?", "how long is {x} minutes in hours and minutes?",
     "take {x} as minutes and [write|give] it [in|as] hours and minutes", "{x} minutes as hours and minutes",
     "if a film lasts {x} minutes, how many hours and minutes is that?", "turn {x} minutes to hours and minutes",
     "[find|work out] {x}, then convert [it|that] from minutes to hours and minutes",
     "[compute|calculate] {x} and [say|write] the result, in minutes, [as|in] hours and minutes"),
    ("convert {x} from minutes into hours and minutes",),
    ("what do {x} minutes make in hours and minutes?", "state {x} minutes as hours and minutes",
     "work out {x}, then write that many minutes as hours and minutes"),
)  # fmt: skip
_THEN = Cores(
    ("[find|take|get|name|look up|work out] {x}[, then|, and then| and then| and|, after that] {do}",
     "first [find|take|get|name|work out] {x}[, then| and then|, after that] {do}",
     "[find|take] {x}[. then|; then] {do}",
     "I want {x}. then {do}", "start with {x}[, then| and|. then] {do}", "with {x}: {do}"),
    ("figure out {x}, then {do}",),
    ("determine {x} and then {do}", "begin with {x}, and next {do}", "first look for {x}; after that {do}"),
)  # fmt: skip
_IT = Cores(("it", "the result", "that", "the answer"), ("it",), ("it", "what you found"))
_BOTH = Cores(
    ("{x}, and {y}", "{x} and also {y}", "both {x} and {y}", "{x}, then {y}", "two things: {x} and {y}",
     "{x} and {y}",
     "first {x}, then {y}", "{x} as well as {y}", "{x}; {y}", "{x}, and what is {y}", "{x}; and what is {y}"),
    ("{x}, and after that {y}",), ("{x}, and besides {y}", "two answers: {x}, and {y}", "{x} and, next, {y}"),
)  # fmt: skip


def _more(name: str, cores: Cores) -> Cores:
    return replace(cores, train=cores.train + MORE[name])


ASKED: dict[str, Cores] = {
    name: replace(cores, train=cores.train + OUTER.get(name, ())) for name, cores in (calc.CORES | text.CORES).items()
}
"""What calc and text are asked about something that another part finds."""
NOUNS: dict[str, Cores] = {name: _more(name, cores) for name, cores in _NOUNS.items()}
CLOCK, THEN, IT, BOTH = (
    _more(name, cores) for name, cores in (("clock", _CLOCK), ("then", _THEN), ("it", _IT), ("both", _BOTH))
)
