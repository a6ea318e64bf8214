"""What the frozen experts say about the training data, computed once and kept on disk.

For every answer token and expert: the log-probability of the token (float16), and the expert's `TOP` likeliest tokens
with theirs. Linear in the number of tokens: 2 + 6 `TOP` bytes for a token and an expert, whatever the vocabulary.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (torch and numpy leave parts of their signatures untyped)

import json
from collections.abc import Callable, Sequence
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from experts.fusion.samples import Sequenced

TOP = 8
TOKENS = {"cpu": 16384}
ON_GPU = 131072
"""Padded tokens of a batch, at most, by device."""


class Scores(NamedTuple):
    """All answer tokens in a row, those of sequence s at `starts[s] : starts[s + 1]`.

    `spoken`: float16 (tokens, experts); `top`: int32 and `liked`: float16, both (tokens, experts, TOP),
    likeliest first.
    """

    starts: list[int]
    spoken: Any
    top: Any
    liked: Any


def fingerprint(sequences: Sequence[Sequenced], experts: Sequence[Path]) -> str:
    """Changes with the token ids and with what is in the experts' files: a copy of them has the same."""
    digest = sha256()
    for row in sequences:
        digest.update(np.asarray([row.start, *row.ids], dtype=np.int32).tobytes())
    for folder in experts:
        for file in sorted(file for file in folder.iterdir() if file.is_file()):
            with file.open("rb") as content:
                held = file_digest(content, "sha256").hexdigest()
            digest.update(f"{file.name} {held}".encode())
    return digest.hexdigest()[:16]


def batches(sequences: Sequence[Sequenced], most: int) -> list[list[int]]:
    """Indices of sequences of about one length, no more than `most` tokens with their padding."""
    order = sorted(range(len(sequences)), key=lambda index: (len(sequences[index].ids), index))
    found: list[list[int]] = []
    for index in order:
        if found and (len(found[-1]) + 1) * len(sequences[index].ids) <= most:
            found[-1].append(index)
        else:
            found.append([index])
    return found


def unheard(sequences: Sequence[Sequenced], experts: int) -> Scores:
    """For a router that is trained without hearing the experts: what a silent one says, and nothing on disk."""
    starts = np.cumsum([0, *(row.spoken for row in sequences)]).tolist()
    shape = (starts[-1], experts)
    liked = np.broadcast_to(np.float16(0), (*shape, TOP))
    return Scores(starts, liked[..., 0], np.broadcast_to(np.int32(0), (*shape, TOP)), liked)


def compute(
    sequences: Sequence[Sequenced],
    experts: Sequence[Path],
    load: Callable[[Path], Any],
    folder: Path,
    device: str,
    step: Callable[[int, int], None],
) -> Scores:
    """Open the scores in `folder`, computing what is missing; a killed run goes on at the batch where it was.

    `load` gives an expert's model; one is in memory at a time. `step` is told the batches done and their number.
    """
    starts = np.cumsum([0, *(row.spoken for row in sequences)]).tolist()
    shape = (starts[-1], len(experts))
    at = folder / fingerprint(sequences, experts)
    at.mkdir(parents=True, exist_ok=True)
    journal = at / "done.json"
    mode: Any = "r+" if journal.exists() else "w+"
    spoken = np.memmap(at / "spoken.f16", np.float16, mode, shape=shape)
    top = np.memmap(at / "top.i32", np.int32, mode, shape=(*shape, TOP))
    liked = np.memmap(at / "liked.f16", np.float16, mode, shape=(*shape, TOP))
    groups = batches(sequences, TOKENS.get(device, ON_GPU))
    done = int(json.loads(journal.read_text())["batches"]) if journal.exists() else 0
    for number, expert in enumerate(experts):
        first = max(0, done - number * len(groups))
        if first >= len(groups):
            continue
        model = load(expert).to(device).eval()
        for index in range(first, len(groups)):
            _score(model, sequences, groups[index], starts, number, (spoken, top, liked), device)
            done = number * len(groups) + index + 1
            if index % 16 == 15 or index + 1 == len(groups):
                for array in (spoken, top, liked):
                    array.flush()
                partial = journal.with_suffix(".partial")
                partial.write_text(json.dumps({"batches": done}))
                partial.replace(journal)
            step(done, len(groups) * len(experts))
    return Scores(starts, spoken, top, liked)


@torch.inference_mode()
def _score(
    model: Any,
    sequences: Sequence[Sequenced],
    chosen: list[int],
    starts: list[int],
    expert: int,
    into: Any,
    device: str,
) -> None:
    width = max(len(sequences[index].ids) for index in chosen)
    ids = torch.tensor([sequences[i].ids + [0] * (width - len(sequences[i].ids)) for i in chosen], device=device)
    logprobs = model(input_ids=ids, use_cache=False).logits[:, :-1].float().log_softmax(dim=-1)
    spoken = logprobs.gather(-1, ids[:, 1:, None])[..., 0].half().cpu().numpy()
    liked, top = (found.cpu().numpy() for found in logprobs.topk(TOP, dim=-1))
    for row, index in enumerate(chosen):
        there = slice(starts[index], starts[index + 1])
        here = slice(sequences[index].start - 1, len(sequences[index].ids) - 1)
        into[0][there, expert] = spoken[row, here]
        into[1][there, expert] = top[row, here]
        into[2][there, expert] = liked[row, here]
