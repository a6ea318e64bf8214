"""What an answer settles on: the rows of a query, and expressions that SymPy finds equal."""

from __future__ import annotations

import pytest

from router.answers import boxed, sql
from router.answers.auto import picked

pytestmark = pytest.mark.integration

SHIPS = """CREATE TABLE ships (name TEXT, tons INT);
INSERT INTO ships VALUES ('Ada', 3), ('Bea', 7), ('Cid', 5);
Which ships have more than four tons?"""


async def said(extractor: sql.Sql | boxed.Boxed, question: str, text: str) -> str:
    found = await extractor.read(question, text)
    assert found is not None
    return found.key


async def test_queries_are_compared_by_the_rows_that_they_give() -> None:
    reader = sql.build(sql.Options())
    assert picked(SHIPS) == "sql"
    rows = await said(reader, SHIPS, "```sql\nSELECT name FROM ships WHERE tons > 4;\n```")
    assert rows.startswith("rows:")
    assert rows == await said(reader, SHIPS, "Answer: select s.name from ships s where not s.tons <= 4")
    ordered = await said(reader, SHIPS, "SELECT name FROM ships WHERE tons > 4 ORDER BY tons DESC")
    assert await reader.same(rows, ordered)
    other = await said(reader, SHIPS, "SELECT name FROM ships WHERE tons > 5")
    assert other != rows
    assert not await reader.same(rows, other)
    broken = await reader.read(SHIPS, "SELECT nothing FROM nowhere")
    assert broken is not None
    assert (broken.key, broken.checked) == ("error:select nothing from nowhere", False)
    assert await reader.read(SHIPS, "I do not know.") is None
    no_tables = await said(reader, "How old?", "SELECT  MAX( age ) FROM people;")
    assert no_tables == await said(reader, "How old?", "select max(age) from people")


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("x^2 - 1", "(x-1)(x+1)", True),
        ("\\frac{1}{2}", "0.5", True),
        ("\\sqrt{8}", "2\\sqrt{2}", True),
        ("2\\pi r", "\\pi r", False),
        ("\\text{ Even}", "even", True),
        ("x = 3", "3", True),
        ("3", "4", False),
    ],
)
async def test_expressions_are_equal_where_sympy_says_so(one: str, other: str, equal: bool) -> None:
    reader = boxed.build(boxed.Options())
    try:
        first, second = [await said(reader, "", f"So it is $\\boxed{{{text}}}$.") for text in (one, other)]
        assert (first == second or await reader.same(first, second)) is equal
    finally:
        await reader.close()
