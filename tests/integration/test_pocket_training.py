"""A training run that is killed goes on from its last checkpoint, and ends in the same weights as one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any, cast

import torch

from experts.pocket.training import POOL, Batch, Example, Settings, collate, fit
from experts.pocket.vocabulary import END, IDS, encode

SETTINGS = Settings(steps=POOL + 8, batch=2, rate=0.01, seed=7, warmup=4, every=15)
KILLED_IN = POOL + 6
"""After the checkpoint of step 15, in another pool of batches than that, and with step 20 in the journal."""


class Reply:
    def __init__(self, logits: torch.Tensor) -> None:
        self.logits = logits


class Tiny(torch.nn.Module):
    """A language model with all that the loop tells apart: matrices inside layers, and the rest."""

    def __init__(self, killed_in: int = 0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.seen = torch.nn.Embedding(len(IDS), 16)
        self.body = torch.nn.ModuleDict({"layers": torch.nn.ModuleList(torch.nn.Linear(16, 16) for _ in range(2))})
        self.said = torch.nn.Linear(16, len(IDS))
        self.left = killed_in

    def forward(self, input_ids: torch.Tensor, use_cache: bool) -> Reply:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        state: Any = self.seen(input_ids)
        for layer in self.body["layers"]:  # pyright: ignore[reportGeneralTypeIssues]
            state = state + torch.nn.functional.gelu(layer(state))
        return Reply(self.said(state))


def question(rng: Random) -> Example:
    first, second = rng.randrange(100), rng.randrange(100)
    return Example(f"{first} + {second} = ?", str(first + second))


def run(folder: Path, *, resume: bool, killed_in: int = 0) -> Tiny:
    model = Tiny(killed_in)
    fit(model, question, SETTINGS, name="tiny", checkpoint=folder / "tiny.pt", resume=resume, muon=True)
    return model


def steps_of(journal: Path) -> list[int]:
    return [json.loads(line)["step"] for line in journal.read_text().splitlines()[1:]]


def test_a_killed_run_that_goes_on_ends_in_the_same_weights(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    killed = subprocess.run([sys.executable, __file__, str(broken)], check=False, timeout=120, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert torch.load(broken / "tiny.pt", weights_only=True)["step"] == 15
    resumed, uninterrupted = run(broken, resume=True), run(whole, resume=False)
    for (name, found), expected in zip(resumed.named_parameters(), uninterrupted.parameters(), strict=True):
        assert torch.equal(found, expected), name
    assert not torch.equal(resumed.said.weight, Tiny().said.weight)
    assert steps_of(broken / "tiny.log.jsonl") == steps_of(whole / "tiny.log.jsonl") == [10, 20]


def test_without_resume_a_run_begins_again(tmp_path: Path) -> None:
    first = run(tmp_path, resume=False)
    torch.save({"step": 5, "spent": 0.0, "weights": {}, "engines": []}, tmp_path / "tiny.pt")
    again = run(tmp_path, resume=False)
    assert torch.equal(first.said.weight, again.said.weight)
    assert torch.load(tmp_path / "tiny.pt", weights_only=True)["step"] == SETTINGS.steps


def test_a_finished_run_has_nothing_left_to_do(tmp_path: Path) -> None:
    done = run(tmp_path, resume=False)
    stamp = (tmp_path / "tiny.pt").stat().st_mtime_ns
    again = run(tmp_path, resume=True, killed_in=1)
    assert torch.equal(done.said.weight, again.said.weight)
    assert (tmp_path / "tiny.pt").stat().st_mtime_ns == stamp


def test_the_loss_leaves_out_what_is_known_and_the_end_of_what_goes_on() -> None:
    ended, open_ended = (collate([Example("ab?", "cd\nef", 3, open=goes_on)]) for goes_on in (False, True))
    assert learned(ended) == [*encode("ef"), IDS[END]]
    assert learned(open_ended) == encode("ef")
    assert IDS[END] in flat(ended.ids)
    assert IDS[END] not in flat(open_ended.ids)


def flat(table: torch.Tensor) -> list[int]:
    return cast(list[int], table.flatten().tolist())  # pyright: ignore[reportUnknownMemberType]


def learned(batch: Batch) -> list[int]:
    return [label for label in flat(batch.labels) if label != -100]


if __name__ == "__main__":
    run(Path(sys.argv[1]), resume=False, killed_in=KILLED_IN)
