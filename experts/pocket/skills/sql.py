"""Questions about one table, answered by a query."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random

from experts.pocket.skills.phrasing import chosen, idle, wrapped
from experts.pocket.skills.split import Split, drawn, part
from experts.pocket.skills.sql_words import AGGREGATE_WORDS, CONDITIONS, CORES, LAYOUTS

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


def draw(rng: Random, split: Split) -> tuple[str, str, str]:
    """A question with its table, the query, and the worked text."""
    value = values(rng, split)
    core = chosen(CORES[value.want if value.want in CORES else "aggregate"], split, rng)
    condition = ""
    if value.comparison:
        text = dict(value.columns)[value.column] == "text"
        literal = rng.choice(("'{}'", "{}", '"{}"')).format(value.value) if text else value.value
        condition = rng.choice(CONDITIONS[value.comparison].of(split)).format(c=value.column, v=literal)
        if "{w}" not in core:
            core = core.removesuffix("?") + " where {w}" + ("?" if core.endswith("?") else "")
    word = rng.choice(AGGREGATE_WORDS[value.want]) if value.want in AGGREGATES else ""
    asked = wrapped(core, split, rng, varied=True).format(
        s=value.subject, t=value.table, c=value.column, w=condition, g=word
    )
    declared = schema(rng, value)
    if split == "train" and rng.random() < 0.25:
        declared = idle(rng, 3) + rng.choice((" ", ": ", ":\n", "\n")) + declared
    prompt = chosen(LAYOUTS, split, rng).format(schema=declared, q=asked)
    return prompt, value.query, value.worked
