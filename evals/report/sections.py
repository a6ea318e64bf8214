"""The rest of `report.json`: curves, strong-weak pairs, who gets which task, and every query's result."""

from __future__ import annotations

from typing import Any

import numpy as np

from evals.metrics.curves import Point, aiq, hull, lambdas
from evals.metrics.pairs import pair
from evals.metrics.quality import groups, means
from evals.replay import decisions
from evals.routers import BEST_SINGLE, DEFAULT, Replayed
from evals.routing import Replay
from router.plan import Matrix
from router.policies import open_policy
from router.protocols import Situation
from router.situation import situation


def curves(replay: Replay) -> dict[str, Any]:
    """Quality against cost as the price of cost (`lambda`) rises, for the default's estimates under `balanced`; the
    experts' own points, and AIQ of both over the experts' span of costs. Empty where no cost is known."""
    usual, test = replay.router(DEFAULT), replay.test
    if usual.decisions is None or test.cost_unit == "none" or not any(card.price.output for card in test.cards):
        return {}
    state = _situation(replay)
    points: list[dict[str, float]] = []
    for price in lambdas():
        policy = open_policy("balanced", {"lambda": float(price)})
        done = decisions(usual.decisions.estimates, policy.decide(usual.decisions.estimates, state))
        level = means(test.outcomes.scores[np.arange(len(test)), done.seats][:, None], test.outcomes.tasks)
        points.append({
            "lambda": float(price), "cost": float(done.cost(test.cost).mean()),
            "quality_macro": float(level.macro[0]), "quality_micro": float(level.micro[0]),
        })  # fmt: skip
    level = means(test.outcomes.scores, test.outcomes.tasks)
    cost = test.cost.mean(0, dtype=np.float64)
    singles = [
        {"expert": name, "cost": float(cost[column]), "quality_macro": float(level.macro[column])}
        for column, name in enumerate(test.outcomes.experts)
    ]  # fmt: skip
    ours = [Point(each["cost"], each["quality_macro"]) for each in points]
    theirs = [Point(float(cost[i]), float(level.macro[i])) for i in range(len(singles)) if np.isfinite(level.macro[i])]
    low, high = float(cost.min()), float(cost.max())
    return {
        "default": points, "experts": singles, "zero_router": [each._asdict() for each in hull(theirs)],
        "aiq": {"default": aiq(ours, low, high), "zero_router": aiq(theirs, low, high), "span": [low, high]},
    }  # fmt: skip


def _situation(replay: Replay) -> Situation:
    usual, test = replay.router(DEFAULT), replay.test
    assert usual.decisions is not None
    n, experts = test.outcomes.scores.shape
    prompt: Matrix = np.array([len(text) / 4.0 for text in replay.queries.texts], np.float32)
    return situation(
        test.cards, usual.decisions.estimates, prompt=prompt, limit=np.full(n, np.nan, np.float32),  # pyright: ignore[reportUnknownArgumentType]
        load=np.zeros(experts, np.float32), allowed=np.ones((n, experts), np.bool_),  # pyright: ignore[reportUnknownArgumentType]
    )  # fmt: skip


def apgr(replay: Replay) -> dict[str, Any] | None:
    """RouteLLM's metrics for each task, where there are two experts: ranked by the default's estimated gain of the
    expert that is stronger on the fit split. None where there are more experts, or fewer."""
    usual, test = replay.router(DEFAULT), replay.test
    if len(test.outcomes.experts) != 2 or usual.decisions is None:
        return None
    level = means(replay.fitted_on.outcomes.scores, replay.fitted_on.outcomes.tasks).macro
    strong = int(np.argmax(level))
    weak = 1 - strong
    quality = usual.decisions.estimates.quality
    gain = quality[:, strong] - quality[:, weak]
    found: dict[str, Any] = {}
    for rows in groups(test.outcomes.tasks):
        scores = test.outcomes.scores[rows]
        result = pair(
            gain[rows], scores[:, strong], scores[:, weak], resamples=replay.settings.resamples,
            seed=replay.settings.seed,
        )  # fmt: skip
        task = test.outcomes.tasks[rows[0]]  # pyright: ignore[reportUnknownVariableType]
        if result is not None:
            found[task] = {
                "n": result.n, "apgr": result.apgr, "ci95": list(result.ci95), "apgr_10": result.apgr_10,
                "cpt50": result.cpt50, "cpt80": result.cpt80, "weak": result.weak_quality,
                "strong": result.strong_quality, "curve": list(result.curve),
            }  # fmt: skip
    return {"strong": test.outcomes.experts[strong], "weak": test.outcomes.experts[weak], "random": 0.5, "tasks": found}


def assignments(replay: Replay) -> list[dict[str, Any]]:
    """For each task: how many test queries, whom the default asked and how often, and how it fared."""
    usual, best, test = replay.router(DEFAULT), replay.router(BEST_SINGLE), replay.test
    out: list[dict[str, Any]] = []
    for rows in groups(test.outcomes.tasks):
        shares = np.bincount(_seats(usual)[rows], minlength=len(test.outcomes.experts)) / len(rows)
        scores = means(test.outcomes.scores[rows], [""] * len(rows)).micro
        first = int(np.nanargmax(scores))
        out.append({
            "task": test.outcomes.tasks[rows[0]], "n": len(rows), "quality": _mean(usual.quality[rows]),
            "best_single": _mean(best.quality[rows]), "oracle": _mean(np.nanmax(test.outcomes.scores[rows], axis=1)),
            "best_expert": test.outcomes.experts[first], "best_expert_quality": float(scores[first]),
            "shares": {test.outcomes.experts[i]: round(float(shares[i]), 4) for i in np.argsort(-shares) if shares[i]},
        })  # fmt: skip
    return out


def per_query(replay: Replay) -> dict[str, Any]:
    """Every test query's result under the best single expert and the learned routers: what `compare` pairs up."""
    test = replay.test
    names = {name: code for code, name in enumerate(sorted(set(test.outcomes.tasks)))}
    kept = [
        router for router in replay.routers if router.name == BEST_SINGLE or router.kind in ("estimator", "default")
    ]
    usual = replay.router(DEFAULT)
    return {
        "ids": list(test.outcomes.ids), "tasks": list(names), "task": [names[task] for task in test.outcomes.tasks],
        "scores": {router.name: [_short(value) for value in router.quality] for router in kept},
        "cost": {router.name: [float(f"{value:.6g}") for value in router.cost] for router in kept
                 if router.name in (BEST_SINGLE, DEFAULT)},
        "seats": {DEFAULT: _seats(usual).tolist()},
    }  # fmt: skip


def _seats(router: Replayed) -> np.ndarray:
    assert router.seats is not None
    return router.seats


def _short(value: float) -> float | int | None:
    """Four decimals; 0 and 1 as integers, unknown as None: a report stays small."""
    if np.isnan(value):
        return None
    rounded = round(float(value), 4)
    return int(rounded) if rounded.is_integer() else rounded


def _mean(values: np.ndarray) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None
