"""A router in this process: what the gateway, the command line and the evaluation harness all start from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from pydantic import BaseModel

from experts.endpoints import Endpoint, Endpoints
from experts.errors import ConfigError
from experts.plugins import open_module
from experts.transport import Transport
from registry.load import Names, Registry, load
from router import artifact as artifacts
from router import composers, estimators, policies
from router.assembly import Assembly
from router.ledger import Ledger
from router.outcomes import Outcomes, read_outcomes
from router.pipeline import Router
from router.records import Recording
from router.records.log import DecisionLog
from router.store import open_store
from router.telemetry import Log, Telemetry

_PACKAGES = {"policy": policies, "estimator": estimators, "composer": composers}


def plugin_names() -> Names:
    """The plug-ins that a route may name, and how their options are checked."""
    return Names(policies.names(), estimators.names(), composers.names(), _options)


def _options(slot: str, name: str) -> type[BaseModel] | None:
    package = _PACKAGES[slot]
    if name not in package.names():
        return None
    return open_module(package.__name__, package.__path__, name, slot).Options


def load_registry(path: Path) -> Registry:
    """A registry whose routes name only plug-ins that exist. Raises RegistryError with every problem."""
    return load(path, names=plugin_names())


@asynccontextmanager
async def open_router(
    registry: Registry, *, outcomes: Path | Outcomes | None = None, redis_url: str | None = None,
    telemetry: Telemetry | None = None, encoder_threads: int = 1, cache_size: int = 10_000,
    recording: Recording | None = None, artifact: Path | None = None,
) -> AsyncIterator[Router]:  # fmt: skip
    """A router on a registry, closed with everything it opened. Nothing is asked, and no health is probed, before use.

    `recording`: where its decisions are kept. `artifact`: a folder of fitted routers, whose current one is in force
    from the start and whenever it changes; one that cannot be used is said in the log, and estimators are fitted on
    `outcomes`.

    Raises RegistryError or ConfigError.
    """
    telemetry = telemetry or Telemetry()
    log = telemetry.log

    def changed(endpoint: Endpoint) -> None:
        if endpoint.reachable:
            log.info("endpoint_up", endpoint=endpoint.url)
        else:
            log.warning("endpoint_down", endpoint=endpoint.url, error=endpoint.last_error)

    transport = Transport()
    endpoints = Endpoints(transport, on_change=changed)

    def refused(reason: str) -> None:
        log.error("artifact_refused", reason=reason)

    assembly = Assembly(
        transport, endpoints, read_outcomes(outcomes) if isinstance(outcomes, Path) else outcomes, encoder_threads,
        cache_size, artifact=_current(artifact, log), refused=refused,
    )  # fmt: skip
    decisions = DecisionLog(recording.open(), texts=recording.texts) if recording else None
    ledger = Ledger(open_store(redis_url))
    try:
        snapshot = await assembly.build(registry)
        router = Router(assembly, snapshot, ledger=ledger, telemetry=telemetry, log=decisions, cache_size=cache_size)
        telemetry.before_scrape(router.measure)
        if decisions is not None:
            decisions.start()
        async with _following(artifact, router, log):
            yield router
    finally:
        if decisions is not None:
            await asyncio.to_thread(decisions.close)
        await assembly.close()
        await endpoints.close()
        await transport.close()
        await ledger.close()
        log.flush()


def _current(folder: Path | None, log: Log) -> artifacts.Artifact | None:
    """The fitted router in force; None where none is, or, after a word in the log, where it is broken."""
    version = artifacts.current(folder) if folder is not None else None
    if folder is None or version is None:
        return None
    try:
        return artifacts.read(folder, version)
    except ConfigError as fault:
        log.error("artifact_refused", version=version, reason=fault.message)
        return None


@asynccontextmanager
async def _following(folder: Path | None, router: Router, log: Log) -> AsyncIterator[None]:
    """Each fitted router that comes into force in `folder` is adopted while this is open."""
    if folder is None:
        yield
        return
    held = router.assembly.artifact
    task = asyncio.create_task(
        artifacts.follow(folder, router.adopt_artifact, log, held.version if held else None), name="artifacts"
    )
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
