"""The training loop: seeded batches of like length, a cosine schedule, and a checkpoint from which a run goes on.

A run that is killed and resumed sees the same batches with the same weights and optimizer state, hence ends in the
same weights as a run that was not.
"""

# pyright: reportUnknownMemberType=false
# (torch, transformers and peft leave parts of their signatures untyped)

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import cos, pi
from pathlib import Path
from random import Random
from typing import NamedTuple

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from experts.pocket.vocabulary import IDS, PAD, dialogue

log = logging.getLogger("experts.pocket")
POOL = 16
"""Batches drawn together, so that each batch can have examples of nearly one length."""


WIDTH_STEP = 32
"""Batches are padded to a multiple of this, so that kernels and memory are reused and not made for every length."""


class Example(NamedTuple):
    """A question and its worked answer. The loss leaves out the `known` first characters of the answer; `open`: the
    answer goes on, its end is not learned."""

    prompt: str
    worked: str
    known: int = 0
    open: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """What fixes a run: steps, examples a step, peak learning rate, seed, steps between checkpoints."""

    steps: int
    batch: int
    rate: float
    seed: int
    warmup: int = 40
    every: int = 100


class Batch(NamedTuple):
    """Token ids and labels (-100 where no loss), both int64[batch, length]."""

    ids: torch.Tensor
    labels: torch.Tensor


def collate(examples: Sequence[Example]) -> Batch:
    """Pad on the right to the longest; under a causal mask the padding reaches nothing before it."""
    rows: list[tuple[list[int], list[int]]] = []
    for example in examples:
        question, answer = dialogue(example.prompt, example.worked)
        silent = len(question) + example.known
        ids = question + (answer[:-1] if example.open else answer)
        rows.append((ids, [-100] * silent + ids[silent:]))
    width = -(-max(len(ids) for ids, _ in rows) // WIDTH_STEP) * WIDTH_STEP + 1
    ids = torch.tensor([ids + [IDS[PAD]] * (width - len(ids)) for ids, _ in rows])
    labels = torch.tensor([marks + [-100] * (width - len(marks)) for _, marks in rows])
    return Batch(ids, labels)


def pool(draw: Callable[[Random], Example], settings: Settings, index: int) -> list[Batch]:
    """The batches of steps `index * POOL` and following: a function of the seed and the index alone."""
    rng = Random(f"{settings.seed} {index}")
    examples = [draw(rng) for _ in range(settings.batch * POOL)]
    examples.sort(key=lambda example: len(example.prompt) + len(example.worked))
    batches = [collate(examples[start : start + settings.batch]) for start in range(0, len(examples), settings.batch)]
    rng.shuffle(batches)
    return batches


def schedule(step: int, settings: Settings) -> float:
    """The learning rate's factor: linear warm-up, then a cosine down to one percent."""
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    done = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return 0.01 + 0.99 * 0.5 * (1 + cos(pi * done))


def optimizers(model: torch.nn.Module, rate: float, *, muon: bool) -> list[torch.optim.Optimizer]:
    """AdamW; with `muon`, Muon (Jordan 2024, scaled as in arXiv 2502.16982) for the matrices inside the layers."""
    trained = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    matrices = [weight for name, weight in trained if muon and weight.ndim == 2 and ".layers." in name]
    others = [weight for name, weight in trained if not (muon and weight.ndim == 2 and ".layers." in name)]
    chosen: list[torch.optim.Optimizer] = [torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=0.0)]
    if matrices:
        chosen.append(torch.optim.Muon(matrices, lr=1.6 * rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"))
    return chosen


def _save(path: Path, model: torch.nn.Module, engines: list[torch.optim.Optimizer], step: int, spent: float) -> None:
    weights = {name: weight.detach() for name, weight in model.named_parameters() if weight.requires_grad}
    state = {"step": step, "spent": spent, "weights": weights, "engines": [engine.state_dict() for engine in engines]}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def _load(path: Path, model: torch.nn.Module, engines: list[torch.optim.Optimizer]) -> tuple[int, float]:
    state = torch.load(path, weights_only=True, map_location="cpu")
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name in state["weights"]:
                weight.copy_(state["weights"][name])
    for engine, saved in zip(engines, state["engines"], strict=True):
        engine.load_state_dict(saved)
    return int(state["step"]), float(state["spent"])


def _forget_after(step: int, journal: Path) -> None:
    """Takes out of a journal the steps that are about to be done again."""
    lines = journal.read_text().splitlines() if journal.exists() else []
    kept = [line for line in lines if json.loads(line).get("step", 0) <= step]
    journal.write_text("".join(f"{line}\n" for line in kept))


def fit(
    model: torch.nn.Module,
    draw: Callable[[Random], Example],
    settings: Settings,
    *,
    name: str,
    checkpoint: Path,
    resume: bool,
    muon: bool = False,
    progress: Progress | None = None,
) -> float:
    """Train in place; returns the seconds spent. Writes `checkpoint` and, beside it, the loss as JSON lines."""
    engines = optimizers(model, settings.rate, muon=muon)
    peaks = [group["lr"] for engine in engines for group in engine.param_groups]
    start, spent = _load(checkpoint, model, engines) if resume and checkpoint.exists() else (0, 0.0)
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    journal = checkpoint.with_suffix(".log.jsonl")
    if start:
        _forget_after(start, journal)
    else:
        journal.write_text(json.dumps({"name": name, **asdict(settings)}) + "\n")
    shown = progress or bar()
    begun = time.monotonic() - spent
    model.train()
    batches: list[Batch] = []
    with shown if progress is None else _Shown():
        task = shown.add_task(name, total=settings.steps, completed=start, loss="")
        for step in range(start, settings.steps):
            if not batches or step % POOL == 0:
                batches = pool(draw, settings, step // POOL)
            loss = _step(model, engines, peaks, batches[step % POOL], schedule(step, settings))
            shown.update(task, advance=1, loss=f"loss {loss:.4f}")
            if (step + 1) % 10 == 0:
                entry = {"step": step + 1, "loss": round(loss, 5), "seconds": round(time.monotonic() - begun, 1)}
                with journal.open("a") as file:
                    file.write(json.dumps(entry) + "\n")
            if (step + 1) % settings.every == 0 or step + 1 == settings.steps:
                _save(checkpoint, model, engines, step + 1, time.monotonic() - begun)
    spent = time.monotonic() - begun
    log.info("%s: %d steps in %.0f s", name, settings.steps, spent)
    return spent


def _step(
    model: torch.nn.Module, engines: list[torch.optim.Optimizer], peaks: list[float], batch: Batch, factor: float
) -> float:
    groups = [group for engine in engines for group in engine.param_groups]
    for group, peak in zip(groups, peaks, strict=True):
        group["lr"] = peak * factor
    device = next(model.parameters()).device
    ids, labels = batch.ids.to(device), batch.labels.to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=_fast_in_bfloat16(device)):
        logits = model(input_ids=ids[:, :-1], use_cache=False).logits
    loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), labels[:, 1:].flatten())
    loss.backward()
    torch.nn.utils.clip_grad_norm_([weight for weight in model.parameters() if weight.requires_grad], 1.0)
    for engine in engines:
        engine.step()
        engine.zero_grad(set_to_none=True)
    return float(loss.detach())


def _fast_in_bfloat16(device: torch.device) -> bool:
    """Not on a CPU without instructions for it, where float32 takes less than half of the time."""
    return device.type != "cpu" or bool(torch.cpu.get_capabilities().get("avx512_bf16"))


class _Shown:
    """Stands for a progress display that the caller has opened."""

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def bar() -> Progress:
    """Name, bar, steps, loss, time spent and time left."""
    return Progress(
        TextColumn("{task.description:>6}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
