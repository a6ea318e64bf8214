"""Training of a fusion router with transformers' Trainer: the experts are frozen, their log-probabilities cached.

Batches, order and dropout depend on the seed alone, and a checkpoint keeps the state of everything else, so a run that
was killed and goes on ends in the same weights. On one GPU it is the same command.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (torch and transformers leave parts of their signatures untyped)

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler
from transformers import Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from experts.checkpoints import last_checkpoint
from experts.errors import ConfigError
from experts.fusion import losses, members, samples, scores
from experts.fusion.losses import Heard
from experts.fusion.naming import ROUTER
from experts.fusion.progress import Bar
from experts.fusion.samples import Sequenced
from experts.fusion.scores import TOP, Scores

PADDED = 32
"""Sequences are padded to a multiple of this, so that kernels and memory are reused."""
Objective = Literal["fusionroute", "fused"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What fixes a run. `experts`: name to folder, in the order of the routing head's rows. `weight`, `own`, `told`:
    of the routing loss, of the router's own in `fused`, and of what the data name as speakers, 0 to ignore it."""

    router: Path
    experts: dict[str, Path]
    data: Path
    out: Path
    base: Path | None = None
    stage: int = 1
    objective: Objective = "fusionroute"
    weight: float = 1 / 3
    own: float = 0.2
    told: float = 1.0
    beta: float = 0.1
    epochs: float = 1.0
    steps: int = -1
    batch: int = 16
    accumulate: int = 1
    rate: float = 1e-5
    warmup: float = 0.05
    seed: int = 0
    bf16: bool = False
    every: int = 200
    workers: int = 0
    scores: Path | None = None


class Spoken(Dataset[list[int]]):
    """Items are the indices of the sequences that belong together: one in stage 1, chosen and rejected in stage 2."""

    def __init__(self, sequences: Sequence[Sequenced], together: int) -> None:
        self.sequences, self.together = sequences, together

    def __len__(self) -> int:
        return len(self.sequences) // self.together

    def __getitem__(self, index: int) -> list[int]:
        return list(range(index * self.together, (index + 1) * self.together))

    def length(self, index: int) -> int:
        return max(len(self.sequences[row].ids) for row in self[index])


class Alike(Sampler[int]):
    """A seeded order in which each batch has items of about one length; another one in every epoch."""

    def __init__(self, items: Spoken, batch: int, seed: int) -> None:
        self.items, self.batch, self.seed, self.epoch = items, batch, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(len(self.items)).tolist()
        pool = self.batch * 32
        groups: list[list[int]] = []
        for start in range(0, len(order), pool):
            alike = sorted(order[start : start + pool], key=self.items.length)
            groups += [alike[first : first + self.batch] for first in range(0, len(alike), self.batch)]
        short = [group for group in groups if len(group) < self.batch]
        whole = [group for group in groups if len(group) == self.batch]
        for index in rng.permutation(len(whole)).tolist():
            yield from whole[index]
        for group in short:
            yield from group


@dataclass(frozen=True, slots=True)
class Collate:
    """Sequences and their cached scores as padded tensors; padding on the right reaches nothing before it."""

    sequences: Sequence[Sequenced]
    scores: Scores
    pad: int
    closing: torch.Tensor

    def __call__(self, items: Sequence[list[int]]) -> dict[str, torch.Tensor]:
        rows = [index for item in items for index in item]
        width = -(-max(len(self.sequences[index].ids) for index in rows) // PADDED) * PADDED + 1
        count = self.scores.spoken.shape[1]
        ids = np.full((len(rows), width), self.pad, dtype=np.int64)
        mask = np.zeros((len(rows), width - 1), dtype=bool)
        spoken = np.zeros((len(rows), width - 1, count), dtype=np.float16)
        top = np.zeros((len(rows), width - 1, count, TOP), dtype=np.int64)
        liked = np.zeros((len(rows), width - 1, count, TOP), dtype=np.float16)
        named = np.full((len(rows), width - 1), -1, dtype=np.int64)
        closes = np.full((len(rows), width - 1), -1, dtype=np.int64)
        for row, index in enumerate(rows):
            sequence = self.sequences[index]
            ids[row, : len(sequence.ids)] = sequence.ids
            here = slice(sequence.start - 1, len(sequence.ids) - 1)
            there = slice(self.scores.starts[index], self.scores.starts[index + 1])
            mask[row, here] = True
            mask[row, [place - 1 for place in sequence.given]] = False
            spoken[row, here] = self.scores.spoken[there]
            top[row, here] = self.scores.top[there]
            liked[row, here] = self.scores.liked[there]
            for place, expert, close in sequence.stretches():
                named[row, place - 1], closes[row, place - 1] = expert, close
        arrays = {"ids": ids, "mask": mask, "spoken": spoken, "top": top, "liked": liked, "named": named,
                  "closes": closes}  # fmt: skip
        return {name: torch.from_numpy(array) for name, array in arrays.items()} | {"closing": self.closing}


def hear(model: Any, batch: dict[str, torch.Tensor]) -> Heard:
    """The router's logits and routing scores on a batch, beside what the experts said."""
    ids = batch["ids"]
    said = model(input_ids=ids[:, :-1], use_cache=False, output_hidden_states=True)
    head = getattr(model, members.HEAD)
    # A head that is trained in bfloat16 autocast would tie experts that differ by little.
    with torch.autocast(ids.device.type, enabled=False):
        scored = head(said.hidden_states[-1].float())
    return Heard(logits=said.logits, scores=scored, labels=ids[:, 1:],
                 **{name: batch[name] for name in Heard._fields[3:]})  # fmt: skip


class RouterTrainer(Trainer):
    """Trainer with the losses of `losses.py` and what they say about routing in its log."""

    def __init__(self, plan: Plan, **values: Any) -> None:
        super().__init__(**values)
        self.plan = plan
        self._seen: list[torch.Tensor] = []

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        heard = hear(model, inputs)
        plan, extra = self.plan, heard.logits.new_zeros(())
        if plan.stage == 2:
            loss, extra = losses.preference(heard, plan.beta)
        elif plan.objective == "fused":
            loss = losses.fused(heard) + plan.own * losses.next_token(heard) + plan.weight * losses.routing(heard)
        else:
            loss = losses.next_token(heard) + plan.weight * losses.routing(heard)
        if plan.stage == 1:
            loss = loss + plan.told * losses.told(heard)
        routing = losses.watch(heard)
        counts = torch.stack([routing.decided, routing.right, *routing.picked]).double()
        self._seen.append(torch.cat([counts, extra.detach().double()[None], torch.ones(1).to(counts)]))
        return (loss, heard) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if self._seen:
            logs |= watched(torch.stack(self._seen).sum(dim=0).tolist(), [*self.plan.experts, ROUTER], self.plan.stage)
            self._seen.clear()
        super().log(logs, start_time)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        items: Any = train_dataset or self.train_dataset
        return Alike(items, self.args.train_batch_size, self.args.seed)


def watched(sums: Sequence[float], names: Sequence[str], stage: int) -> dict[str, float]:
    """`routing_accuracy`, `entropy` (nats) of who speaks, `share_NAME` of the rows that the head has; in stage 2
    `preferred` as well."""
    decided, right, *picked, preferred, batches = sums
    total = max(1.0, sum(picked))
    shares = [count / total for count in picked]
    said = {"routing_accuracy": right / max(1.0, decided)}
    said["entropy"] = -sum(share * log(share) for share in shares if share > 0) + 0.0
    said |= {f"share_{name}": share for name, share in zip(names, shares, strict=False)}
    return said | ({"preferred": preferred / batches} if stage == 2 else {})


def train(plan: Plan, *, resume: bool, bar: Bar) -> dict[str, float]:
    """Train, and write the router with its head to `plan.out`; returns the last figures. Checkpoints go to `out/work`.

    Raises ConfigError for data or members that do not fit, or a folder that holds another run and `resume` is not set.
    """
    work = plan.out / "work"
    last = last_checkpoint(work)
    if last and not resume:
        raise ConfigError(f"{work}: holds a run already; --resume goes on with it, another --out starts afresh")
    tokenizer = members.tokenizer(plan.router, plan.experts, plan.base)
    rows = samples.read(plan.data, plan.stage)
    if not plan.told:
        rows = [row | {"speakers": []} for row in rows]
    nobody = any(name == ROUTER for row in rows for _, _, name in row.get("speakers") or ())
    model = members.open_router(plan.router, len(plan.experts), plan.base, nobody=nobody)
    longest = int(getattr(model.config.get_text_config(), "max_position_embeddings", 1 << 30))
    sequences = samples.sequences(tokenizer, rows, plan.stage, longest, list(plan.experts))
    closing = samples.closing(sequences, model.get_output_embeddings().weight.shape[0], len(plan.experts))
    values: dict[str, Any] = {"use_cpu": True} if not torch.cuda.is_available() else {}
    arguments = TrainingArguments(
        output_dir=str(work), per_device_train_batch_size=plan.batch, gradient_accumulation_steps=plan.accumulate,
        num_train_epochs=plan.epochs, max_steps=plan.steps, learning_rate=plan.rate, warmup_steps=plan.warmup,
        lr_scheduler_type="cosine", weight_decay=0.0, adam_beta2=0.98, bf16=plan.bf16, seed=plan.seed,
        save_strategy="steps", save_steps=plan.every, save_total_limit=2, logging_steps=10, report_to=[],
        dataloader_num_workers=plan.workers, dataloader_drop_last=True, remove_unused_columns=False,
        disable_tqdm=True, label_names=[], **values,
    )  # fmt: skip
    device = str(arguments.device)
    kept = plan.scores or plan.out / "scores"
    if plan.stage == 1 and plan.objective == "fusionroute" and plan.weight == 0:
        heard = scores.unheard(sequences, len(plan.experts))
    else:
        heard = scores.compute(
            sequences, list(plan.experts.values()), lambda folder: members.load(folder, plan.base), kept,
            device, bar.scored,
        )  # fmt: skip
    if plan.stage == 2:
        getattr(model, members.HEAD).requires_grad_(False)
    trainer = RouterTrainer(
        plan, model=model, args=arguments, train_dataset=Spoken(sequences, len(samples.STAGES[plan.stage])),
        data_collator=Collate(sequences, heard, int(tokenizer.pad_token_id or 0), closing), callbacks=[bar],
    )  # fmt: skip
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    figures = {key: value for entry in trainer.state.log_history for key, value in entry.items()}
    model.config.experts = list(plan.experts)
    model.save_pretrained(str(plan.out))
    tokenizer.save_pretrained(str(plan.out))
    (plan.out / "training.json").write_text(json.dumps(figures, indent=1) + "\n")
    return figures
