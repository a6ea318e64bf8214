"""Router drift: which frozen probe queries change expert when an expert or data come, and whether with reason.

Source of the question: SAME (arXiv 2602.01990). A flip is drift where the estimates after the change promise the new
choice no more than the old one; doubtful where they promise more, but within their uncertainty as the policy weighs it
(`caution`). `margins` says what share of the probes would still flip if a flip were only made for a promise of so much.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from evals.joining import Ground, copied, ground, of_experts, quality, with_expert
from evals.outcomes import OutcomeSet
from evals.replay import Decisions, FittedRoute, fit
from evals.routing import Progress, Settings
from experts.errors import ConfigError
from registry.route import Plugged
from router.plan import Queries
from router.policies.balanced import Options
from router.stability import Incumbent, Steady, unjustified

if TYPE_CHECKING:
    from rich.console import Console

BALANCED = Options()
MARGINS = (0.0, 0.01, 0.02, 0.05, 0.1)


@dataclass(frozen=True, slots=True)
class Drift:
    """Shares are of the probes. `flipped`: the expert changed; `to_newcomer`: to the one that was added;
    `unjustified`: without a predicted gain; `doubtful`: with one within its doubt. `margins`: predicted gain that is
    asked for -> share that still flips. `before` and `after`: measured macro quality. `bounded`: after, under the bound
    that a fit sets itself where `unjustified` is more than the policy's `limit` (see `router.stability`), `left` the
    share without a predicted gain that flips even so; as without it, where no bound is needed."""

    dataset: str
    change: str
    probes: int
    flipped: float
    to_newcomer: float
    unjustified: float
    doubtful: float
    margins: dict[str, float]
    before: float
    after: float
    limit: float
    left: float
    bounded: float

    def json(self) -> dict[str, Any]:
        return asdict(self)


def drift(
    settings: Settings, estimator: Plugged, policy: Plugged, newcomer: str | None, data: bool,
    progress: Progress | None = None,
) -> Drift:  # fmt: skip
    """Adds the newcomer with all its outcomes; or, with `data`, the last fit split to a route fitted on the others.

    Raises ConfigError where the outcomes do not allow it.
    """
    progress = progress or Progress()
    place = ground(settings, newcomer, progress)
    if data:
        return _after_data(settings, estimator, policy, place, progress)
    others = [name for name in place.fitted_on.outcomes.experts if name != place.newcomer]
    order = [*others, place.newcomer]
    train, test = of_experts(place.fitted_on, order), of_experts(place.test, order)
    progress.step(f"fitting without {place.newcomer}")
    base = fit(of_experts(train, others), estimator, policy, encoder=place.encoder, seed=settings.seed)
    before = base.decide(place.queries)
    progress.step(f"adding {place.newcomer}")
    grown = copied(base, estimator, place.encoder, settings.seed)
    grown.add(train.cards[-1], train.outcomes)
    after = with_expert(base, grown, train.cards[-1])
    change = f"{place.newcomer} was added"
    return judge(base, before, after, place.queries, test, change, newcomer=len(others))


def _after_data(settings: Settings, estimator: Plugged, policy: Plugged, place: Ground, progress: Progress) -> Drift:
    if len(settings.fit) < 2:
        raise ConfigError(f"stability of new data: expected two fit splits, the last one new; got {settings.fit[0]}")  # pyright: ignore[reportGeneralTypeIssues]
    old, new = place.fitted_on.of_split(*settings.fit[:-1]), place.fitted_on.of_split(settings.fit[-1])
    progress.step(f"fitting on {', '.join(settings.fit[:-1])}")
    base = fit(old, estimator, policy, encoder=place.encoder, seed=settings.seed)
    before = base.decide(place.queries)
    progress.step(f"adding {settings.fit[-1]}")
    grown = copied(base, estimator, place.encoder, settings.seed)
    grown.update(new.outcomes)
    after = replace(base, route=replace(base.route, estimator=grown))
    return judge(base, before, after, place.queries, place.test, f"{len(new):,} outcomes of {settings.fit[-1]} came")


def judge(
    base: FittedRoute, before: Decisions, changed: FittedRoute, queries: Queries, test: OutcomeSet, change: str, *,
    newcomer: int = -1,
) -> Drift:  # fmt: skip
    """Flips from what `base` decided, `before`, to what the changed route does, judged by the estimates after the
    change. `newcomer` is the column of an added expert."""
    after = changed.decide(queries)
    policy = changed.route.policies[""]
    limit = policy.stability if isinstance(policy, Steady) else 1.0
    found = flips(before, after, test, change, newcomer=newcomer)
    if found.unjustified <= limit or base.route.estimator is None:
        return replace(found, limit=limit)
    incumbent = Incumbent(base.route.estimator, base.route.names)
    held = replace(changed, route=replace(changed.route, incumbent=incumbent)).decide(queries)
    left = unjustified(before.seats, held.seats, held.estimates.quality)
    return replace(found, limit=limit, left=float(left.mean()), bounded=quality(held, test))


def flips(
    before: Decisions, after: Decisions, test: OutcomeSet, change: str, *, newcomer: int = -1,
    caution: float = BALANCED.caution,
) -> Drift:  # fmt: skip
    """Flips between two decisions on the same queries. `caution`: the standard deviations by which a gain must exceed
    its doubt."""
    rows = np.arange(len(test))
    flipped = before.seats != after.seats
    estimated, spread = after.estimates.quality, after.estimates.uncertainty
    gain = estimated[rows, after.seats] - estimated[rows, before.seats]
    doubt = caution * np.hypot(spread[rows, after.seats], spread[rows, before.seats])
    drifted = float(unjustified(before.seats, after.seats, estimated).mean())
    margins = {f"{margin:g}": float((flipped & (gain > margin)).mean()) for margin in MARGINS}
    reached = quality(after, test)
    return Drift(
        test.name, change, len(test), float(flipped.mean()), float((flipped & (after.seats == newcomer)).mean()),
        drifted, float((flipped & (gain > 0) & (gain <= doubt)).mean()), margins, quality(before, test), reached,
        1.0, drifted, reached,
    )  # fmt: skip


def show(found: Drift, console: Console) -> None:
    """What changed, in words."""
    console.print(f"[bold]{found.dataset}[/]: {found.change}; {found.probes:,} frozen probes")
    console.print(f"{100 * found.flipped:.1f} % changed expert, {100 * found.to_newcomer:.1f} % to the newcomer")
    console.print(
        f"[bold]{100 * found.unjustified:.2f} %[/] changed without a predicted gain, another "
        f"{100 * found.doubtful:.2f} % for one within its uncertainty"
    )
    kept = ", ".join(f"{100 * float(margin):g} points: {100 * share:.1f} %" for margin, share in found.margins.items())
    console.print(f"flips that are left where a gain is asked for of more than {kept}", style="dim")
    console.print(f"quality {100 * found.before:.2f} before, {100 * found.after:.2f} after", style="dim")
    console.print(
        f"the policy's bound is {100 * found.limit:g} %: "
        + ("nothing to hold back" if found.unjustified <= found.limit else
           f"held to it, {100 * found.left:.2f} % change without a predicted gain, quality {100 * found.bounded:.2f}")
    )  # fmt: skip
