"""Questions about one table, answered by a query."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random

from experts.pocket.skills.phrasing import Cores, wrapped
from experts.pocket.skills.split import Split, drawn, part

DOMAINS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "employees": (("name", "city", "department", "role"), ("age", "salary", "level")),
    "books": (("title", "author", "genre", "language"), ("year", "pages", "price")),
    "pets": (("name", "species", "owner", "color"), ("age", "weight", "height")),
    "movies": (("title", "director", "genre", "country"), ("year", "length", "rating")),
    "products": (("name", "brand", "category", "color"), ("price", "stock", "weight")),
    "students": (("name", "school", "subject", "teacher"), ("age", "grade", "score")),
    "orders": (("customer", "product", "status", "city"), ("amount", "price", "year")),
    "cars": (("model", "brand", "color", "owner"), ("year", "price", "speed")),
    "players": (("name", "team", "position", "country"), ("age", "goals", "height")),
    "cities": (("name", "country", "region", "mayor"), ("population", "area", "founded")),
    "flights": (("airline", "origin", "destination", "pilot"), ("seats", "price", "distance")),
    "songs": (("title", "artist", "album", "genre"), ("year", "length", "plays")),
}
"""Tables with their text and their integer columns."""

_NAMED = """
    Anna Ben Clara David Emma Felix Grace Henry Iris Jack Kate Liam Maria Noah Olga Paul Rosa Sam Tina Victor Berlin
    London Madrid Paris Rome Oslo Tokyo Vienna red blue green black white cat dog horse rock jazz pop drama comedy
    French German Spanish Ford Toyota sales legal north south open closed math art
"""
WORDS: tuple[str, ...] = tuple(_NAMED.split())
"""Values of text columns; the words of the `text` skill serve too."""

AGGREGATES: dict[str, str] = {"average": "AVG", "total": "SUM", "highest": "MAX", "lowest": "MIN"}


@dataclass(frozen=True, slots=True)
class Selection:
    """A query on one table: what is wanted (`show`, `count`, `distinct`, an aggregate, `top`, `bottom`), and of what.

    `comparison` is `=`, `>` or `<`, or empty for all rows; `subject` is the column wanted, `column` the one compared or
    ordered by.
    """

    table: str
    columns: tuple[tuple[str, str], ...]
    want: str
    subject: str
    column: str
    comparison: str
    value: str

    @property
    def key(self) -> str:
        return f"{self.want} {self.subject} {self.column} {self.comparison} {self.value}"

    @property
    def query(self) -> str:
        literal = f"'{self.value}'" if dict(self.columns)[self.column] == "text" else self.value
        where = f" WHERE {self.column} {self.comparison} {literal}" if self.comparison else ""
        match self.want:
            case "count":
                return f"SELECT COUNT(*) FROM {self.table}{where}"
            case "distinct":
                return f"SELECT DISTINCT {self.subject} FROM {self.table}"
            case "top" | "bottom":
                order = "DESC" if self.want == "top" else "ASC"
                return f"SELECT {self.subject} FROM {self.table} ORDER BY {self.column} {order} LIMIT 1"
            case "show":
                return f"SELECT {self.subject} FROM {self.table}{where}"
            case _:
                return f"SELECT {AGGREGATES[self.want]}({self.subject}) FROM {self.table}{where}"

    @property
    def problem(self) -> str:
        condition = f" where {self.column} {self.comparison} {self.value}" if self.comparison else ""
        order = f" by {self.column}" if self.want in ("top", "bottom") else ""
        return f"{self.want} {self.subject} of {self.table}{order}{condition}"

    @property
    def worked(self) -> str:
        return f"{self.problem}\nAnswer: {self.query}"


@cache
def _words(split: Split) -> tuple[str, ...]:
    words = (Path(__file__).parent.parent / "data" / "words.txt").read_text().split()
    return tuple(word for word in (*WORDS, *words) if part(f"value {word}") == split)


def _invented(rng: Random) -> str:
    length = rng.randint(2, 4)
    return "".join(rng.choice("bcdfghklmnprstvz") + rng.choice("aeiou") for _ in range(length))


def _value(rng: Random, split: Split) -> str:
    if split == "train" and rng.random() < 0.4:
        name = _invented(rng)
        return name.capitalize() if rng.random() < 0.5 else name
    return rng.choice(_words(split))


def _table(rng: Random, split: Split) -> tuple[str, tuple[tuple[str, str], ...]]:
    if split == "train" and rng.random() < 0.3:
        names = [_invented(rng) for _ in range(6)]
        table, texts, numbers = names[0] + "s", names[1:4], names[4:]
    else:
        table = rng.choice(list(DOMAINS))
        texts, numbers = (list(columns) for columns in DOMAINS[table])
    chosen = [(name, "text") for name in rng.sample(texts, rng.randint(1, min(3, len(texts))))]
    chosen += [(name, "integer") for name in rng.sample(numbers, rng.randint(1, 2))]
    rng.shuffle(chosen)
    return table, tuple(dict(chosen).items())


def _selection(rng: Random, split: Split) -> Selection:
    table, columns = _table(rng, split)
    texts = [name for name, kind in columns if kind == "text"]
    numbers = [name for name, kind in columns if kind == "integer"]
    want = rng.choice(("show", "show", "show", "count", "count", "distinct", "top", "bottom", *AGGREGATES))
    column, comparison, value = rng.choice(texts), "", ""
    if want in ("top", "bottom"):
        return Selection(table, columns, want, rng.choice(texts), rng.choice(numbers), "", "")
    if want == "distinct":
        return Selection(table, columns, want, column, column, "", "")
    subject = rng.choice([name for name, _ in columns]) if want == "show" else rng.choice(numbers)
    if want == "count":
        subject = "rows"
    if want in ("show", "count") or rng.random() < 0.6:
        if rng.random() < 0.5:
            column, comparison = rng.choice(numbers), rng.choice("><=")
            value = str(rng.choice((rng.randint(1, 99), rng.randint(100, 9999))))
        else:
            comparison, value = "=", _value(rng, split)
    return Selection(table, columns, want, subject, column, comparison, value)


def values(rng: Random, split: Split) -> Selection:
    """A query from the split's share: its values, and its combination of columns and values, are the split's own."""
    return drawn(rng, split, lambda source: _selection(source, split), lambda value: value.key)


def schema(rng: Random, value: Selection) -> str:
    """The table's declaration, in one of the usual ways of writing it; the types are always there."""
    text, integer = rng.choice((("text", "integer"), ("TEXT", "INTEGER"), ("text", "int"), ("TEXT", "INT")))
    columns = ", ".join(f"{name} {text if kind == 'text' else integer}" for name, kind in value.columns)
    return f"{value.table}{rng.choice(('', ' '))}({columns})"


def drill(rng: Random) -> tuple[str, str]:
    """A declaration with a query in shorthand, and the worked text, for the base model."""
    value = values(rng, "train")
    return f"{schema(rng, value)}\n{value.problem}", value.worked


_CORES: dict[str, Cores] = {
    "show": Cores(
        train=(
            "show the {s} of all {t} where {w}", "list the {s} of the {t} where {w}", "list the {s} of {t} whose {w}",
            "what is the {s} of the {t} where {w}?", "find the {s} of every row where {w}",
            "get {s} from {t} where {w}",
            "which {s} do the {t} have whose {w}?", "give the {s} for the {t} whose {w}", "select {s} where {w}",
            "the {s} of all {t} whose {w}", "the {s} of {t} where {w}", "which {s} is in the rows where {w}?",
            "show {s} for all {t} whose {w}", "what are the {s} values of the {t} where {w}?",
            "return the {s} of rows whose {w}", "find {s} if {w}",
        ),
        validation=("show the {s} of the {t} whose {w}", "which {s} is there for the {t} where {w}?"),
        test=(
            "find the {s} of all {t} whose {w}", "which {s} do the {t} have where {w}?",
            "the {s} of every row whose {w}", "list the {s} for all {t} where {w}",
        ),
    ),
    "count": Cores(
        train=(
            "how many {t} are there where {w}?", "how many {t} are there whose {w}?", "count the {t} where {w}",
            "the number of {t} whose {w}", "how many rows are there where {w}?", "count the rows where {w}",
            "count all {t} whose {w}", "the number of rows where {w}", "how many of the {t} are such that {w}?",
            "for how many {t} is it so that {w}?", "how many {t} are in the table where {w}?", "count {t} if {w}",
            "what is the count of {t} where {w}?", "how many rows does the table have where {w}?",
            "count how many {t} there are where {w}", "how many {t} do we have whose {w}?",
        ),
        validation=("count all rows where {w}", "what is the number of {t} where {w}?"),
        test=(
            "how many {t} do we have where {w}?", "the count of {t} whose {w}", "count all the {t} where {w}",
            "how many rows are in the table whose {w}?",
        ),
    ),
    "distinct": Cores(
        train=(
            "list the different {s} values of {t}", "which different {s} values are there in {t}?",
            "the distinct {s} of {t}", "what distinct values does {s} have?", "show each {s} once",
            "the unique values of {s}", "list every {s} only once", "which different {s} do the {t} have?",
            "show the distinct {s} values", "find all different {s} values", "what are the different {s} of the {t}?",
            "list all unique {s} of {t}", "the list of distinct {s}", "what unique {s} values are there?",
            "show {s} without repeats", "give each different {s} of {t}",
        ),
        validation=("show the different {s} of the {t}", "the unique {s} of all {t}"),
        test=(
            "list the distinct {s} of the {t}", "which distinct {s} values are there?",
            "what are the different {s} values in {t}?", "show every {s} only once",
        ),
    ),
    "top": Cores(
        train=(
            "which {s} has the highest {c}?", "the {s} with the highest {c}", "the {s} of the row with the largest {c}",
            "find the {s} with the largest {c}", "what is the {s} with the highest {c}?", "which {s} has the most {c}?",
            "show the {s} with the maximum {c}", "the {s} that has the largest {c}", "which {s} has the biggest {c}?",
            "the {s} of the {t} with the highest {c}", "give the {s} whose {c} is the highest",
            "get the {s} where {c} is largest", "what {s} has the maximum {c}?", "find which {s} has the highest {c}",
            "among the {t}, which {s} has the highest {c}?", "show the {s} whose {c} is the largest",
        ),
        validation=("find the {s} with the highest {c}", "which {s} has the maximum {c}?"),
        test=(
            "what {s} has the highest {c}?", "which {s} has the largest {c}?", "show the {s} with the highest {c}",
            "the {s} whose {c} is the highest",
        ),
    ),
    "bottom": Cores(
        train=(
            "which {s} has the lowest {c}?", "the {s} with the lowest {c}", "the {s} of the row with the smallest {c}",
            "find the {s} with the smallest {c}", "what is the {s} with the lowest {c}?",
            "which {s} has the least {c}?",
            "show the {s} with the minimum {c}", "the {s} that has the smallest {c}", "which {s} has the tiniest {c}?",
            "the {s} of the {t} with the lowest {c}", "give the {s} whose {c} is the lowest",
            "get the {s} where {c} is smallest", "what {s} has the minimum {c}?", "find which {s} has the lowest {c}",
            "among the {t}, which {s} has the lowest {c}?", "show the {s} whose {c} is the smallest",
        ),
        validation=("find the {s} with the lowest {c}", "which {s} has the minimum {c}?"),
        test=(
            "what {s} has the lowest {c}?", "which {s} has the smallest {c}?", "show the {s} with the lowest {c}",
            "the {s} whose {c} is the lowest",
        ),
    ),
    "aggregate": Cores(
        train=(
            "the {g} {s} of all {t}", "the {g} {s} of the {t}", "what is the {g} {s}?", "compute the {g} {s}",
            "find the {g} {s} of {t}", "the {g} {s}", "show the {g} {s} of all rows", "calculate the {g} {s} of {t}",
            "what is the {g} {s} of the {t}?", "the {g} of {s}", "what {g} {s} do the {t} have?", "get the {g} {s}",
            "how much is the {g} {s} of the {t}?", "the {g} {s} in the table", "give the {g} {s} for {t}",
            "what is the {g} of the {s} column?",
        ),
        validation=("show the {g} {s} of the {t}", "what is the {g} {s} in the table?"),
        test=(
            "what is the {g} {s} of all {t}?", "compute the {g} {s} of the {t}", "find the {g} {s} in the table",
            "how much is the {g} {s}?",
        ),
    ),
}  # fmt: skip
_AGGREGATE_WORDS = {
    "average": ("average", "average", "mean"),
    "total": ("total", "total", "summed"),
    "highest": ("highest", "maximum", "largest"),
    "lowest": ("lowest", "minimum", "smallest"),
}
_CONDITIONS: dict[str, Cores] = {
    ">": Cores(
        train=("{c} is above {v}", "{c} is greater than {v}", "{c} is more than {v}", "{c} is over {v}", "{c} > {v}",
               "{c} is higher than {v}", "{c} is larger than {v}", "{c} is bigger than {v}"),
        validation=("{c} is above {v}",),
        test=("{c} is above {v}", "{c} is more than {v}", "{c} is greater than {v}"),
    ),
    "<": Cores(
        train=("{c} is below {v}", "{c} is less than {v}", "{c} is lower than {v}", "{c} is under {v}", "{c} < {v}",
               "{c} is smaller than {v}"),
        validation=("{c} is below {v}",),
        test=("{c} is below {v}", "{c} is lower than {v}", "{c} is less than {v}"),
    ),
    "=": Cores(
        train=("{c} is {v}", "{c} is {v}", "{c} equals {v}", "{c} = {v}", "{c} is equal to {v}"),
        validation=("{c} is {v}",),
        test=("{c} is {v}", "{c} equals {v}", "{c} is equal to {v}"),
    ),
}  # fmt: skip
_LAYOUTS = Cores(
    train=("{schema}\n{q}", "Table: {schema}\n{q}", "Given the table {schema}: {q}", "{q}\nTable: {schema}",
           "CREATE TABLE {schema};\n{q}", "Schema: {schema}. {q}", "I have a table {schema}. {q}",
           "Write a query for {schema}: {q}"),
    validation=("Table {schema}: {q}", "Schema: {schema}\n{q}"),
    test=("Table {schema}. {q}", "Given {schema}. {q}", "There is a table {schema}.\n{q}"),
)  # fmt: skip


def draw(rng: Random, split: Split) -> tuple[str, str, str]:
    """A question with its table, the query, and the worked text."""
    value = values(rng, split)
    core = rng.choice(_CORES[value.want if value.want in _CORES else "aggregate"].of(split))
    condition = ""
    if value.comparison:
        text = dict(value.columns)[value.column] == "text"
        literal = rng.choice(("'{}'", "{}", '"{}"')).format(value.value) if text else value.value
        condition = rng.choice(_CONDITIONS[value.comparison].of(split)).format(c=value.column, v=literal)
        if "{w}" not in core:
            core = core.removesuffix("?") + " where {w}" + ("?" if core.endswith("?") else "")
    word = rng.choice(_AGGREGATE_WORDS[value.want]) if value.want in AGGREGATES else ""
    asked = wrapped(core, split, rng).format(s=value.subject, t=value.table, c=value.column, w=condition, g=word)
    prompt = rng.choice(_LAYOUTS.of(split)).format(schema=schema(rng, value), q=asked)
    return prompt, value.query, value.worked
