"""Outcome sets: measured facts from any published file shape, with what a call cost, ready to be replayed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from evals.outcomes.formats import read
from evals.outcomes.loaded import Loaded, Model
from experts.errors import ConfigError
from experts.language import Card, Price
from router.outcomes import CHARS_PER_TOKEN, BadRow, Outcomes, rows_to_outcomes
from router.plan import Matrix
from router.situation import TOKENS_WHEN_UNKNOWN

CostUnit = Literal["usd", "parameter-tokens", "tokens", "none"]


@dataclass(frozen=True, slots=True)
class OutcomeSet:
    """Outcomes with a card for every expert and what every call cost.

    `cards` follow `outcomes.experts`. `cost` (n, e) is in `cost_unit`: USD where there are prices (or measured costs)
    for everyone; else billions of parameters times millions of tokens; else tokens; else nothing is known, all zeros.
    `bad` holds the rows that are no outcomes: they are counted and named, and not in `outcomes`.
    """

    name: str
    outcomes: Outcomes
    cards: tuple[Card, ...]
    cost: Matrix
    cost_unit: CostUnit
    bad: tuple[BadRow, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.outcomes)

    def take(self, rows: Sequence[int] | np.ndarray) -> OutcomeSet:
        return replace(self, outcomes=self.outcomes.take(rows), cost=self.cost[np.asarray(rows, np.int64)])

    def of_split(self, *splits: str) -> OutcomeSet:
        """Only the rows of these splits. Raises ConfigError that names the splits there are, where none is left."""
        kept = [row for row, split in enumerate(self.outcomes.splits) if split in splits]
        if not kept:
            there = ", ".join(sorted(set(self.outcomes.splits))) or "none"
            raise ConfigError(f"{self.name}: no rows of split {' or '.join(splits)}; the splits are {there}")
        return self.take(kept)


def open_outcomes(path: Path, shape: str = "auto") -> OutcomeSet:
    """An outcome set from a file or folder. `shape`: one of `formats.names()`, or `auto` to recognise it.

    Rows without a split are split 60/20/20 (train, validation, test) by a hash of their id.
    Raises ConfigError where nothing can be read.
    """
    loaded = read(path, shape)
    if not loaded.rows:
        why = f"; the first of {len(loaded.bad)} bad rows: {loaded.bad[0]}" if loaded.bad else ""
        raise ConfigError(f"{path}: no outcomes in it{why}")
    name = path.resolve().name.split(".")[0]
    if name == "outcomes":
        name = path.resolve().parent.name
    return assemble(name, loaded)


def assemble(name: str, loaded: Loaded) -> OutcomeSet:
    """The table, its cards and its costs."""
    notes = list(loaded.notes)
    outcomes = rows_to_outcomes(loaded.rows)
    models = [loaded.models.get(expert, Model()) for expert in outcomes.experts]
    unit = _unit(outcomes, models)
    cards = tuple(_card(expert, model, unit) for expert, model in zip(outcomes.experts, models, strict=True))
    if unit != "usd" and any(model.price for model in models):
        without = ", ".join(name for name, model in zip(outcomes.experts, models, strict=True) if not model.price)
        notes.append(f"no cost in USD: no price is known for {without}")
    return OutcomeSet(name, outcomes, cards, _cost(outcomes, cards, unit), unit, tuple(loaded.bad), tuple(notes))


def _unit(outcomes: Outcomes, models: Sequence[Model]) -> CostUnit:
    measured = np.isfinite(outcomes.cost_usd).any(0)
    if all(model.price is not None or known for model, known in zip(models, measured, strict=True)):  # pyright: ignore[reportArgumentType, reportUnknownArgumentType, reportUnknownMemberType, reportUnknownVariableType]
        return "usd"
    if all(model.params_b is not None for model in models):
        return "parameter-tokens"
    return "tokens" if np.isfinite(outcomes.tokens).any(0).all() else "none"


def _card(name: str, model: Model, unit: CostUnit) -> Card:
    """A card whose price is in the set's cost unit. Where no price is known it is 0, as for a gateway that knows none:
    a decision never weighs what it was not told."""
    price = model.price or Price()
    if unit == "parameter-tokens" and model.params_b is not None:
        price = Price(model.params_b, model.params_b)
    return Card(name, model.description, model.skills, price=price, parameters_b=model.params_b)


def _cost(outcomes: Outcomes, cards: Sequence[Card], unit: CostUnit) -> Matrix:
    """What each call cost, (n, e). Tokens that were not recorded count as the expert's mean, or the router's guess."""
    if unit == "none":
        return np.zeros(outcomes.scores.shape, np.float32)
    known = np.isfinite(outcomes.tokens)
    mean = np.where(known, outcomes.tokens, 0).sum(0) / np.maximum(known.sum(0), 1)
    mean = np.where(known.any(0), mean, TOKENS_WHEN_UNKNOWN)
    output = np.where(known, outcomes.tokens, mean)
    prompt = np.array([len(text) / CHARS_PER_TOKEN for text in outcomes.texts], np.float32)[:, None]
    if unit == "tokens":
        return (prompt + output).astype(np.float32)
    price_in = np.array([card.price.input for card in cards], np.float32)
    price_out = np.array([card.price.output for card in cards], np.float32)
    computed = (prompt * price_in + output * price_out) / 1e6
    if unit == "usd":
        return np.where(np.isfinite(outcomes.cost_usd), outcomes.cost_usd, computed).astype(np.float32)
    return computed.astype(np.float32)
