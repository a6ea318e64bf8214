"""Training of adapters: what is mined, what is learned, and that a run which was killed ends in the same numbers."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from experts.errors import ConfigError

pytest.importorskip("sentence_transformers")

from experts.retrieval.adapting import Lesson, Recipe, examples, mined, reciprocal_rank, train

pytestmark = pytest.mark.integration

RECIPE = Recipe(rank=8, epochs=12, batch=32, rate=5e-3, hard=2, every=20)


def units(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def turned(noise: float = 0.1) -> Lesson:
    """Queries are their passages, turned: what a linear map can undo."""
    rng = np.random.default_rng(0)
    passages = units(rng.normal(size=(300, 12)))
    turn = np.linalg.qr(rng.normal(size=(12, 12)))[0]
    queries = units(passages[:200] @ (np.eye(12) + turn) + noise * rng.normal(size=(200, 12)))
    return Lesson(queries, passages, [[row] for row in range(200)], [[]] * 200)


def test_hard_negatives_are_near_and_neither_relevant_nor_nearly_so():
    cosines = np.array([0.9, 0.89, 0.5, 0.3, 0.7], np.float32)
    assert mined(cosines, [0], [], 2) == [4, 2]
    assert mined(cosines, [0], [3], 2) == [3, 4]


def test_every_relevant_passage_is_an_example():
    lesson = Lesson(units(np.eye(4))[:1], units(np.eye(4)), [[0, 2]], [[1]])
    rows = examples(lesson, [0], 1)
    assert rows == {"anchor": ["0", "0"], "positive": ["1", "3"], "negative_1": ["2", "2"]}
    with pytest.raises(ConfigError, match="5 passages"):
        examples(lesson, [0], 5)


@pytest.mark.slow
def test_a_map_is_learned_and_a_killed_run_ends_in_the_same_numbers(tmp_path: Path):
    lesson = turned()
    adapter, figures = train("turn", "mini-1", lesson, RECIPE, work=tmp_path / "one")
    assert figures["held_mrr"] > figures["held_mrr_before"] + 0.1
    assert reciprocal_rank(lesson, np.arange(200), adapter) > reciprocal_rank(lesson, np.arange(200), adapter.scaled(0))
    with pytest.raises(ConfigError, match="--resume goes on"):
        train("turn", "mini-1", lesson, RECIPE, work=tmp_path / "one")
    checkpoints = sorted((tmp_path / "one").glob("checkpoint-*"), key=lambda path: int(path.name[11:]))
    shutil.rmtree(checkpoints[-1])
    again, _ = train("turn", "mini-1", lesson, RECIPE, work=tmp_path / "one", resume=True)
    assert np.allclose(again(lesson.queries), adapter(lesson.queries), atol=1e-5)


@pytest.mark.slow
def test_what_helps_no_held_out_query_changes_nothing():
    rng = np.random.default_rng(1)
    noise = units(rng.normal(size=(60, 12)))
    lesson = Lesson(units(noise + 0.05 * rng.normal(size=(60, 12))), noise, [[row] for row in range(60)], [[]] * 60)
    adapter, figures = train("none", "mini-1", lesson, Recipe(rank=4, epochs=1, hard=1))
    assert figures["held_mrr"] >= figures["held_mrr_before"]
    assert figures["strength"] == 0
    assert np.allclose(adapter(lesson.queries), lesson.queries, atol=1e-6)
