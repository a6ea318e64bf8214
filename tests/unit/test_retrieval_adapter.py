"""Adapters: what they do to a query's vector, and which files they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from experts.errors import ConfigError
from experts.retrieval.adapter import Adapter, load_adapter


def small(encoder: str = "mini-1") -> Adapter:
    rng = np.random.default_rng(0)
    down, up = rng.normal(size=(2, 8, 2)).astype(np.float32)
    return Adapter("health", encoder, down, up, np.full(8, 0.1, np.float32))


def units(count: int) -> np.ndarray:
    rows = np.random.default_rng(1).normal(size=(count, 8)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_adapted_queries_are_of_unit_length_and_moved():
    queries = units(5)
    moved = small()(queries)
    assert np.allclose(np.linalg.norm(moved, axis=1), 1, atol=1e-5)
    assert np.abs(moved - queries).max() > 0.1


def test_an_adapter_of_zeros_changes_nothing():
    nothing = np.zeros((8, 2), np.float32)
    assert np.allclose(Adapter("none", "mini-1", nothing, nothing, nothing[:, 0])(units(3)), units(3), atol=1e-6)


def test_half_the_strength_moves_half_as_far():
    queries = units(3)
    assert np.allclose(small().scaled(0)(queries), queries, atol=1e-6)
    near = (small().scaled(0.5)(queries) * queries).sum(axis=1)
    assert (near > (small()(queries) * queries).sum(axis=1)).all()


def test_what_was_saved_is_read_back(tmp_path: Path):
    small().scaled(2).save(tmp_path / "health")
    small().save(tmp_path / "health", {"trained": {"pairs": 3}})
    read = load_adapter(tmp_path / "health", "mini-1")
    assert read.id == "health"
    assert np.array_equal(read(units(4)), small()(units(4)))
    assert len(list((tmp_path / "health").iterdir())) == 2
    assert json.loads((tmp_path / "health" / "adapter.json").read_text())["trained"] == {"pairs": 3}


def test_an_adapter_of_another_encoder_is_refused(tmp_path: Path):
    small("mini-1").save(tmp_path / "health")
    with pytest.raises(ConfigError, match="trained for encoder mini-1, the vectors are of large-2"):
        load_adapter(tmp_path / "health", "large-2")


def test_damaged_files_are_refused_with_their_names(tmp_path: Path):
    small().save(tmp_path / "health")
    (weights,) = (tmp_path / "health").glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ConfigError, match=r"\.safetensors: expected an adapter's numbers"):
        load_adapter(tmp_path / "health", "mini-1")
    (tmp_path / "health" / "adapter.json").write_text("{")
    with pytest.raises(ConfigError, match="health: expected an adapter made by"):
        load_adapter(tmp_path / "health", "mini-1")


def test_vectors_of_another_width_are_refused():
    with pytest.raises(ConfigError, match=r"expected vectors \(n, 8\)"):
        small()(np.ones((2, 9), np.float32))
