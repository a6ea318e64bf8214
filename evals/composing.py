"""`consilium eval compose`: compositions replayed on recorded answers, by the code that composes in a gateway.

Votes are `router.voting`'s, choices come from `router.decide.choose` under the policy `worth`, a cascade's verdicts
from `router.confidence.score`. Whoever wins a vote gives its own text, so the winner's measured score is the vote's.
Nothing is read of a test query but its text and, once an expert was asked, what it answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evals.metrics.curves import Point, hull
from evals.metrics.quality import bootstrap, groups, interval, means
from evals.outcomes import OutcomeSet, open_outcomes
from evals.replay import FittedRoute, default_of, fit, queries_of, with_policy
from evals.routers import best_single
from evals.routing import Progress, Settings, embedded_set
from registry.route import Plugged
from router.composing_fit import cascade_order, cascaded, cross_fitted, expected_cost, fit_composing, surety
from router.decide import choose
from router.estimators import open_estimator
from router.outcomes import CHARS_PER_TOKEN, Outcomes
from router.plan import Estimates, Matrix, Queries
from router.protocols import Choice, Estimator, Parts
from router.recorded import Recorded, flaws, read, recorded_texts
from router.voting import Floats, Ints, in_sequence, tally
from router.worth import Composing

POLICIES = (
    "best-single",
    "majority",
    "majority-first",
    "vote",
    "vote-sequential",
    "cascade",
    "route",
    "auto",
    "oracle",
)
PRICES = (0.0, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.3, 0.5, 1.0, 4.0, 100.0)
FIRST = 2
"""Seats that a vote asks at once, as its composer does by default."""


@dataclass(frozen=True, slots=True)
class Doings:
    """What one policy did with the test queries: `winner` (n,) whose answer was given, `asked` (n, e) who was."""

    winner: Ints
    asked: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Compared:
    """Everything that a report says. `curves`: (cost, quality, calls) of settings of one policy; `document` is JSON."""

    document: dict[str, Any]
    doings: dict[str, Doings]
    composing: Composing


@dataclass(frozen=True, slots=True)
class _World:
    """The test split as policies see it, and what was fitted on the other splits."""

    test: OutcomeSet
    recorded: Recorded
    flawed: NDArray[np.bool_]
    queries: Queries
    fitted: FittedRoute
    composing: Composing
    estimates: Estimates
    expected: Floats
    base: Ints
    best: int
    standing: Floats

    @property
    def quality(self) -> Floats:
        return self.estimates.quality.astype(np.float64)


def compose(settings: Settings, progress: Progress | None = None, *, quick: bool = False) -> Compared:
    """Reads, embeds, fits on the fit splits, replays the test split. Raises ConfigError."""
    progress = progress or Progress()
    progress.step("reading outcomes")
    whole = open_outcomes(settings.outcomes, settings.shape)
    texts = recorded_texts(settings.outcomes)
    progress.step("reading recorded answers")
    answers = read(whole.outcomes, texts, quick=quick, progress=progress.embedding, cache=settings.cache)
    embedded = embedded_set(whole, settings, progress)
    rows = np.arange(len(whole))
    on = np.array([split in settings.fit for split in whole.outcomes.splits])
    off = np.array([split in settings.test for split in whole.outcomes.splits])
    known, test = embedded.whole.of_split(*settings.fit), embedded.whole.of_split(*settings.test)
    progress.step("fitting")
    estimator = default_of("estimator")

    def made(outcomes: Outcomes) -> Estimator:
        opened = open_estimator(estimator.name, estimator.options, Parts(embedded.encoder, settings.seed))
        opened.fit(known.cards, outcomes)
        return opened

    composing = fit_composing(
        known.cards, known.outcomes, answers.take(rows[on]), cross_fitted(known.outcomes, made),
        flaws(known.outcomes, texts), seed=settings.seed,
    )  # fmt: skip
    fitted = fit(known, estimator, default_of("policy"), encoder=embedded.encoder, seed=settings.seed)
    fitted = replace(fitted, route=replace(fitted.route, composing=composing))
    queries = queries_of(test.outcomes)
    progress.step("replaying")
    decided = fitted.decide(queries)
    world = _World(
        test, answers.take(rows[off]), flaws(test.outcomes, texts), queries, fitted, composing, decided.estimates,
        expected_cost(test.cards, test.outcomes, decided.estimates), decided.seats, best_single(known),
        np.nan_to_num(means(known.outcomes.scores, known.outcomes.tasks).macro),
    )  # fmt: skip
    doings = {
        "best-single": _single(world, np.full(len(test), world.best)), "majority": _majority(world, _standing(world)),
        "majority-first": _majority(world, -np.arange(len(test.cards), dtype=np.float64)),
        "vote": _voted(world, threshold=1.01), "vote-sequential": _voted(world), "cascade": _cascade(world),
        "route": _single(world, world.base), "auto": _auto(world),
    }  # fmt: skip
    doings["oracle"] = _single(world, np.argmax(np.nan_to_num(test.outcomes.scores, nan=-1.0), axis=1))
    progress.step("judging")
    return Compared(_document(world, settings, doings, quick, bool(texts)), doings, composing)


def _single(world: _World, seats: Ints) -> Doings:
    asked = np.zeros(world.test.outcomes.scores.shape, np.bool_)
    asked[np.arange(len(seats)), seats] = True
    return Doings(seats.astype(np.int64), asked)


def _standing(world: _World) -> Floats:
    """(e,), the best single expert first, then by mean score in training."""
    return world.standing + (np.arange(len(world.standing)) == world.best)


def _majority(world: _World, prefer: Floats) -> Doings:
    """All experts, one vote each; the best single expert where answers cannot be compared. `prefer` (e,): who wins
    among equals, and whose text is given among those who agree."""
    out = _single(world, np.full(len(world.test), world.best))
    even: Floats = np.ones_like(world.recorded.groups, np.float64)
    winner = tally(world.recorded.groups, even, np.broadcast_to(prefer, even.shape)).winner
    use = np.array([bool(kind) for kind in world.recorded.kinds]) & (winner >= 0)
    out.winner[use] = winner[use]
    out.asked[use] = True
    return out


def _voted(world: _World, threshold: float | None = None) -> Doings:
    """A vote of all experts; the route's own choice where answers cannot be compared."""
    out = _single(world, world.base)
    first = out.asked.shape[1] if threshold is not None and threshold > 1 else FIRST
    for kind, rows in _by_kind(world.recorded.kinds):
        done = in_sequence(
            world.recorded.groups[rows], world.quality[rows], world.test.outcomes.experts,
            world.composing.voting.of(kind), threshold=threshold, first=first,
        )  # fmt: skip
        out.winner[rows] = np.where(done.winner >= 0, done.winner, world.base[rows])
        out.asked[rows] = done.asked
    return out


def _by_kind(kinds: Sequence[str]) -> list[tuple[str, Ints]]:
    return [
        (kind, np.array([row for row, each in enumerate(kinds) if each == kind], np.int64))
        for kind in sorted(set(kinds) - {""})
    ]


def _cascade(world: _World, threshold: float | None = None) -> Doings:
    scorer = world.composing.cascade
    if scorer is None:
        return _single(world, world.base)
    turn = cascade_order(world.quality, world.base, world.expected)
    sure = surety(world.quality, world.test.outcomes.tokens, world.flawed, scorer.weights)
    count = cascaded(sure, turn, scorer.threshold if threshold is None else threshold, world.flawed)
    return _in_turn(turn, count, world.quality.shape[1])


def _in_turn(turn: Ints, count: Ints, experts: int) -> Doings:
    asked = np.zeros((len(turn), experts), np.bool_)
    rows = np.arange(len(turn))
    for place in range(turn.shape[1]):
        asked[rows, turn[:, place]] |= count > place
    return Doings(turn[rows, count - 1], asked)


def _auto(world: _World, **options: Any) -> Doings:
    """What the policy `worth` chooses, carried out."""
    route = with_policy(world.fitted, Plugged.model_validate({"name": "worth", **options})).route
    assert route.estimator is not None
    n, e = len(world.test), len(world.test.cards)
    prompt: Matrix = np.array([len(text) / CHARS_PER_TOKEN for text in world.test.outcomes.texts], np.float32)
    chosen = choose(
        route, route.estimator, world.queries,
        prompt=prompt,
        limit=np.full(n, np.nan, np.float32), load=np.zeros(e, np.float32), allowed=np.ones((n, e), np.bool_),
    )  # fmt: skip
    choices: list[Choice] = chosen.choices
    out = _single(world, np.array([choice.seats[0] for choice in choices], np.int64))
    _votes_of(world, choices, out)
    scorer = world.composing.cascade
    rows = [row for row, choice in enumerate(choices) if choice.composer == "cascade"]
    if rows and scorer is not None:
        turn = np.array([choices[row].seats for row in rows], np.int64)
        sure = surety(world.quality[rows], world.test.outcomes.tokens[rows], world.flawed[rows], scorer.weights)
        done = _in_turn(turn, cascaded(sure, turn, scorer.threshold, world.flawed[rows]), e)
        out.winner[rows], out.asked[rows] = done.winner, done.asked
    return out


def _votes_of(world: _World, choices: Sequence[Choice], out: Doings) -> None:
    e = out.asked.shape[1]
    for kind, of_kind in _by_kind(world.recorded.kinds):
        voted = [int(row) for row in of_kind if choices[int(row)].composer == "vote"]
        if not voted:
            continue
        rows, seats = np.array(voted, np.int64), np.zeros((len(voted), e), np.bool_)
        for place, row in enumerate(voted):
            seats[place, list(choices[row].seats)] = True
        done = in_sequence(
            world.recorded.groups[rows], world.quality[rows], world.test.outcomes.experts,
            world.composing.voting.of(kind), first=FIRST, seats=seats,
        )  # fmt: skip
        out.winner[rows] = np.where(done.winner >= 0, done.winner, world.base[rows])
        out.asked[rows] = done.asked


def _document(
    world: _World, settings: Settings, doings: dict[str, Doings], quick: bool, recorded: bool
) -> dict[str, Any]:
    outcomes = world.test.outcomes
    rows: list[dict[str, Any]] = []
    for name in POLICIES:
        rows += _rows(world, name, doings[name], settings)
    curves = {
        "auto": [_point(world, _auto(world, price=price, **{"lambda": price}), price) for price in PRICES],
        "cascade": [_point(world, _cascade(world, at), at) for at in np.linspace(0, 1, 21).round(2).tolist()],
        "vote-sequential": [_point(world, _voted(world, at), at) for at in (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99)],
        "singles": [
            {"expert": name, **_point(world, _single(world, np.full(len(outcomes), column)), column)}
            for column, name in enumerate(outcomes.experts)
        ],
    }  # fmt: skip
    kinds = world.recorded.kinds
    return {
        "dataset": world.test.name, "n": len(outcomes), "experts": list(outcomes.experts), "rows": rows,
        "curves": curves, "dominates": _dominates(curves["auto"], curves["singles"]),
        "cost_unit": world.test.cost_unit, "fit": list(settings.fit), "test": list(settings.test), "quick": quick,
        "best_single": outcomes.experts[world.best], "fitted": world.composing.as_json(),
        "compared": {kind: kinds.count(kind) for kind in sorted(set(kinds) - {""})},
        "self_ablation": {
            "shown": False,
            "why": "one answer of each expert was recorded, so k samples of one expert cannot be set against k experts "
            "here; live, an expert that sits again samples (composer vote on a route of one expert)",
        },
        "notes": ([] if recorded else ["no answers were recorded: nothing could be voted on"])
        + (["quick: no code was run, and expressions were compared as they are spelled"] if quick else []),
    }  # fmt: skip


def _measures(world: _World, done: Doings) -> tuple[Floats, Floats, Floats, Floats]:
    """Quality, calls, tokens and cost of each query, (n,)."""
    outcomes = world.test.outcomes
    quality = outcomes.scores[np.arange(len(outcomes)), done.winner].astype(np.float64)
    prompt = np.array([len(text) / CHARS_PER_TOKEN for text in outcomes.texts])[:, None]
    tokens = np.where(np.isfinite(outcomes.tokens), outcomes.tokens, np.nanmean(outcomes.tokens, 0)[None, :]) + prompt
    return (quality, done.asked.sum(1).astype(np.float64), np.where(done.asked, tokens, 0).sum(1),
            np.where(done.asked, world.test.cost, 0).sum(1, dtype=np.float64))  # fmt: skip


def _rows(world: _World, name: str, done: Doings, settings: Settings) -> list[dict[str, Any]]:
    """One row a task, and their mean."""
    outcomes = world.test.outcomes
    quality, calls, tokens, cost = _measures(world, done)
    table = np.stack([quality, calls, tokens, cost], 1)
    parts: list[tuple[str, Ints]] = [("macro", np.arange(len(outcomes)))]
    parts += [(outcomes.tasks[int(part[0])], part) for part in groups(outcomes.tasks)]
    found: list[dict[str, Any]] = []
    for task, part in parts:
        tasks = [outcomes.tasks[int(row)] for row in part]
        mean = means(table[part], tasks).macro
        draws = bootstrap(quality[part][:, None], tasks, resamples=settings.resamples, seed=settings.seed)
        found.append({
            "policy": name, "task": task, "quality": round(float(mean[0]), 6), "calls": round(float(mean[1]), 4),
            "tokens": round(float(mean[2]), 2), "ci95": [round(end, 6) for end in interval(draws.macro[:, 0])],
            "cost": round(float(mean[3]), 6),
        })  # fmt: skip
    return found


def _point(world: _World, done: Doings, setting: float) -> dict[str, Any]:
    quality, calls, _, cost = means(np.stack(_measures(world, done), 1), world.test.outcomes.tasks).macro.tolist()
    return {"setting": setting, "quality": round(quality, 6), "calls": round(calls, 4), "cost": round(cost, 6)}


def _dominates(curve: Sequence[dict[str, Any]], singles: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Whether at every single expert's cost the curve (its hull: two settings can be mixed) has its quality or more."""
    edge = hull([Point(row["cost"], row["quality"]) for row in curve])
    gaps = {row["expert"]: round(_height(edge, row["cost"]) - row["quality"], 6) for row in singles}
    return {"everywhere": min(gaps.values()) >= 0, "lead": gaps}


def _height(edge: Sequence[Point], cost: float) -> float:
    """The hull at a cost; nothing below its cheapest point, flat beyond its dearest."""
    if cost < edge[0].cost - 1e-9:
        return float("-inf")
    return float(np.interp(cost, [point.cost for point in edge], [point.quality for point in edge]))
