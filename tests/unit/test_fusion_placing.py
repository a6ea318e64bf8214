"""What `consilium up --pocket --fusion` starts, and the checkpoint that it makes first."""

from __future__ import annotations

import os
from pathlib import Path

from typer.testing import CliRunner

from experts.fleet.placement import place
from experts.fusion.checkpoint import read_config
from experts.fusion.marks import MARKS
from experts.pocket.questions import SKILLS
from registry.load import load
from router.cli.app import app
from router.cli.placing import FUSED, fused_checkpoint, pocket_folder, residences


def test_the_fused_model_is_a_second_server_and_is_started_only_where_asked_for(tmp_path: Path) -> None:
    registry = load(pocket_folder() / "registry.yaml", environ={**os.environ, FUSED: str(tmp_path)})
    assert [server.name for server in place(residences(registry))] == ["pocket"]
    both = place(residences(registry, fused=True))
    assert [(server.name, server.port) for server in both] == [("pocket", 8100), ("pocket-fused", 8101)]
    assert (both[1].model, both[1].served_as) == (str(tmp_path), ("pocket-fused",))


def test_the_registry_says_what_the_checkpoint_is(tmp_path: Path) -> None:
    made = fused_checkpoint(tmp_path)
    config = read_config(made)
    assert [member.name for member in config.listed()] == ["router", *SKILLS]
    registry = load(pocket_folder() / "registry.yaml")
    fused = registry.experts["pocket-fused"]
    assert fused.members == tuple(f"pocket-{skill}" for skill in SKILLS)
    assert getattr(fused.options, "marks", None) == config.vocabulary == config.vocab_size - MARKS
    before = (made / "model.safetensors").stat().st_mtime_ns
    assert fused_checkpoint(tmp_path) == made
    assert (made / "model.safetensors").stat().st_mtime_ns == before


def test_fusion_goes_with_pocket() -> None:
    said = CliRunner().invoke(app, ["up", "--fusion", "--registry", "x.yaml"])
    assert said.exit_code != 0
    assert "--fusion goes with --pocket" in said.output + str(said.exception)
