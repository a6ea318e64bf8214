"""`consilium check`: would `consilium serve` work here, with these settings?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from router.cli.options import ConfigFile, Json, Outcomes, Registry, State

if TYPE_CHECKING:
    from registry.load import Registry as Manifests
    from router.config import Config


class Finding(NamedTuple):
    """One thing that was looked at."""

    what: str
    fine: bool
    said: str


def check(
    registry: Registry = None,
    host: Annotated[str | None, typer.Option(help="As for `consilium serve`.")] = None,
    port: Annotated[int | None, typer.Option(help="As for `consilium serve`.")] = None,
    outcomes: Outcomes = None,
    state: State = None,
    keys: Annotated[Path | None, typer.Option(metavar="FILE", help="API keys, as for `consilium serve`.")] = None,
    config: ConfigFile = None,
    offline: Annotated[bool, typer.Option("--offline", help="Do not look whether experts and Redis answer.")] = False,
    json: Json = False,
) -> None:
    """Check settings, keys, registry, router, port, experts and Redis. Exit status 1 where something is wrong.

    [bold]Examples[/]

      consilium check --registry registry/
      consilium check --config consilium.yaml --offline --json
    """
    from router.cli.output import no, print_json, screen
    from router.config import load_config

    flags = {"registry": registry, "host": host, "port": port, "outcomes": outcomes, "state": state, "keys": keys}
    settings = load_config(flags, config)
    found = asyncio.run(_every(settings, offline=offline))
    if json:
        print_json({"fine": all(finding.fine for finding in found), "checks": [f._asdict() for f in found]})
    else:
        for finding in found:
            sign = "[green]✓[/]" if finding.fine else "[red]✗[/]"
            screen().print(f"{sign} [bold]{finding.what}[/]", end=" ")
            screen().print(finding.said, markup=False, soft_wrap=True)
    if not all(finding.fine for finding in found):
        raise no()


async def _every(settings: Config, *, offline: bool) -> list[Finding]:
    return [finding async for finding in findings(settings, offline=offline)]


async def findings(settings: Config, *, offline: bool) -> AsyncIterator[Finding]:
    """Looks at one thing after another; later ones are left out where they need an earlier one that is wrong."""
    from experts.errors import ConsiliumError
    from experts.fleet.process import check_port
    from router.artifact import current, read
    from router.config import check_exposure
    from router.keys import read_keys
    from router.local import load_registry, open_router
    from router.telemetry import Log, Telemetry

    try:
        check_exposure(settings)
        yield Finding("keys", True, f"{len(read_keys(settings))} API keys")
    except ConsiliumError as fault:
        yield Finding("keys", False, fault.message)
    try:
        check_port(settings.host, settings.port, "the gateway", "choose another with --port")
        yield Finding("port", True, f"{settings.host}:{settings.port} is free")
    except ConsiliumError as fault:
        yield Finding("port", False, fault.message)
    try:
        registry = load_registry(settings.registry)
        yield Finding("registry", True, f"{len(registry.experts)} experts, {len(registry.routes)} routes")
    except ConsiliumError as fault:
        yield Finding("registry", False, fault.message)
        return
    version = current(settings.artifacts) if settings.artifacts else None
    if settings.artifacts is not None and version is not None:
        try:
            read(settings.artifacts, version)
            yield Finding("artifact", True, f"{version} is whole")
        except ConsiliumError as fault:
            yield Finding("artifact", False, fault.message)
    try:
        telemetry = Telemetry(Log(level="error"))
        async with open_router(
            registry, outcomes=settings.outcomes, artifact=settings.artifacts, telemetry=telemetry
        ) as router:
            yield Finding("router", True, f"built, version {router.snapshot.version}")
            for name, route in router.snapshot.routes.items():
                if route.estimator is not None:
                    yield Finding(f"route {name}", not route.learned.refused, f"estimates from: {route.learned}")
    except ConsiliumError as fault:
        yield Finding("router", False, fault.message)
    if not offline:
        async for finding in answering(registry):
            yield finding
        if settings.redis_url is not None:
            yield await redis_answers(settings.redis_url.get_secret_value())


async def answering(registry: Manifests) -> AsyncIterator[Finding]:
    """Whether every endpoint of every expert answers HTTP at all; each is asked once."""
    import aiohttp

    from experts.endpoints import Endpoint

    users: dict[str, list[str]] = {}
    for name, manifest in registry.experts.items():
        for url in getattr(manifest.options, "endpoints", ()):
            users.setdefault(str(url), []).append(name)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        for url, names in users.items():
            try:
                async with session.get(Endpoint(url).health_urls[0]) as response:
                    yield Finding(f"expert {', '.join(names)}", response.status < 500, f"{url}: HTTP {response.status}")
            except (aiohttp.ClientError, TimeoutError) as fault:
                yield Finding(f"expert {', '.join(names)}", False, f"{url}: {fault or 'no answer within 5 s'}")


async def redis_answers(url: str) -> Finding:
    from redis.asyncio import Redis
    from redis.exceptions import RedisError

    client = Redis.from_url(url, socket_connect_timeout=5)  # pyright: ignore[reportUnknownMemberType]
    try:
        await client.ping()  # pyright: ignore[reportUnknownMemberType, reportGeneralTypeIssues]
        return Finding("redis", True, "answers")
    except (RedisError, OSError) as fault:
        return Finding("redis", False, f"{fault}; is CONSILIUM_REDIS_URL right?")
    finally:
        await client.aclose()
