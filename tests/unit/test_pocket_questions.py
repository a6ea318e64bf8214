"""The pocket experts' questions: deterministic, held apart, and right by an independent reckoning."""

import re
from random import Random
from string import Formatter

import pytest

from experts.pocket import drills, judge, steps
from experts.pocket.questions import SKILLS, Question, final_answer, questions, right
from experts.pocket.skills import calc, geo, phrasing, sql, sql_words, text, units
from experts.pocket.skills.split import part
from experts.pocket.vocabulary import CHARACTERS, decode, encode

SPLITS = ("train", "validation", "test")


@pytest.mark.parametrize("skill", SKILLS)
@pytest.mark.parametrize("split", SPLITS)
def test_questions_are_deterministic_unique_and_right(skill: str, split: str) -> None:
    asked = questions(skill, split, 150, seed=3)
    assert asked == questions(skill, split, 150, seed=3)
    assert asked[:40] == questions(skill, split, 40, seed=3)
    assert asked != questions(skill, split, 150, seed=4)
    assert len({question.prompt for question in asked}) == 150
    assert len({question.id for question in asked}) == 150
    for question in asked:
        assert right(question, question.worked), question
        assert final_answer(question.worked) == question.answer
        assert question.worked.endswith(f"\nAnswer: {question.answer}")
        assert set(question.prompt + question.worked) <= set(CHARACTERS)


def _all_cores() -> dict[str, phrasing.Cores]:
    cores = {"units": units.CORES, "degrees": units._DEGREES}
    for module in (calc, text, geo):
        for name, group in module.CORES.items():
            cores[f"{module.__name__} {name}"] = group
    return cores | {f"sql {name}": group for name, group in sql_words.CORES.items()}


@pytest.mark.parametrize("name", list(_all_cores()))
def test_wordings_of_the_splits_are_disjoint_and_many(name: str) -> None:
    cores = _all_cores()[name]
    rng = Random(name)
    trained = {phrasing.chosen(cores, "train", rng) for _ in range(3000)}
    assert len(set(cores.train)) >= 15
    assert len(cores.test) >= 4
    assert len(trained) >= 15
    assert not trained & {*cores.validation, *cores.test}
    assert not set(cores.validation) & set(cores.test)
    fields = {field for core in (*trained, *cores.test) for _, field, _, _ in Formatter().parse(core) if field}
    assert fields <= {"a", "b", "name", "other", "things", "w", "l", "n", "nth", "v", "t", "c", "k", "s", "g"}


def test_choices_are_spelled_out() -> None:
    free = phrasing.Cores(("[a|b] c[| d]?",), (), ())
    assert {phrasing.chosen(free, "train", Random(seed)) for seed in range(40)} == {"a c?", "a c d?", "b c?", "b c d?"}
    held = phrasing.Cores(("[say|spell] it",), (), ("say it",))
    assert {phrasing.chosen(held, "train", Random(seed)) for seed in range(20)} == {"spell it"}


@pytest.mark.parametrize("skill", SKILLS)
def test_no_test_prompt_is_met_in_training(skill: str) -> None:
    trained = {question.prompt.lower() for question in questions(skill, "train", 1500, seed=1)}
    assert not trained & {question.prompt.lower() for question in questions(skill, "test", 300, seed=0)}


def test_values_are_held_out() -> None:
    rng = Random(1)
    for split in SPLITS:
        for _ in range(300):
            assert part(calc.values(rng, split).key) == split
            assert part(units.values(rng, split).key) == split
            assert part(sql.values(rng, split).key) == split
    held = {word for split in ("validation", "test") for word in text.words(split)}
    drawn = {text.values(rng, "train").word.lower() for _ in range(4000)}
    assert not drawn & held
    assert {text.values(rng, "test").word.lower() for _ in range(300)} <= set(text.words("test"))
    assert len(text.words("test")) >= 40


@pytest.mark.parametrize("split", SPLITS)
def test_arithmetic_is_right(split: str) -> None:
    for question in questions("calc", split, 400):
        a, sign, b = question.worked.split("\n", 1)[0].split()
        x, y = int(a), int(b)
        if sign == "/":
            quotient, _, rest = question.answer.partition(" remainder ")
            assert int(quotient) * y + int(rest or 0) == x
            assert 0 <= int(rest or 0) < y
            assert split == "train" or not rest
        else:
            assert int(question.answer) == {"+": x + y, "-": x - y, "x": x * y}[sign] >= 0
        assert {int(number) for number in re.findall(r"\d+", question.prompt)} == {x, y}


@pytest.mark.parametrize("line_of", ["add", "subtract", "multiply", "divide"])
def test_every_step_is_a_true_equation(line_of: str) -> None:
    rng = Random(line_of)
    for _ in range(300):
        a, b = rng.randint(1, 999), rng.randint(1, 99)
        lines = {
            "add": lambda a=a, b=b: steps.add(a, b),
            "subtract": lambda a=a, b=b: steps.subtract(max(a, b), min(a, b)),
            "multiply": lambda a=a, b=b: steps.multiply(a, b),
            "divide": lambda a=a, b=b: steps.divide(a, b % 8 + 2),
        }[line_of]()
        for line in lines:
            if found := re.fullmatch(r"(\d+)([-+x])(\d)([-+]\d)=(\d+)", line):
                x, sign, y, carry, result = found.groups()
                value = {"+": int(x) + int(y), "-": int(x) - int(y), "x": int(x) * int(y)}[sign]
                assert value + int(carry) == int(result)
            elif found := re.fullmatch(r"(\d+)/(\d)=(\d+) r(\d)", line):
                assert divmod(int(found[1]), int(found[2])) == (int(found[3]), int(found[4]))
            else:
                assert line.isdigit()


def test_letters_are_right() -> None:
    for question in questions("text", "test", 400):
        operation, _, rest = question.worked.split("\n", 1)[0].partition(" ")
        word = rest.split()[-1]
        assert word in question.prompt
        match operation:
            case "reverse":
                assert question.answer == "".join(reversed(word))
            case "sort":
                assert list(question.answer) == sorted(word)
            case "count":
                assert int(question.answer) == sum(letter == rest[0] for letter in word)
            case "length":
                assert int(question.answer) == len(word)
            case "upper":
                assert question.answer.lower() == word
                assert question.answer.isupper()
            case "lower":
                assert question.answer.upper() == word
                assert question.answer.islower()
            case _:
                assert question.answer == word[int(rest.split()[0]) - 1]


METRES = {"km": 1000.0, "m": 1.0, "cm": 0.01, "mm": 0.001, "ft": 12.0, "in": 1.0, "yd": 36.0}
MASSES = {"t": 1e6, "kg": 1e3, "g": 1.0, "mg": 1e-3, "lb": 16.0, "oz": 1.0}
OTHERS = {"l": 1e3, "ml": 1.0, "weeks": 10_080.0, "days": 1440.0, "hours": 60.0, "min": 1.0, "s": 1 / 60,
          "years": 12.0, "months": 1.0, "gallons": 8.0, "pints": 1.0, "dozen": 12.0, "pieces": 1.0}  # fmt: skip
SIZES = METRES | MASSES | OTHERS


def test_conversions_are_right() -> None:
    rng = Random(5)
    for _ in range(900):
        value = units.values(rng, rng.choice(SPLITS))
        match value.kind:
            case "clock":
                hours, minutes = re.fullmatch(r"(\d+) h (\d+) min", value.answer).groups()  # pyright: ignore
                assert int(hours) * 60 + int(minutes) == int(value.amount)
                assert int(minutes) < 60
            case "minutes":
                hours, minutes = value.amount.split(" h ")
                assert value.answer == f"{int(hours) * 60 + int(minutes)} min"
            case "temperature":
                number, degrees = float(value.answer.split()[0]), float(value.amount)
                celsius = degrees if value.unit == "C" else (degrees - 32) / 1.8
                expected = {"F": degrees * 1.8 + 32, "C": celsius, "K": celsius + 273.15}[value.target]
                assert number == pytest.approx(expected)
            case _:
                number = float(value.answer.split()[0])
                assert number == pytest.approx(float(value.amount) * SIZES[value.unit] / SIZES[value.target])
                assert not value.answer.split()[0].endswith(".")


def test_countries_are_complete_and_consistent() -> None:
    pycountry = pytest.importorskip("pycountry")
    countries = geo.countries()
    assert len(countries) == 195
    for field in ("name", "code", "capital"):
        assert len({getattr(country, field) for country in countries}) == 195
    continents = {"Africa": 54, "Asia": 48, "Europe": 44, "North America": 23, "South America": 12, "Oceania": 14}
    counted = {name: sum(country.continent == name for country in countries) for name in continents}
    assert sum(counted.values()) == 195
    assert counted == continents
    odd = {"Brunei": "Brunei Darussalam", "Cape Verde": "Cabo Verde", "Ivory Coast": "Côte d'Ivoire",
           "DR Congo": "Congo, The Democratic Republic of the", "Russia": "Russian Federation", "Turkey": "Türkiye",
           "Micronesia": "Micronesia, Federated States of", "Palestine": "Palestine, State of",
           "Republic of the Congo": "Congo", "Vatican City": "Holy See (Vatican City State)",
           "Sao Tome and Principe": "Sao Tome and Principe"}  # fmt: skip
    for country in countries:
        entry = pycountry.countries.get(alpha_2=country.code)
        known = {entry.name, getattr(entry, "common_name", entry.name)}
        assert odd.get(country.name, country.name) in known, country


def test_currencies_exist() -> None:
    pycountry = pytest.importorskip("pycountry")
    import csv

    with (geo._DATA / "currencies.csv").open() as file:
        for row in csv.DictReader(file):
            known = pycountry.currencies.get(alpha_3=row["code"]).name.lower().replace("í", "i").replace("’", "'")
            unit = row["name"].lower().split()[-1]
            spelled = {"shekel": "sheqel", "som": "sum", "cordoba": "cordoba"}.get(unit, unit)
            assert unit in known or spelled in known, row


def test_a_few_countries_by_heart() -> None:
    by_name = {country.name: country for country in geo.countries()}
    for name, capital, continent, currency in (
        ("Peru", "Lima", "South America", "sol"),
        ("Australia", "Canberra", "Oceania", "Australian dollar"),
        ("Kazakhstan", "Astana", "Asia", "tenge"),
        ("Croatia", "Zagreb", "Europe", "euro"),
        ("Burundi", "Gitega", "Africa", "Burundian franc"),
        ("Canada", "Ottawa", "North America", "Canadian dollar"),
    ):
        country = by_name[name]
        assert (country.capital, country.continent, country.currency) == (capital, continent, currency)


def test_facts_cover_every_relation_both_ways() -> None:
    assert len(geo.facts()) == 780
    asked = geo.ask(next(x for x in geo.facts() if x.problem == "Lima, country"), Random(1), "test")
    assert "lima" in asked[0].lower()
    assert asked[1] == "Peru"


def test_queries_run_and_wrong_ones_fail() -> None:
    for question in questions("sql", "test", 200):
        connection = judge.database(question.prompt, question.answer, 0)
        assert judge.run(connection, question.answer) is not None
        connection.close()
        table, columns = judge.table(question.prompt)
        assert not right(question, f"Answer: SELECT 'x{next(iter(columns))}' FROM {table}")
        assert right(question, f"Answer: {question.answer.replace('SELECT', 'select')}  ")


@pytest.mark.parametrize(
    "query",
    ["DROP TABLE pets", "SELECT 1; SELECT 2", "", "PRAGMA user_version", "SELECT nothing FROM pets",
     "SELECT load_extension('x')", "INSERT INTO pets VALUES ('a', 1)", "SELECT a.name FROM sqlite_master",
     "SELECT COUNT(*) FROM pets a, pets b, pets c, pets d, pets e"],
)  # fmt: skip
def test_a_bad_query_is_only_wrong(query: str) -> None:
    prompt = "Table pets(name text, age integer). How many pets are there?"
    assert not judge.same_result(prompt, "SELECT COUNT(*) FROM pets", query)


def test_a_question_without_a_table_says_so() -> None:
    with pytest.raises(ValueError, match="no table"):
        judge.table("How many pets are there?")


@pytest.mark.parametrize(
    ("said", "answer"),
    [("47 + 58\nAnswer: 105", "105"), ("Answer: 3\nAnswer: 4\n", "4"), ("105", "105"), ("x\n\n 7 \n", "7"), ("", ""),
     ("Answer:", ""), ("Answer: Lima\nand more", "Lima")],
)  # fmt: skip
def test_final_answer(said: str, answer: str) -> None:
    assert final_answer(said) == answer


def test_right_is_exact() -> None:
    question = Question("1", "geo", "What is the capital of Peru?", "Lima", "Peru, capital\nAnswer: Lima", "test")
    assert right(question, "Answer: Lima")
    assert not right(question, "Answer: lima")
    assert not right(question, "Answer: Lima, Peru")


def test_drills_never_hold_test_values() -> None:
    rng = Random(2)
    held = {word for split in ("validation", "test") for word in text.words(split)}
    for _ in range(2000):
        drill = drills.draw(rng)
        assert 0 <= drill.known < len(drill.worked)
        first = drill.worked.split("\n", 1)[0].split()
        if first[0] in text.OPERATIONS and len(first) == 2:
            assert first[1].lower() not in held


def test_vocabulary_round_trip() -> None:
    assert decode(encode("Ab 1?\n~")) == "Ab 1?\n~"
    assert encode("é") == encode("☃")
