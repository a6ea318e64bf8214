"""`consilium fusion train`, killed and resumed, ends in the weights of a run that was not."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from experts.pocket.questions import questions
from experts.pocket.train import WEIGHTS

pytestmark = [pytest.mark.slow, pytest.mark.integration]


def command(data: Path, out: Path, *more: str) -> list[str]:
    experts = [part for skill in ("calc", "geo") for part in ("--expert", f"{skill}={WEIGHTS / skill}")]
    return [
        sys.executable, "-m", "router.cli", "fusion", "train", "--router", str(WEIGHTS / "base"), *experts, "--base",
        str(WEIGHTS / "base"), "--data", str(data), "--out", str(out), "--steps", "9", "--batch", "2", "--every", "3",
        "--rate", "1e-3", "--threads", "1", *more,
    ]  # fmt: skip


def test_killed_and_resumed_is_as_if_never_killed(tmp_path: Path) -> None:
    data, whole, cut = tmp_path / "data.jsonl", tmp_path / "whole", tmp_path / "cut"
    asked = [one for skill in ("calc", "geo") for one in questions(skill, "train", 5, 1)]
    data.write_text("".join(json.dumps({"prompt": q.prompt, "completion": q.worked}) + "\n" for q in asked))
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(command(data, whole), check=True, **quiet)
    with subprocess.Popen(command(data, cut), **quiet) as running:
        ready = cut / "work" / "checkpoint-3" / "trainer_state.json"
        while not ready.exists() and running.poll() is None:
            time.sleep(0.01)
        os.kill(running.pid, signal.SIGKILL)
    assert not (cut / "model.safetensors").exists()
    refused = subprocess.run(command(data, cut), check=False, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "--resume" in refused.stderr
    subprocess.run(command(data, cut, "--resume"), check=True, **quiet)
    one, other = load_file(whole / "model.safetensors"), load_file(cut / "model.safetensors")
    assert one.keys() == other.keys()
    assert all(bool((one[key] == other[key]).all()) for key in one)
    assert "routing_head.weight" in one
