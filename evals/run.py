"""Asking a suite: concurrently, resumably, each answer scored as it comes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
import orjson

from evals.journal import Journal, Key, Scored
from evals.sample import Checks, Said, Sample, Scorer, ScorerParts
from evals.scorers import open_scorer
from evals.targets import Target, asked
from experts.errors import ConfigError, ConsiliumError

RESAMPLES = 2_000


class Item(NamedTuple):
    """One sample to ask of one model."""

    sample: Sample
    model: str

    @property
    def key(self) -> Key:
        return self.sample.id, self.model


@dataclass(slots=True)
class Scorers:
    """Scorers by name and options, opened once each."""

    parts: ScorerParts
    _open: dict[tuple[str, bytes], Scorer] = field(default_factory=dict[tuple[str, bytes], Scorer])

    def of(self, sample: Sample) -> Scorer:
        """Raises ConfigError, see `open_scorer`."""
        key = sample.scorer, orjson.dumps(dict(sample.options), option=orjson.OPT_SORT_KEYS)
        if key not in self._open:
            self._open[key] = open_scorer(sample.scorer, sample.options, self.parts)
        return self._open[key]


def digest_of(samples: Sequence[Sample]) -> str:
    """Changes when a sample does: what its turns, reference or scorer are."""
    digest = blake2b(digest_size=8)
    for one in samples:
        turns = [dict(turn) for turn in one.turns]
        told = [one.id, turns, one.follow_ups, one.scorer, dict(one.options), one.reference]
        digest.update(orjson.dumps(told, option=orjson.OPT_SORT_KEYS))
    return digest.hexdigest()


async def drive(
    items: Sequence[Item], target: Target, journal: Journal, scorers: Scorers, *, concurrency: int,
    done: Callable[[Item], None],
) -> None:  # fmt: skip
    """Asks what has no answer, scores what has no score; `done` is told of each item, those of earlier runs too.

    An item that fails is journalled and counted; it stops no other. Raises ConfigError, before anybody is asked, where
    a scorer cannot be opened or a reference is not what it wants.
    """
    for item in items:
        scorer = scorers.of(item.sample)
        if isinstance(scorer, Checks):
            try:
                scorer.check(item.sample)
            except ValueError as fault:
                raise ConfigError(str(fault)) from fault
    waiting = iter(items)

    async def work() -> None:
        for item in waiting:
            try:
                await _one(item, target, journal, scorers)
            except ConsiliumError as fault:
                journal.failed(item.key, fault.message)
            done(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(concurrency, len(items))):
            group.create_task(work())


async def _one(item: Item, target: Target, journal: Journal, scorers: Scorers) -> None:
    key = item.key
    answer = journal.answers.get(key)
    if answer is None:
        answer = await asked(target, item.model, item.sample)
        journal.answered(answer)
    if key not in journal.scores:
        try:
            score = await scorers.of(item.sample).score(item.sample, Said(answer.text, answer.earlier))
        except ValueError as fault:
            raise ConfigError(str(fault)) from fault
        journal.scored(key, Scored(score.value, score.note))


def summary(items: Sequence[Item], journal: Journal, seed: int = 0) -> dict[str, Any]:
    """What a run found. Samples that nobody answered count as wrong; `score` has a bootstrap 95 % interval."""
    values = np.array([journal.scores[i.key].value if i.key in journal.scores else 0.0 for i in items], np.float64)
    answers = [journal.answers[item.key] for item in items if item.key in journal.answers]
    late = np.array([answer.latency_ms for answer in answers])
    costs = [answer.cost_usd for answer in answers]

    def who(item: Item) -> str:
        answer = journal.answers.get(item.key)
        return answer.expert if answer else ""

    failed = [item for item in items if item.key not in journal.scores]
    return {
        "n": len(items), "scored": len(items) - len(failed), "errors": len(failed),
        "score": _rounded(values.mean()) if len(values) else None, "ci95": _interval(values, seed),
        "tasks": _by(items, values, lambda item: item.sample.task),
        "experts": dict(Counter(answer.expert for answer in answers).most_common()),
        "expert_scores": _by(items, values, who),
        "prompt_tokens": sum(answer.prompt_tokens for answer in answers),
        "completion_tokens": sum(answer.completion_tokens for answer in answers),
        "cost_usd": None if None in costs else round(sum(cost for cost in costs if cost is not None), 9),
        "latency_ms": {"p50": _rounded(np.median(late)), "p95": _rounded(np.quantile(late, 0.95))} if answers else None,
        "first_errors": [journal.errors[item.key] for item in failed if item.key in journal.errors][:3],
    }  # fmt: skip


def _by(items: Sequence[Item], values: Any, name: Callable[[Item], str]) -> Mapping[str, dict[str, Any]]:
    rows: dict[str, list[float]] = {}
    for item, value in zip(items, values.tolist(), strict=True):
        rows.setdefault(name(item), []).append(value)
    return {key: {"n": len(own), "score": _rounded(np.mean(own))} for key, own in rows.items() if key}


def _interval(values: Any, seed: int) -> list[float] | None:
    if not len(values):
        return None
    random = np.random.default_rng(seed)
    means = [values[random.integers(0, len(values), len(values))].mean() for _ in range(RESAMPLES)]
    return [_rounded(bound) for bound in np.quantile(means, (0.025, 0.975))]


def _rounded(value: Any) -> float:
    return round(float(value), 4)


def first(samples: Sequence[Sample], limit: int | None) -> Iterator[Sample]:
    """The first `limit` samples, taken from all tasks in turn, so that a short run sees every task."""
    if limit is None or limit >= len(samples):
        yield from samples
        return
    by_task: dict[str, list[Sample]] = {}
    for sample in samples:
        by_task.setdefault(sample.task, []).append(sample)
    taken, depth = 0, 0
    while taken < limit:
        for own in by_task.values():
            if depth < len(own) and taken < limit:
                yield own[depth]
                taken += 1
        depth += 1
