"""Two reports, query by query: is the second better or worse beyond noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from evals.metrics.quality import Versus, means, versus
from experts.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

LEAST_SHARED = 0.5


@dataclass(frozen=True, slots=True)
class Verdict:
    """`before` and `after` are macro qualities on the queries that both reports hold. `cost` is after over before,
    None where either is unknown. Worse: the whole interval of the difference lies below the fall that is let pass."""

    dataset: str
    router: str
    against: str
    shared: int
    only_before: int
    only_after: int
    before: float
    after: float
    versus: Versus
    cost: float | None
    allow: float

    @property
    def call(self) -> Literal["better", "worse", "same"]:
        low, high = self.versus.ci95
        if high < -self.allow:
            return "worse"
        return "better" if low > 0 else "same"

    @property
    def worse(self) -> bool:
        return self.call == "worse"

    def json(self) -> dict[str, Any]:
        return {**asdict(self), "versus": {**asdict(self.versus), "ci95": list(self.versus.ci95)}, "verdict": self.call}


def compare(
    before: Mapping[str, Any], after: Mapping[str, Any], *, router: str = "default", against: str | None = None,
    allow: float = 0.0, resamples: int = 2000, seed: int = 0,
) -> Verdict:  # fmt: skip
    """`router` of `after` against `against` (the same name, unless given) of `before`.

    Raises ConfigError where a report has no such row, or the reports share fewer than half of their queries.
    """
    other = against or router
    old, new = _results(before, other), _results(after, router)
    shared = [key for key in new.scores if key in old.scores]
    if len(shared) < LEAST_SHARED * max(len(new.scores), len(old.scores)) or not shared:
        raise ConfigError(
            f"{before['dataset']} and {after['dataset']}: expected reports on the same queries, found {len(shared)} in "
            f"both of {len(old.scores)} and {len(new.scores)}"
        )
    ours, theirs = np.array([new.scores[key] for key in shared]), np.array([old.scores[key] for key in shared])
    known = np.isfinite(ours) & np.isfinite(theirs)
    ours, theirs = ours[known], theirs[known]
    tasks = [new.tasks[key] for key, keep in zip(shared, known, strict=True) if keep]
    if not tasks:
        raise ConfigError(f"{before['dataset']}: no query has a known score under both {other} and {router}")
    level = means(np.stack([theirs, ours], axis=1), tasks).macro
    return Verdict(
        str(after["dataset"]), router, other, len(shared), len(old.scores) - len(shared), len(new.scores) - len(shared),
        float(level[0]), float(level[1]), versus(ours, theirs, tasks, resamples=resamples, seed=seed),
        _cost_ratio(before, other, after, router), allow,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Results:
    scores: dict[str, float]
    tasks: dict[str, str]


def _results(document: Mapping[str, Any], router: str) -> _Results:
    queries = document["queries"]
    scores = queries["scores"].get(router)
    if scores is None:
        known = ", ".join(queries["scores"])
        raise ConfigError(f"{document['dataset']}: no results of a router {router!r} in the report; there are {known}")
    ids = queries["ids"]
    values: NDArray[np.float64] = np.array([np.nan if score is None else score for score in scores], np.float64)
    return _Results(
        dict(zip(ids, values.tolist(), strict=True)),
        {key: queries["tasks"][code] for key, code in zip(ids, queries["task"], strict=True)},
    )


def _cost_ratio(before: Mapping[str, Any], old: str, after: Mapping[str, Any], new: str) -> float | None:
    def cost(document: Mapping[str, Any], router: str) -> float:
        return next((row["cost"] for row in document["rows"] if row["router"] == router), 0.0)

    if before["cost_unit"] != after["cost_unit"] or not cost(before, old):
        return None
    return cost(after, new) / cost(before, old)


def show(verdict: Verdict, console: Console) -> None:
    """The verdict in two lines."""
    gap = verdict.versus
    low, high = gap.ci95
    colour = {"better": "green", "worse": "red", "same": "yellow"}[verdict.call]
    said = {"better": "better", "worse": "worse", "same": "no difference beyond noise"}[verdict.call]
    names = verdict.router if verdict.router == verdict.against else f"{verdict.router} against {verdict.against}"
    cost = "" if verdict.cost is None else f", cost x{verdict.cost:.2f}"
    console.print(f"[bold {colour}]{said}[/]: {verdict.dataset}, {names}, {verdict.shared:,} queries in both")
    console.print(
        f"quality {100 * verdict.before:.2f} -> {100 * verdict.after:.2f}, difference {100 * gap.difference:+.2f} "
        f"({100 * low:+.2f} to {100 * high:+.2f}), p {gap.p:.3f}, wins/losses {gap.wins}/{gap.losses}{cost}",
        soft_wrap=True,
    )
