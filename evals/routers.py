"""Every router that a report compares: the baselines that hurt, each estimator alone, and the default."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from evals.metrics.quality import groups, means
from evals.outcomes import OutcomeSet
from evals.replay import Decisions, FittedRoute, default_of, fit
from experts.errors import ConfigError
from experts.protocols import Encoder
from registry.route import Plugged
from router.plan import Matrix, Queries

Kind = Literal["baseline", "single", "oracle", "estimator", "default"]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DEFAULT, BEST_SINGLE, QUERY_ORACLE = "default", "best-single", "query-oracle"


@dataclass(frozen=True, slots=True)
class Replayed:
    """A router's doings on the test queries. `quality`, `cost`, `calls`: (n,), NaN quality where it is not known.

    `seats` (n,) who answered, None for a mixture. `what` says in words what the router is.
    """

    name: str
    kind: Kind
    what: str
    quality: Floats
    cost: Floats
    calls: Floats
    seats: Ints | None = None
    fitted: FittedRoute | None = None
    decisions: Decisions | None = None


@dataclass(frozen=True, slots=True)
class Skipped:
    name: str
    why: str


def baselines(fit_on: OutcomeSet, test: OutcomeSet) -> list[Replayed]:
    """random, every single expert, best single (on the fit split, in hindsight), task oracles, query oracle."""
    scores = test.outcomes.scores.astype(np.float64)
    n = len(scores)
    names = test.outcomes.experts
    seen = np.isfinite(scores)
    count = np.maximum(seen.sum(1), 1)
    random = np.where(seen.any(1), np.where(seen, scores, 0).sum(1) / count, np.nan)
    out = [Replayed("random", "baseline", "any expert with equal chance (expected value)", random,
                    test.cost.mean(1, dtype=np.float64), np.ones(n))]  # fmt: skip
    for column, name in enumerate(names):
        out.append(_chosen(f"expert:{name}", "single", f"always {name}", test, np.full(n, column)))
    before, after = best_single(fit_on), best_single(test)
    out += [
        _chosen(BEST_SINGLE, "baseline", f"always {names[before]}, the best on the fit split", test,
                np.full(n, before)),
        _chosen("best-single-hindsight", "oracle", f"always {names[after]}, the best on the test split", test,
                np.full(n, after)),
        _chosen("task-oracle", "oracle", "told each query's task: the task's best expert on the fit split", test,
                _by_task(fit_on, test, before)),
        _chosen("task-oracle-hindsight", "oracle", "told each query's task: the task's best expert on the test split",
                test, _by_task(test, test, after)),
        _chosen(QUERY_ORACLE, "oracle", "told every score: the cheapest of each query's best experts", test,
                _by_query(test)),
    ]  # fmt: skip
    return out


def best_single(outcomes: OutcomeSet) -> int:
    """The expert with the highest mean over tasks; of equals the cheaper one.

    Where not everybody was asked everything, the mean less its standard error: few lucky answers prove little.
    """
    scores, tasks = outcomes.outcomes.scores.astype(np.float64), outcomes.outcomes.tasks
    macro = means(scores, tasks).macro
    if not np.isfinite(scores).all():
        macro = macro - _error(scores)
    cost = outcomes.cost.mean(0, dtype=np.float64)
    return int(np.lexsort((cost, -np.round(np.nan_to_num(macro, nan=-1.0), 12)))[0])


def _error(scores: Floats) -> Floats:
    """The standard error of each column's mean, as of right-or-wrong scores, never below that of one doubtful row."""
    count = np.maximum(np.isfinite(scores).sum(0), 1)
    hits = np.where(np.isfinite(scores), scores, 0).sum(0)
    share = (hits + 1) / (count + 2)  # Laplace's rule: one of one right is no certainty
    return np.sqrt(share * (1 - share) / count)


def learned(
    fit_on: OutcomeSet, test: OutcomeSet, queries: Queries, estimators: Sequence[Plugged], policy: Plugged,
    *, encoder: Encoder | None, seed: int, step: Callable[[str], None] = lambda _: None, named: bool = False,
) -> tuple[list[Replayed], list[Skipped]]:  # fmt: skip
    """Each estimator alone under `policy`, then the default estimator under the default policy. An estimator that
    cannot be built or fitted on these outcomes is skipped, and says why; one that was `named` raises ConfigError."""
    out: list[Replayed] = []
    skipped: list[Skipped] = []
    for estimator in estimators:
        step(f"fitting {estimator.name}")
        try:
            fitted = fit(fit_on, estimator, policy, encoder=encoder, seed=seed)
            out.append(
                replayed(_label(estimator), "estimator", f"{estimator.name} with {policy.name}", fitted, test, queries)
            )
        except ConfigError as fault:
            if named:
                raise
            skipped.append(Skipped(_label(estimator), fault.message))
    step("fitting the default")
    usual, ruling = default_of("estimator"), default_of("policy")
    fitted = fit(fit_on, usual, ruling, encoder=encoder, seed=seed)
    out.append(replayed(DEFAULT, "default", f"{usual.name} with {ruling.name}, as a route gets without asking", fitted,
                        test, queries))  # fmt: skip
    return out, skipped


def replayed(name: str, kind: Kind, what: str, fitted: FittedRoute, test: OutcomeSet, queries: Queries) -> Replayed:
    """A fitted route on every query of the test split."""
    done = fitted.decide(queries)
    rows = np.arange(len(done.seats))
    return Replayed(
        name, kind, what, test.outcomes.scores[rows, done.seats].astype(np.float64),
        done.cost(test.cost).astype(np.float64), done.calls().astype(np.float64), done.seats, fitted, done,
    )  # fmt: skip


def _label(estimator: Plugged) -> str:
    options = ",".join(f"{name}={value}" for name, value in estimator.options.items())
    return f"estimator:{estimator.name}" + (f"({options})" if options else "")


def _chosen(name: str, kind: Kind, what: str, test: OutcomeSet, seats: Ints) -> Replayed:
    rows = np.arange(len(seats))
    return Replayed(name, kind, what, test.outcomes.scores[rows, seats].astype(np.float64),
                    test.cost[rows, seats].astype(np.float64), np.ones(len(seats)), seats.astype(np.int64))  # fmt: skip


def _by_task(known: OutcomeSet, test: OutcomeSet, otherwise: int) -> Ints:
    """For every test query the column with the highest mean on its task in `known`; `otherwise` for unseen tasks."""
    best: dict[str, int] = {}
    for rows in groups(known.outcomes.tasks):
        own = known.outcomes.scores[rows].astype(np.float64)
        mean = means(own, [""] * len(rows)).micro
        if not np.isfinite(own).all():
            mean = mean - _error(own)
        if np.isfinite(mean).any():
            best[known.outcomes.tasks[rows[0]]] = int(np.nanargmax(mean))
    return np.array([best.get(task, otherwise) for task in test.outcomes.tasks], np.int64)


def _by_query(test: OutcomeSet) -> Ints:
    scores = np.nan_to_num(test.outcomes.scores.astype(np.float64), nan=-1.0)
    best = scores >= scores.max(1, keepdims=True) - 1e-9
    dearness: Matrix = np.where(best, test.cost, np.float32(np.inf))
    return np.argmin(dearness, axis=1).astype(np.int64)
