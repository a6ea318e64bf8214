"""Vectors of outcomes: the very ones that a gateway gives to the same texts, kept on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from experts.language import Message, Query
from experts.protocols import Vectors
from router.embedding import Embedding
from router.outcomes import rows_to_outcomes
from router.texts import MOST_CHARS, TAIL_CHARS, encode_prompts, routing_texts
from router.vectors import VectorCache

LONG = "Summarise this. " + "x" * 9_000 + " In French, please."


class Counting:
    """A unit vector from the counts of each text's letters; notes what it was asked for."""

    fingerprint = "counting"
    dimensions = 26

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode(self, texts: Sequence[str]) -> Vectors:
        self.asked += texts
        counts = np.array([[1 + text.count(chr(97 + i)) for i in range(26)] for text in texts], np.float32)
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)


def outcomes(*texts: str):
    return rows_to_outcomes(
        {"id": str(i), "task": "", "split": "train", "prompt": text, "scores": {"a": 1.0}, "tokens": {},
         "cost_usd": {}, "latency_ms": {}}
        for i, text in enumerate(texts)
    )  # fmt: skip


@pytest.mark.parametrize("turns", [["short"], [LONG], ["hello", LONG], [""], ["a", "b", "c"]], ids=len)
async def test_fitting_and_serving_give_a_prompt_the_same_vector(turns: list[str]) -> None:
    embedding = Embedding(Counting())
    query = Query("", "chat", "auto", {}, tuple(Message("user", turn) for turn in turns))
    served = await embedding.embed(*routing_texts(query))
    embedding.close()
    _, fitted, _ = encode_prompts(Counting(), [["before"], turns, [LONG]])
    np.testing.assert_allclose(fitted, served, rtol=1e-6)


def test_a_long_outcome_is_embedded_in_pieces(tmp_path: Path) -> None:
    encoder = Counting()
    found = VectorCache(tmp_path).embedded(outcomes("short", LONG), encoder).vectors
    assert found is not None
    assert encoder.asked == ["short", LONG[-TAIL_CHARS:], LONG[: MOST_CHARS - TAIL_CHARS]]
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, rtol=1e-6)


def test_vectors_are_made_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONSILIUM_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first, second = Counting(), Counting()
    made = VectorCache().embedded(outcomes("one", LONG), first).vectors
    read = VectorCache().embedded(outcomes("one", LONG), second).vectors
    np.testing.assert_array_equal(made, read)  # pyright: ignore[reportArgumentType]
    assert second.asked == []
    assert [path.suffix for path in (tmp_path / "consilium" / "vectors").iterdir()] == [".npy"]


def test_one_text_in_two_rows_is_not_taken_for_one_long_text(tmp_path: Path) -> None:
    cache, pieces = VectorCache(tmp_path), [LONG[-TAIL_CHARS:], LONG[: MOST_CHARS - TAIL_CHARS]]
    for texts in ([LONG], pieces, [*pieces, LONG]):
        vectors = cache.embedded(outcomes(*texts), Counting()).vectors
        assert vectors is not None
        np.testing.assert_allclose(vectors[-1], encode_prompts(Counting(), [[texts[-1]]])[0], rtol=1e-6)
    assert len(list(tmp_path.iterdir())) == 3
