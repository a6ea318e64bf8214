"""What an expert's answer says of the order of passages."""

from __future__ import annotations

import pytest

from experts.retrieval.reranking import numbered


@pytest.mark.parametrize(
    ("said", "order"),
    [("2, 3, 1", [1, 2, 0]), ("[3] > [1]", [2, 0, 1]), ("3 3 99 0", [2, 0, 1]), ("I cannot say.", [0, 1, 2])],
)
def test_an_answer_gives_an_order_of_all_passages(said: str, order: list[int]) -> None:
    found = numbered(said, 3)
    assert [place for place, _ in found] == order
    assert [score for _, score in found] == [1, 0.5, 0.333333]
