"""Where the questions of a command go, and how: in this process on a registry, or to an address."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evals.run import Scorers
    from evals.targets import Target
    from router.config import Config
    from router.pipeline import Router


@dataclass(frozen=True, slots=True)
class Asking:
    """What was said on the command line; a `url` of None means in this process. `fields` go into every request."""

    registry: Path | None
    outcomes: Path | None
    state: Path | None
    config: Path | None
    url: str | None
    key: str | None
    fields: dict[str, Any]
    judge: str | None
    redis_url: str | None = None
    artifact: Path | None = None

    @property
    def settings(self) -> Config:
        from router.config import load_config

        return load_config(
            {"registry": self.registry, "outcomes": self.outcomes, "state": self.state, "redis_url": self.redis_url,
             "artifact": self.artifact}, self.config,
        )  # fmt: skip

    def versions(self) -> dict[str, str]:
        """Of the registry and the fitted routers that answer here; nothing of what answers at an address."""
        if self.url is not None:
            return {}
        from router.artifact import current
        from router.local import load_registry

        settings = self.settings
        fitted = current(settings.artifacts) if settings.artifacts else None
        return {"registry": load_registry(settings.registry).version, "artifact": fitted or ""}

    @asynccontextmanager
    async def opened(self, models: Sequence[str]) -> AsyncIterator[tuple[Target, Router | None]]:
        """The target; and the router, where it is in this process. Raises ConfigError for a model it does not have."""
        from evals.targets import RouterTarget, UrlTarget, check_target

        if self.url is not None:
            import aiohttp

            timeout = aiohttp.ClientTimeout(total=3600, sock_connect=10)
            connector = aiohttp.TCPConnector(limit=0)
            async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
                yield UrlTarget(session, self.url, self.key, self.fields), None
            return
        from router.local import load_registry, open_router
        from router.records import recording
        from router.telemetry import Log, Telemetry

        settings = self.settings
        async with open_router(
            load_registry(settings.registry), outcomes=settings.outcomes, telemetry=Telemetry(Log(level="warning")),
            encoder_threads=settings.encoder_threads, cache_size=settings.cache_size, recording=recording(settings),
            artifact=settings.artifacts,
        ) as router:  # fmt: skip
            for model in [*models, *([self.judge] if self.judge else [])]:
                check_target(model, router)
            yield RouterTarget(router, self.fields), router

    def scorers(self, target: Target) -> Scorers:
        """Scorers whose judge, if one was named, is asked at the same target, without the limits of what is judged."""
        from evals.run import Scorers
        from evals.sample import ScorerParts
        from evals.targets import judge_of

        return Scorers(ScorerParts(judge_of(target.saying({"temperature": 0.0}), self.judge) if self.judge else None))


def request_fields(max_tokens: int | None, temperature: float) -> dict[str, Any]:
    """What every request says beside its model and messages."""
    limit = {} if max_tokens is None else {"max_tokens": max_tokens}
    return {"temperature": temperature, **limit}


@contextmanager
def bar(total: int, *, quiet: bool, what: str = "asking") -> Iterator[Callable[[], None]]:
    """A progress bar on standard error, with what is left; to be called at each step."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from router.cli.output import screen

    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("left"), TimeRemainingColumn(), console=screen(errors=True), disable=quiet,
    ) as progress:  # fmt: skip
        shown = progress.add_task(what, total=total)
        yield lambda: progress.advance(shown)
