"""A router in this process: what the gateway, the command line and the evaluation harness all start from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from pydantic import BaseModel

from experts.endpoints import Endpoint, Endpoints
from experts.transport import Transport
from registry.load import Names, Registry, load
from router import composers, estimators, policies
from router.assembly import Assembly
from router.ledger import Ledger
from router.outcomes import Outcomes, read_outcomes
from router.pipeline import Router
from router.plugins import open_module
from router.store import open_store
from router.telemetry import Telemetry

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
) -> AsyncIterator[Router]:  # fmt: skip
    """A router on a registry, closed with everything it opened. Nothing is asked, and no health is probed, before use.

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
    assembly = Assembly(
        transport, endpoints, read_outcomes(outcomes) if isinstance(outcomes, Path) else outcomes, encoder_threads,
        cache_size,
    )  # fmt: skip
    ledger = Ledger(open_store(redis_url))
    try:
        snapshot = await assembly.build(registry)
        router = Router(assembly, snapshot, ledger=ledger, telemetry=telemetry, cache_size=cache_size)
        telemetry.before_scrape(router.measure)
        yield router
    finally:
        await assembly.close()
        await endpoints.close()
        await transport.close()
        await ledger.close()
        log.flush()
