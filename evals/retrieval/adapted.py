"""Query-side adapters in the measurement: one for all domains, one for each corpus, and what they add to routing.

The scores that an adapter gives to queries it was trained on flatter it. So training queries are scored by adapters
that did not see them (cross-fitting), and whether adapters join the router is decided on training queries alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evals.retrieval.scores import Scores
from evals.retrieval.searching import Asked, World
from evals.retrieval.systems import Row, fitted, judged, mean, single
from experts.errors import ConfigError
from experts.retrieval.adapter import Adapter

FOLDS = 3
NAMES = ("one adapter", "adapter of each corpus")
CHOICES: tuple[tuple[int, ...], ...] = ((), (0,), (1,), (0, 1))


@dataclass(frozen=True, slots=True, eq=False)
class Adapters:
    """`one`: of all domains. `own`: of each domain, None where it has too few training queries."""

    one: Adapter | None
    own: tuple[Adapter | None, ...]

    def columns(self, world: World, asked: Asked) -> NDArray[np.float64]:
        """(n, 2): each passage found under the one adapter, and under its corpus's own."""
        found = world.documents[asked.rows]
        every = np.stack([_moved(adapter, asked) for adapter in (self.one, *self.own)])
        scores = found @ every.T
        return np.stack([scores[:, 0], scores[np.arange(len(found)), 1 + asked.found.corpora]], axis=1).astype(float)

    def of_domain(self, world: World, asked: Asked) -> NDArray[np.float64]:
        """(n,): each passage under the adapter of the query's own domain."""
        return (world.documents[asked.rows] @ _moved(self.own[asked.domain], asked)).astype(float)


def trained(world: World, queries: Sequence[Asked], seed: int, step: Callable[[str], None]) -> Adapters:
    step("training adapters: all domains")
    one = _trained("all", world, queries, seed)
    own: list[Adapter | None] = []
    for place, name in enumerate(world.names):
        step(f"training adapters: {name}")
        own.append(_trained(name, world, [asked for asked in queries if asked.domain == place], seed))
    return Adapters(one, tuple(own))


def with_adapters(
    world: World, row: Row, seed: int, step: Callable[[str], None]
) -> tuple[World, list[dict[str, Any]], dict[str, float]]:
    """The world with the adapters' scores that serve the router best on training queries, left-out fold by fold; rows
    of the adapters alone; and the figures of that choice (mean nDCG@10 by which adapters join)."""
    adapters = trained(world, world.training, seed, step)
    folds = np.random.default_rng([seed, 7]).integers(FOLDS, size=len(world.training))
    told = [adapters.columns(world, asked) for asked in world.training]
    for fold in range(FOLDS):
        others = [asked for asked, mine in zip(world.training, folds, strict=True) if mine != fold]
        unseen = trained(world, others, seed, step)
        held: list[int] = np.flatnonzero(folds == fold).tolist()
        for place in held:
            told[place] = unseen.columns(world, world.training[place])
    step("choosing adapters")
    figures: dict[str, float] = {}
    for choice in CHOICES:
        queries = [_wider(asked, columns, choice) for asked, columns in zip(world.training, told, strict=True)]
        scores = np.zeros(len(queries))
        for fold in range(FOLDS):
            ranker = fitted([asked for asked, mine in zip(queries, folds, strict=True) if mine != fold])
            rest: list[int] = np.flatnonzero(folds == fold).tolist()
            scores[rest] = judged(world, [queries[place] for place in rest], ranker.scores).ndcg10
        figures[_said(choice)] = mean(queries, scores)
    chosen = max(CHOICES, key=lambda choice: figures[_said(choice)])
    test = [adapters.columns(world, asked) for asked in world.test]
    made = replace(
        world,
        training=tuple(_wider(a, columns, chosen) for a, columns in zip(world.training, told, strict=True)),
        test=tuple(_wider(a, columns, chosen) for a, columns in zip(world.test, test, strict=True)),
    )
    rows = [
        row(f"dense, {name}", judged(world, [_wider(a, c, (place,)) for a, c in zip(world.test, test, strict=True)],
                                     single(2)))
        for place, name in enumerate(NAMES)
    ]  # fmt: skip
    rows.append(row("dense, told the adapter", _of_their_domains(world, adapters)))
    return made, rows, figures


def _of_their_domains(world: World, adapters: Adapters) -> Scores:
    wider = [
        replace(a, found=replace(a.found, scores=adapters.of_domain(world, a)[:, None])) for a in world.test
    ]  # fmt: skip
    return judged(world, wider, single(0))


def _trained(name: str, world: World, queries: Sequence[Asked], seed: int) -> Adapter | None:
    from experts.retrieval.adapting import Lesson, Recipe, train

    place = {name: row for row, name in enumerate(world.ids)}

    def known(asked: Asked, names: Sequence[str]) -> list[int]:
        return [place[key] for each in names if (key := f"{asked.domain}/{each}") in place]

    kept = [asked for asked in queries if known(asked, list(asked.query.relevant))]
    if len(kept) < 10:
        return None
    lesson = Lesson(
        np.stack([asked.vector for asked in kept]), world.documents,
        [known(asked, list(asked.query.relevant)) for asked in kept],
        [known(asked, sorted(asked.query.rejected)) for asked in kept],
    )  # fmt: skip
    try:
        return train(name, "", lesson, Recipe(seed=seed))[0]
    except ConfigError:
        return None


def _moved(adapter: Adapter | None, asked: Asked) -> NDArray[np.float32]:
    return asked.vector if adapter is None else adapter(asked.vector[None, :])[0]


def _wider(asked: Asked, columns: NDArray[np.float64], chosen: Sequence[int]) -> Asked:
    scores = np.concatenate([asked.found.scores, columns[:, list(chosen)]], axis=1)
    return replace(asked, found=replace(asked.found, scores=scores))


def _said(choice: Sequence[int]) -> str:
    return " and ".join(NAMES[place] for place in choice) or "none"
