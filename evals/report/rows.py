"""The headline table: one row a router, with its noise and its standing against the best single expert."""

from __future__ import annotations

from typing import Any

import numpy as np

from evals.metrics.calibration import reliability
from evals.metrics.curves import arena_score
from evals.metrics.quality import bootstrap, interval, means, versus
from evals.routers import BEST_SINGLE, QUERY_ORACLE, Replayed
from evals.routing import Replay


def rows(replay: Replay) -> list[dict[str, Any]]:
    """One row a router, in the order of the replay. `cost` and `calls` are means per query."""
    tasks, settings = replay.test.outcomes.tasks, replay.settings
    table = np.stack([router.quality for router in replay.routers], axis=1)
    level = means(table, tasks)
    draws = bootstrap(table, tasks, resamples=settings.resamples, seed=settings.seed)
    names = [router.name for router in replay.routers]
    floor, roof = level.macro[names.index(BEST_SINGLE)], level.macro[names.index(QUERY_ORACLE)]
    best = replay.router(BEST_SINGLE)
    out: list[dict[str, Any]] = []
    for column, router in enumerate(replay.routers):
        found: dict[str, Any] = {
            "router": router.name, "kind": router.kind, "what": router.what,
            "quality_macro": float(level.macro[column]), "quality_micro": float(level.micro[column]),
            "ci95": list(interval(draws.macro[:, column])), "ci95_micro": list(interval(draws.micro[:, column])),
            "cost": float(router.cost.mean()), "calls": float(router.calls.mean()),
            "oracle_gap_closed": float((level.macro[column] - floor) / (roof - floor)) if roof > floor else None,
            "vs_best_single": _against(router, best, replay),
        }  # fmt: skip
        if (unknown := int(np.isnan(router.quality).sum())) > 0:
            found["unmeasured"] = unknown
        if replay.test.cost_unit == "usd":
            found["arena_score"] = arena_score(float(level.micro[column]), found["cost"] * 1000)
            found["cost_per_1000"] = found["cost"] * 1000
        if router.fitted is not None and router.decisions is not None:
            found["fit_s"] = round(router.fitted.fit_s, 3)
            found["ece"] = reliability(router.decisions.estimates.quality, replay.test.outcomes.scores).ece
        out.append(found)
    return out


def _against(router: Replayed, best: Replayed, replay: Replay) -> dict[str, Any]:
    tasks, settings = replay.test.outcomes.tasks, replay.settings
    found = versus(router.quality, best.quality, tasks, resamples=settings.resamples, seed=settings.seed)
    return {
        "expert": None if best.seats is None else replay.test.outcomes.experts[int(best.seats[0])],
        "difference": found.difference, "ci95": list(found.ci95), "wins": found.wins, "losses": found.losses,
        "ties": found.ties, "p": found.p,
    }  # fmt: skip
