"""One `consilium profile`: name skills, ask, score, keep; then, where that was wanted, the panels of aggregators."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evals.asking import Asking, bar
from evals.journal import Journal, journal
from evals.naming import by_keyphrases, named
from evals.panels import aggregated, panels
from evals.profile import keep, measured, pairs, write
from evals.run import Item, digest_of, drive, first, summary
from evals.sample import Sample
from router.records import Recording
from router.records.rows import Measured
from router.skills import profiles

if TYPE_CHECKING:
    from evals.targets import Target


@dataclass(frozen=True, slots=True)
class Profiling:
    """`folder` holds the journal; rows go to `store`, to `out`, or both. `suite` is as it was typed, `name` the part of
    a row's id. `skills_by` None: keyphrases."""

    asking: Asking
    suite: str
    name: str
    samples: Sequence[Sample]
    folder: Path
    store: Recording | None
    out: Path | None
    skills_by: str | None
    aggregators: bool
    concurrency: int
    quiet: bool

    async def run(self, only: Sequence[str], limit: int | None) -> dict[str, Any]:
        """Profiles the named experts, or all that answer; the summary. Raises ConfigError."""
        header = {"profile": self.suite, "samples": digest_of(self.samples), "judge": self.asking.judge,
                  "fields": self.asking.fields}  # fmt: skip
        models = [*only, *([self.skills_by] if self.skills_by else [])]
        async with self.asking.opened(models) as (aim, router):
            assert router is not None
            experts = list(only or (name for name, one in router.snapshot.registry.experts.items() if not one.rates))
            samples = list(first(self.samples, limit))
            items = pairs(samples, experts)
            with journal(self.folder / f"profile-{self.name}.jsonl", header) as held:
                skills = await self._skills(samples, aim, held)
                try:
                    await self._drive(items, aim, held, "asking")
                finally:
                    rows = measured(items, held, self.name, skills)
                    await self._keep(rows)
                written = write(self.out, rows, router.snapshot.cards) if self.out is not None else None
                found = {**summary(items, held), "outcomes": len(rows), "out": str(written) if written else None}
                if self.aggregators:
                    found |= await self._panels(samples, experts, aim, held)
                return found

    async def _skills(self, samples: Sequence[Sample], aim: Target, held: Journal) -> dict[str, tuple[str, ...]]:
        if self.skills_by is None:
            return dict(await asyncio.to_thread(by_keyphrases, samples))
        with bar(len(samples), quiet=self.quiet, what="naming skills") as step:
            return await named(samples, aim, self.skills_by, held, concurrency=self.concurrency, done=step)

    async def _panels(
        self, samples: Sequence[Sample], experts: Sequence[str], aim: Target, held: Journal
    ) -> dict[str, Any]:
        shown = panels(samples, held, experts, self.name)
        items = pairs(shown, experts)
        try:
            await self._drive(items, aim, held, "aggregating")
        finally:
            rows = aggregated(items, held, self.name)
            await self._keep(rows)
        scores = {name: one.aggregation for name, one in profiles(rows).items()}
        return {"panels": len(shown), "aggregation": scores}

    async def _drive(self, items: Sequence[Item], aim: Target, held: Journal, what: str) -> None:
        with bar(len(items), quiet=self.quiet, what=what) as step:
            await drive(
                items, aim, held, self.asking.scorers(aim), concurrency=self.concurrency, done=lambda _: step()
            )  # fmt: skip

    async def _keep(self, rows: Sequence[Measured]) -> None:
        if self.store is not None:
            records = self.store.open()
            await asyncio.to_thread(keep, rows, records)
            records.close()
