"""`consilium eval retrieval --served`: real indexes, retrievers and a route, on a small world."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from router.cli.app import app
from tests.unit.test_retrieval_ranking import small_world

pytestmark = pytest.mark.integration


def test_the_served_path_is_measured_and_its_indexes_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv("CONSILIUM_CACHE", str(tmp_path / "cache"))
    small_world(tmp_path)
    command = ["eval", "retrieval", "--data", str(tmp_path / "data"), "--served", "--resamples", "100", "--json"]

    def measured(name: str) -> dict[str, dict[str, Any]]:
        ran = CliRunner().invoke(app, [*command, str(tmp_path / name)])
        assert ran.exit_code == 0, ran.output
        return {row["system"]: row for row in json.loads((tmp_path / name).read_text())["rows"]}

    first = measured("first.json")["served"]
    assert first["mean_ndcg10"] > 0.9
    assert 0.5 <= first["searched_share"] <= 1
    assert first["p50_ms"] > 0
    (folder,) = (tmp_path / "cache" / "served").iterdir()
    assert {each.name for each in folder.iterdir()} == {"animals", "metals"}
    again = measured("again.json")["served"]
    assert (again["mean_ndcg10"], again["held_out"]) == (first["mean_ndcg10"], first["held_out"])
