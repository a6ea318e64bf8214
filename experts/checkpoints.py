"""Checkpoints of a training run, as transformers' Trainer writes them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path


def last_checkpoint(work: Path) -> Path | None:
    """The newest checkpoint that is whole; one that a kill left unfinished is removed."""
    found = sorted(work.glob("checkpoint-*"), key=lambda folder: int(folder.name.rpartition("-")[2]), reverse=True)
    for folder in found:
        try:
            json.loads((folder / "trainer_state.json").read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            shutil.rmtree(folder)
            continue
        return folder
    return None
