"""How the `sql` skill asks: cores, conditions, and ways of giving the table."""

from experts.pocket.skills.phrasing import Cores

_T = "[{t}|the {t}|all {t}|all the {t}|the {t} table]"
_IF = "[where|whose|for which|if|such that|when]"
_HIGH = "[highest|largest|biggest|maximum|greatest|most]"
_LOW = "[lowest|smallest|least|minimum|tiniest|fewest]"


def _extreme(word: str) -> tuple[str, ...]:
    """Training cores for the row with the highest or the lowest value of a column."""
    return (
        f"[which|what] {{s}} has the {word} {{c}}?", f"the {{s}} [with|that has|having] the {word} {{c}}",
        f"the {{s}} [of|in] the [row|entry|record] with the {word} {{c}}",
        f"the {{s}} of the {{t}} with the {word} {{c}}",
        f"[find|show|give|get|list|name] the {{s}} [with|that has|having] the {word} {{c}}",
        f"[what|which] is the {{s}} with the {word} {{c}}?", f"[find|show] [which|what] {{s}} has the {word} {{c}}",
        f"[find|show|give|get] the {{s}} whose {{c}} is [|the ]{word}", f"the {{s}} [where|for which] {{c}} is {word}",
        f"[among|of|in] {_T}, which {{s}} has the {word} {{c}}?", f"in {_T}, [which|what] {{s}} has the {word} {{c}}?",
        f"[get|find|show|return] the {{s}} where {{c}} is {word}", f"whose {{c}} is the {word}: which {{s}}?",
        f"the {{s}} of the [one|row] whose {{c}} is the {word}", f"return the {{s}} of the {word} {{c}}",
        f"the {{s}} belonging to the {word} {{c}}",
    )  # fmt: skip


CORES: dict[str, Cores] = {
    "show": Cores(
        train=(
            f"[show|list|give|find|get|return|print] the {{s}} [of|for|from] {_T} {_IF} {{w}}",
            f"[show|list|give|find|get|return|select] {{s}} [from|of|for|in] {_T} {_IF} {{w}}",
            f"[list|show|find|get|return] [every|each] {{s}} [of|in|from] {_T} {_IF} {{w}}",
            f"the {{s}} [of|for|from|in] {_T} {_IF} {{w}}", f"the {{s}} of [each|every] [row|entry|record] {_IF} {{w}}",
            f"what is the {{s}} of {_T} {_IF} {{w}}?", f"what are the {{s}} values [of|in] {_T} {_IF} {{w}}?",
            f"[which|what] {{s}} do {_T} have {_IF} {{w}}?", f"which {{s}} [is|are] in the rows {_IF} {{w}}?",
            f"[find|show|give|get|list] the {{s}} of [each|every|any] [row|entry|record] {_IF} {{w}}",
            f"select {{s}} {_IF} {{w}}", f"[find|show|get] {{s}} {_IF} {{w}}", f"what {{s}} is there {_IF} {{w}}?",
            f"for {_T} {_IF} {{w}}, [show|give|list|find] the {{s}}", f"for rows {_IF} {{w}}, show the {{s}}",
            f"the {{s}} {_IF} {{w}}", f"return {{s}} of [the |]rows {_IF} {{w}}",
            "find the {s} of all {t} whose {w}", "which {s} do the {t} have where {w}?",
            "the {s} of every row whose {w}", "list the {s} for all {t} where {w}",
        ),
        validation=("show the {s} of the {t} whose {w}", "which {s} is there for the {t} where {w}?"),
        test=(
            "list the {s} of all {t} where {w}", "what is the {s} of each of the {t} whose {w}?",
            "the {s} for every one of the {t} where {w}", "find all the {t} whose {w} and give me their {s}",
        ),
        bank="sql/show",
    ),
    "count": Cores(
        train=(
            f"how many {{t}} are there {_IF} {{w}}?", f"how many [rows|entries|records] are there {_IF} {{w}}?",
            f"how many [of the |]{{t}} are [in the table|such that] {_IF} {{w}}?", f"how many {{t}} exist {_IF} {{w}}?",
            f"count [|all|the] [{{t}}|rows|entries|records] {_IF} {{w}}", f"count {_T} {_IF} {{w}}",
            f"count how many [{{t}}|rows|entries] there are {_IF} {{w}}", f"count the number of {{t}} {_IF} {{w}}",
            f"the [number|count|amount] of [{{t}}|rows|entries|all {{t}}] {_IF} {{w}}",
            "for how many [{t}|rows|of the {t}] is it [so|true] that {w}?", f"what is the count of {_T} {_IF} {{w}}?",
            f"how many [{{t}}|rows|entries] [do we|do you|does the table|do they] have {_IF} {{w}}?",
            f"how many [{{t}}|rows|entries] are [in|found in] the table {_IF} {{w}}?", f"how many {{t}} {_IF} {{w}}?",
            f"[find|show|give|get] the [number|count] of [{{t}}|rows] {_IF} {{w}}",
            f"the total number of [{{t}}|rows] {_IF} {{w}}",
            "how many {t} do we have where {w}?", "the count of {t} whose {w}", "count all the {t} where {w}",
            "how many rows are in the table whose {w}?",
        ),
        validation=("count all rows where {w}", "what is the number of {t} where {w}?"),
        test=(
            "how many {t} are there where {w}?", "the number of {t} whose {w}", "count the {t} for which {w}",
            "in how many rows of {t} is it true that {w}?",
        ),
        bank="sql/count",
    ),
    "distinct": Cores(
        train=(
            f"[list|show|find|give|get|return] [the|all|all the] [different|distinct|unique] {{s}} [of|in|from] {_T}",
            "[list|show|find|give|get] [the|all|all the] [different|distinct|unique] {s} values [|in the table]",
            f"[which|what] [different|distinct|unique] {{s}} [|values ]are there [in|among] {_T}?",
            f"[which|what] [different|distinct|unique] {{s}} do {_T} have?", "what [different|unique] {s} exist?",
            f"the [different|distinct|unique] {{s}} [|values ][of|in] {_T}",
            "the list of [distinct|different|unique] {s}",
            "the [unique|distinct|different] values of {s}", "what [distinct|different|unique] values does {s} have?",
            f"[list|show|print|give] [every|each] {{s}} [|of {_T}] once", "show [each|every] [different|distinct] {s}",
            f"[list|show] {{s}} [without repeats|without duplicates] [|from {_T}]", "list [every|each] {s} only once",
            f"what are the [different|distinct|unique] {{s}} [of|among] {_T}?", "show {s}, each value once",
            "what [unique|different|distinct] {s} values are there?",
            "list the distinct {s} of the {t}", "which distinct {s} values are there?",
            "what are the different {s} values in {t}?", "show every {s} only once",
        ),
        validation=("show the different {s} of the {t}", "the unique {s} of all {t}"),
        test=(
            "which different values of {s} are there among the {t}?",
            "list every {s} in {t} just once, without repeats", "the unique values in the {s} column",
            "what are all the distinct {s} values that occur in the {t} table?",
        ),
        bank="sql/distinct",
    ),
    "top": Cores(
        train=(
            *_extreme(_HIGH),
            "what {s} has the highest {c}?", "which {s} has the largest {c}?", "show the {s} with the highest {c}",
            "the {s} whose {c} is the highest",
        ),
        validation=("find the {s} with the highest {c}", "which {s} has the maximum {c}?"),
        test=(
            "what is the {s} of the one with the highest {c} among the {t}?",
            "the {s} of the row in {t} that has the largest {c}",
            "find the entry in {t} with the greatest {c} and tell me its {s}",
            "which {s} belongs to the row with the maximum {c} in the {t} table?",
        ),
        bank="sql/top",
    ),
    "bottom": Cores(
        train=(
            *_extreme(_LOW),
            "what {s} has the lowest {c}?", "which {s} has the smallest {c}?", "show the {s} with the lowest {c}",
            "the {s} whose {c} is the lowest",
        ),
        validation=("find the {s} with the lowest {c}", "which {s} has the minimum {c}?"),
        test=(
            "which {s} goes with the lowest {c} in {t}?", "the {s} of whichever of the {t} has the smallest {c}",
            "look up the row in {t} where {c} is lowest and give me its {s}",
            "out of all the {t}, what is the {s} of the one with the least {c}?",
        ),
        bank="sql/bottom",
    ),
    "aggregate": Cores(
        train=(
            f"the {{g}} {{s}} [of|for|in|over] {_T}", "the {g} {s}", "the {g} {s} [of|over] all [rows|entries]",
            f"what [is|would be] the {{g}} {{s}} [of|for|in] {_T}?", "what is the {g} {s}?", "the {g} of {s}",
            f"[compute|find|show|calculate|give|get|return] the {{g}} {{s}} [of|for|in|over] {_T}",
            "[compute|find|show|calculate|give|get] the {g} {s}", "the {g} of the {s} [column|values]",
            "[compute|find|show|get] the {g} {s} of all [rows|entries]", f"what {{g}} {{s}} do {_T} have?",
            f"how much is the {{g}} {{s}} [of|for|in] {_T}?", "the {g} value of {s}", "what is the {g} value of {s}?",
            f"for {_T}, [what is|compute|show] the {{g}} {{s}}", "what is the {g} of the {s} column?",
            "what is the {g} {s} of all {t}?", "compute the {g} {s} of the {t}", "find the {g} {s} in the table",
            "how much is the {g} {s}?",
        ),
        validation=("show the {g} {s} of the {t}", "what is the {g} {s} in the table?"),
        test=(
            "the {g} {s} of all the {t}", "work out the {g} {s} over the whole table",
            "taking all {t} together, what is the {g} {s}?", "tell me the {g} value of the {s} column in {t}",
        ),
        bank="sql/aggregate",
    ),
}  # fmt: skip
AGGREGATE_WORDS = {
    "average": ("average", "average", "mean"),
    "total": ("total", "total", "summed"),
    "highest": ("highest", "maximum", "largest"),
    "lowest": ("lowest", "minimum", "smallest"),
}
CONDITIONS: dict[str, Cores] = {
    ">": Cores(
        train=("{c} is above {v}", "{c} is greater than {v}", "{c} is more than {v}", "{c} is over {v}", "{c} > {v}",
               "{c} is higher than {v}", "{c} is larger than {v}", "{c} is bigger than {v}"),
        validation=("{c} is above {v}",),
        test=("{c} is above {v}", "{c} is more than {v}", "{c} is greater than {v}"),
        bank="conditions/>",
    ),
    "<": Cores(
        train=("{c} is below {v}", "{c} is less than {v}", "{c} is lower than {v}", "{c} is under {v}", "{c} < {v}",
               "{c} is smaller than {v}"),
        validation=("{c} is below {v}",),
        test=("{c} is below {v}", "{c} is lower than {v}", "{c} is less than {v}"),
        bank="conditions/<",
    ),
    "=": Cores(
        train=("{c} is {v}", "{c} is {v}", "{c} equals {v}", "{c} = {v}", "{c} is equal to {v}"),
        validation=("{c} is {v}",),
        test=("{c} is {v}", "{c} equals {v}", "{c} is equal to {v}"),
        bank="conditions/=",
    ),
}  # fmt: skip
_SOME = "[|a |the |this |my |our ]"
_TABLE = "[|table |tables |schema |database |relation |data |sheet |list ]"
LAYOUTS = Cores(
    train=(
        "{schema}\n{q}", "{q}\n{schema}", "{schema} {q}", "{schema}: {q}", "{q} {schema}",
        "[Table|Schema|Data|Database|Columns|Structure|Tables|Relation][:| is|:\n|\n| -] {schema}[.|\n|:|;| -] {q}",
        f"[Given|With|Using|From|For|In|Take|Consider|See|Assume|Suppose] {_SOME}{_TABLE}{{schema}}[:|,|;|\n| -] {{q}}",
        f"[Given|With|Using|From|For|In|Take|Consider|See|Assume|Suppose] {_SOME}{_TABLE}{{schema}}[:|,|;|.|\n] {{q}}",
        f"[I have|We have|There is|Here is|This is|Look at|Imagine|Let us say we have] {_SOME}{_TABLE}{{schema}}"
        "[.|:|,|\n] {q}",
        "[My|The|Our|This] [table|schema|data|database] [is|looks like|has the form|reads] {schema}[.|:|,|\n] {q}",
        "CREATE TABLE {schema};\n{q}", "create table {schema}; {q}",
        "{q} [The|My|Our] [table|schema] [is|looks like|reads] {schema}[.|]",
        "{q}\n[Table|Schema|Data|Database][:| is|:\n] {schema}",
        f"{{q}} [Given|Using|Use|For|In|From] {_SOME}{_TABLE}{{schema}}[.|]",
        f"[Write|Give me|I need|Make] [a query|SQL|an SQL query] [for|on|over] {_SOME}{_TABLE}{{schema}}[:|.|\n] {{q}}",
    ),
    validation=("Table {schema}: {q}", "Schema: {schema}\n{q}"),
    test=(
        "I have a table {schema}. {q}",
        "{q}\nThe table looks like this: {schema}",
        "Here is my database table:\n\n{schema}\n\nPlease write an SQL query that answers this: {q}",
        "{q} Use SQL, and note that the data is stored in {schema}.",
    ),
    bank="layouts/all",
)  # fmt: skip
