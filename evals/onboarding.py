"""What routing is worth when an expert joins with N outcomes, without refitting the others, beside a full refit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from evals.joining import Ground, copied, ground, hiding, of_experts, quality, with_expert
from evals.probes import choose_probes
from evals.replay import FittedRoute, fit
from evals.routing import Progress, Settings
from registry.route import Plugged

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True, slots=True)
class Step:
    """With `n` outcomes of the newcomer: macro quality after adding it (chosen probes, random ones), and after
    refitting everybody on the same outcomes; the share of test queries that it is given; seconds of both ways."""

    n: int
    added: float
    added_random: float
    refitted: float
    share: float
    add_s: float
    refit_s: float


@dataclass(frozen=True, slots=True)
class Curve:
    """`without`: quality before the newcomer; `full`: all experts fitted on all outcomes."""

    dataset: str
    newcomer: str
    estimator: str
    without: float
    full: float
    available: int
    steps: tuple[Step, ...]

    def json(self) -> dict[str, Any]:
        return asdict(self)


def onboard(
    settings: Settings, estimator: Plugged, policy: Plugged, newcomer: str | None, counts: Sequence[int],
    progress: Progress | None = None,
) -> Curve:  # fmt: skip
    """Raises ConfigError where the outcomes do not allow it."""
    progress = progress or Progress()
    place = ground(settings, newcomer, progress)
    others = [name for name in place.fitted_on.outcomes.experts if name != place.newcomer]
    order = [*others, place.newcomer]
    train, test = of_experts(place.fitted_on, order), of_experts(place.test, order)
    progress.step(f"fitting without {place.newcomer}")
    base = fit(of_experts(train, others), estimator, policy, encoder=place.encoder, seed=settings.seed)
    progress.step("fitting with everybody")
    whole = fit(train, estimator, policy, encoder=place.encoder, seed=settings.seed)
    measured = np.flatnonzero(np.isfinite(train.outcomes.scores[:, -1]))
    vectors = train.outcomes.vectors
    assert vectors is not None
    most = min(max(counts, default=0), len(measured))
    probes = measured[choose_probes(train.outcomes.scores[measured, :-1], vectors[measured], most)]
    drawn = np.random.default_rng(settings.seed).permutation(measured)[:most]
    steps: list[Step] = []
    for n in sorted({min(count, most) for count in counts}):
        progress.step(f"adding {place.newcomer} with {n} outcomes")
        steps.append(_step(place, base, estimator, policy, settings.seed, train, test, probes[:n], drawn[:n]))
    return Curve(
        train.name, place.newcomer, estimator.name, quality(base.decide(place.queries), test),
        quality(whole.decide(place.queries), test), len(measured), tuple(steps),
    )  # fmt: skip


def _step(
    place: Ground, base: FittedRoute, plug: Plugged, policy: Plugged, seed: int, train: Any, test: Any,
    probes: np.ndarray, drawn: np.ndarray,
) -> Step:  # fmt: skip
    results: list[tuple[float, float, float]] = []
    for rows in (probes, drawn):
        grown = copied(base, plug, place.encoder, seed)
        start = perf_counter()
        grown.add(train.cards[-1], train.outcomes.take(rows))
        took = perf_counter() - start
        done = with_expert(base, grown, train.cards[-1]).decide(place.queries)
        results.append((quality(done, test), float((done.seats == len(train.cards) - 1).mean()), took))
    again = fit(hiding(train, len(train.cards) - 1, probes), plug, policy, encoder=place.encoder, seed=seed)
    refitted = quality(again.decide(place.queries), test)
    (added, share, took), (by_chance, _, _) = results
    return Step(len(probes), added, by_chance, refitted, share, took, again.fit_s)


def show(curve: Curve, console: Console) -> None:
    """The curve as a table."""
    from rich.table import Table

    title = f"{curve.dataset}: {curve.newcomer} joins ({curve.estimator}; {curve.available:,} outcomes could be had)"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name in ("outcomes", "added", "added, random", "refitted", "its share", "add s", "refit s"):
        table.add_column(name, justify="right")
    for step in curve.steps:
        table.add_row(
            f"{step.n:,}", f"{100 * step.added:.2f}", f"{100 * step.added_random:.2f}", f"{100 * step.refitted:.2f}",
            f"{100 * step.share:.0f} %", f"{step.add_s:.2f}", f"{step.refit_s:.1f}",
        )  # fmt: skip
    console.print(table)
    console.print(
        f"without it {100 * curve.without:.2f}; with all outcomes of everybody {100 * curve.full:.2f}", style="dim"
    )
