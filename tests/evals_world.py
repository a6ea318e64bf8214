"""A small world in which the right router is known: two subjects, told apart by their words, and an expert for each."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from experts.protocols import Vectors

SUBJECTS = {"plants": ("moss", "fern", "oak", "root", "leaf"), "stars": ("comet", "orbit", "nova", "quasar", "moon")}
SKILL = {"botanist": {"plants": 0.9, "stars": 0.2}, "astronomer": {"plants": 0.2, "stars": 0.9},
         "generalist": {"plants": 0.6, "stars": 0.6}}  # fmt: skip


class Words:
    """An encoder that hashes words into 64 directions."""

    fingerprint = "words-64"
    dimensions = 64

    def encode(self, texts: Sequence[str]) -> Vectors:
        out = np.zeros((len(texts), self.dimensions), np.float32)
        for row, text in enumerate(texts):
            for word in text.split():
                out[row, hashlib.blake2b(word.encode(), digest_size=2).digest()[0] % 64] += 1
        return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-6)


def world(n: int = 300, seed: int = 0) -> list[dict[str, Any]]:
    """Rows in the project's format; splits 60/20/20 in turn."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for number in range(n):
        subject = ("plants", "stars")[number % 2]
        words = rng.choice(SUBJECTS[subject], size=4)
        rows.append({
            "id": f"q{number}", "task": subject, "split": ("train", "train", "train", "validation", "test")[number % 5],
            "prompt": f"Tell me of the {' and the '.join(words)} {number}",
            "scores": {name: float(rng.random() < skill[subject]) for name, skill in SKILL.items()},
            "tokens": {name: 100 + 10 * place for place, name in enumerate(SKILL)},
        })  # fmt: skip
    return rows


MODELS = {"botanist": {"usd_per_million": {"input": 1, "output": 2}},
          "astronomer": {"usd_per_million": {"input": 1, "output": 2}},
          "generalist": {"usd_per_million": {"input": 5, "output": 10}}}  # fmt: skip


def write_world(folder: Path, rows: list[dict[str, Any]] | None = None, models: dict[str, Any] | None = None) -> Path:
    """`outcomes.jsonl.gz` and `models.json` in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = b"".join(orjson.dumps(row) + b"\n" for row in (world() if rows is None else rows))
    (folder / "outcomes.jsonl.gz").write_bytes(gzip.compress(lines))
    (folder / "models.json").write_bytes(orjson.dumps(MODELS if models is None else models))
    return folder
