"""Adapters in the retrieval measurement, trained on a small world."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evals.retrieval.scores import Scores
from evals.retrieval.systems import figures, rows
from tests.unit.test_retrieval_ranking import small_world

pytestmark = pytest.mark.integration


@pytest.mark.slow
def test_adapters_join_the_router_by_training_queries_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("sentence_transformers")
    from evals.retrieval.adapted import with_adapters

    monkeypatch.setenv("CONSILIUM_CACHE", str(tmp_path / "cache"))
    world = small_world(tmp_path)

    def row(system: str, found: Scores) -> dict[str, Any]:
        return figures(world, system, found, 1.0, resamples=100, seed=0)

    wider, more, choice = with_adapters(world, row, 0, lambda step: None)
    assert {each["system"] for each in more} == {
        "dense, one adapter", "dense, adapter of each corpus", "dense, told the adapter",
    }  # fmt: skip
    assert len(choice) == 4
    joined = max(choice, key=lambda name: choice[name])
    added = 0 if joined == "none" else 1 + joined.count(" and ")
    assert all(asked.found.scores.shape[1] == 2 + added for asked in (*wider.training, *wider.test))
    assert rows(world, resamples=100, seed=0, routed_on=wider)[0]["system"] == "dense"
