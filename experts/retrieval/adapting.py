"""Training of query-side adapters, on sentence-transformers' own trainer, over a frozen encoder.

Queries and passages are embedded once, beforehand; the model that is trained is the map alone, on the query's side of a
`Router`. The loss is MultipleNegativesRankingLoss with mined hard negatives: what is nearest to a query and is not
relevant, less what is about as near as a relevant passage (those are often unjudged answers).

How far the map moves a query is chosen last, on queries that were kept out of training: at strength 0 it moves none, so
that an adapter which learned nothing that carries over changes nothing.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportMissingParameterType=false
# (torch, datasets and sentence-transformers leave parts of their signatures untyped)

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from datasets.utils.logging import disable_progress_bar
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.base.modules import InputModule, Module, Router
from sentence_transformers.base.sampler import BatchSamplers
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from experts.checkpoints import last_checkpoint
from experts.errors import ConfigError
from experts.protocols import Vectors
from experts.retrieval.adapter import Adapter

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
HELD = 0.2
MARGIN = 0.95
"""A hard negative is at most this share as near to the query as its nearest relevant passage."""
STATE = "map.pt"
DEPTH = 10


@dataclass(frozen=True, slots=True)
class Recipe:
    """What fixes a run. `hard`: negatives mined for a pair; `held`: the share of queries that choose the strength."""

    rank: int = 64
    epochs: float = 8.0
    batch: int = 64
    rate: float = 1e-3
    hard: int = 4
    seed: int = 0
    held: float = HELD
    every: int = 100


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """`queries` (n, d), `passages` (m, d), unit rows; `relevant`, `rejected`: positions in `passages` of each query."""

    queries: Vectors
    passages: Vectors
    relevant: Sequence[Sequence[int]]
    rejected: Sequence[Sequence[int]]


class Known(InputModule):
    """Texts are row numbers of a table of vectors that were computed before."""

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__()
        self.table = table

    def preprocess(self, inputs: Any, prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        return {"sentence_embedding": self.table[[int(row) for row in inputs]]}

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return features

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None: ...


class Map(Module):
    """z = q + (q V) U^T + b, that begins as the identity."""

    def __init__(self, dimensions: int, rank: int) -> None:
        super().__init__()
        self.down = torch.nn.Parameter(torch.randn(dimensions, rank) / dimensions**0.5)
        self.up = torch.nn.Parameter(torch.zeros(dimensions, rank))
        self.bias = torch.nn.Parameter(torch.zeros(dimensions))

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        asked = features["sentence_embedding"]
        moved = asked + (asked @ self.down) @ self.up.T + self.bias
        return features | {"sentence_embedding": torch.nn.functional.normalize(moved, dim=1)}

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None: ...


class MapTrainer(SentenceTransformerTrainer):
    """Checkpoints hold the map alone; the vectors are not the model's. No model card is written."""

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None: ...

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        folder = Path(output_dir or str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(_map_of(self.model).state_dict(), folder / STATE)

    def _load_from_checkpoint(self, checkpoint_path: str) -> None:
        _map_of(self.model).load_state_dict(torch.load(Path(checkpoint_path) / STATE, weights_only=True))


def train(
    name: str, encoder: str, lesson: Lesson, recipe: Recipe, *, work: Path | None = None, resume: bool = False,
    callbacks: Sequence[TrainerCallback] = (),
) -> tuple[Adapter, dict[str, float]]:  # fmt: skip
    """The adapter at the strength that is best on held-out queries, and its figures there.

    `work` keeps checkpoints, from which `resume` goes on to the same numbers. Raises ConfigError where `work` holds a
    run and `resume` is not set.
    """
    if work is None:
        with TemporaryDirectory() as folder:
            return train(name, encoder, lesson, recipe, work=Path(folder), callbacks=callbacks)
    last = last_checkpoint(work)
    if last is not None and not resume:
        raise ConfigError(f"{work}: holds a run already; --resume goes on with it, another --out starts afresh")
    held = held_out(len(lesson.queries), recipe)
    taught = np.flatnonzero(~held)
    disable_progress_bar()
    torch.manual_seed(recipe.seed)
    table = torch.from_numpy(np.concatenate([lesson.queries, lesson.passages]))
    learned = Map(lesson.queries.shape[1], recipe.rank)
    known = Known(table)
    model = SentenceTransformer(modules=[Router.for_query_document([known, learned], [known])], device="cpu")
    rows = examples(lesson, taught, recipe.hard)
    sides = dict.fromkeys(rows, "document") | {"anchor": "query"}
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(work), num_train_epochs=recipe.epochs, per_device_train_batch_size=recipe.batch,
        learning_rate=recipe.rate, warmup_steps=0.1, lr_scheduler_type="cosine", weight_decay=0.0, seed=recipe.seed,
        batch_sampler=BatchSamplers.NO_DUPLICATES, router_mapping=sides, save_strategy="steps", save_steps=recipe.every,
        save_total_limit=2, logging_steps=10, report_to=[], disable_tqdm=True, use_cpu=True,
    )  # fmt: skip
    trainer = MapTrainer(
        model=model, args=arguments, train_dataset=Dataset.from_dict(rows), loss=MultipleNegativesRankingLoss(model),
        callbacks=list(callbacks),
    )  # fmt: skip
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    numbers = (weight.detach().numpy().copy() for weight in (learned.down, learned.up, learned.bias))
    whole = Adapter(name, encoder, *numbers)
    scores = {strength: reciprocal_rank(lesson, np.flatnonzero(held), whole.scaled(strength)) for strength in STRENGTHS}
    strength = max(STRENGTHS, key=lambda each: scores[each])
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    figures = {
        "pairs": float(len(rows["anchor"])), "queries": float(len(taught)), "held_queries": float(held.sum()),
        "strength": strength, "held_mrr_before": scores[0.0], "held_mrr": scores[strength],
        "loss": float(losses[-1]) if losses else 0.0,
    }  # fmt: skip
    return whole.scaled(strength), figures


def held_out(count: int, recipe: Recipe) -> NDArray[np.bool_]:
    """Which queries choose the strength: a share drawn by the seed, none where there are too few to spare."""
    chosen = np.zeros(count, bool)
    rng = np.random.default_rng([recipe.seed, 1])
    chosen[rng.permutation(count)[: int(count * recipe.held)]] = True
    return chosen


def examples(lesson: Lesson, queries: Sequence[int] | NDArray[np.int64], hard: int) -> dict[str, list[str]]:
    """Columns `anchor`, `positive`, `negative_1` …: row numbers in the table of queries, then passages."""
    start = len(lesson.queries)
    columns: dict[str, list[str]] = {"anchor": [], "positive": [], **{f"negative_{n + 1}": [] for n in range(hard)}}
    for query in queries:
        cosines = lesson.passages @ lesson.queries[query]
        relevant = list(lesson.relevant[query])
        near = mined(cosines, relevant, lesson.rejected[query], hard)
        for passage in relevant:
            if len(near) < hard:
                continue
            columns["anchor"].append(str(query))
            columns["positive"].append(str(start + passage))
            for number, negative in enumerate(near):
                columns[f"negative_{number + 1}"].append(str(start + negative))
    if not columns["anchor"]:
        raise ConfigError(f"training: expected queries with {hard} passages that are not relevant to them, found none; "
                          "take more passages, or fewer --hard negatives")  # fmt: skip
    return columns


def mined(cosines: NDArray[np.float32], relevant: Sequence[int], rejected: Sequence[int], hard: int) -> list[int]:
    """The nearest passages that are not relevant, those judged so first."""
    scores = cosines.copy()
    scores[list(relevant)] = -np.inf
    limit = MARGIN * max(float(cosines[list(relevant)].max()), 0.0)
    judged = sorted(rejected, key=lambda row: -cosines[row])[:hard]
    scores[scores > limit] = -np.inf
    scores[judged] = -np.inf
    top = np.argsort(-scores, kind="stable")[: hard - len(judged)]
    return [*judged, *(int(row) for row in top if np.isfinite(scores[row]))]


def reciprocal_rank(lesson: Lesson, queries: NDArray[np.int64], adapter: Adapter) -> float:
    """MRR@10 of these queries among the passages; 0 without queries."""
    if not len(queries):
        return 0.0
    total = 0.0
    for query, vector in zip(queries, adapter(lesson.queries[queries]), strict=True):
        cosines = lesson.passages @ vector
        best = float(cosines[list(lesson.relevant[query])].max())
        rank = 1 + int((cosines > best).sum())
        total += 1 / rank if rank <= DEPTH else 0.0
    return total / len(queries)


def _map_of(model: Any) -> Map:
    return next(module for module in model.modules() if isinstance(module, Map))
