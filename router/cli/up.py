"""`consilium up`: the experts' servers and the gateway, together."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from router.cli.options import ApiKey, ConfigFile, Json, Outcomes, Registry

if TYPE_CHECKING:
    from experts.fleet.placement import Server
    from experts.fleet.process import Task
    from registry.load import Registry as Manifests
    from router.cli.samples import Sample
    from router.config import Config

DEFAULT_LOGS = "~/.local/state/consilium/logs"
CHECKPOINTS = "~/.cache/consilium"
"""Where a checkpoint that is made of committed weights is kept."""


def up(
    registry: Registry = None,
    pocket: Annotated[bool, typer.Option("--pocket", help="The pocket experts: tiny, real, on this CPU.")] = False,
    fusion: Annotated[
        bool, typer.Option("--fusion", help="With --pocket: also the experts fused into one model, on a second server.")
    ] = False,
    host: Annotated[str | None, typer.Option(help="The gateway's address.", show_default="127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="The gateway's port.", show_default="8080")] = None,
    pocket_port: Annotated[int | None, typer.Option(help="Port of the pocket experts' server.")] = None,
    outcomes: Outcomes = None,
    config: ConfigFile = None,
    key: ApiKey = None,
    logs: Annotated[Path, typer.Option(metavar="DIR", help="Where log files go.")] = Path(DEFAULT_LOGS),
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait until all are ready.")] = 900.0,
    once: Annotated[bool, typer.Option("--once", help="Ask the sample questions, then stop.")] = False,
    die_with_parent: Annotated[bool, typer.Option("--die-with-parent", hidden=True)] = False,
    json: Json = False,
) -> None:
    """Start the servers that a registry's `serve:` keys describe, and a gateway in front of them.

    Waits until all are ready, then asks a few sample questions. Ctrl-C stops everything that was started. With
    --once it stops by itself: exit status 0 only if every sample was answered right.

    [bold]Examples[/]

      consilium up --pocket
      consilium up --pocket --fusion
      consilium up --registry registry/ --port 9000
      consilium up --pocket --once --json | jq .
    """
    from experts.errors import ConfigError
    from experts.fleet.placement import place
    from router.cli.output import screen
    from router.cli.placing import FUSED, FUSED_URL, POCKET_URL, fused_checkpoint, pocket_folder, residences
    from router.cli.session import Display, Session
    from router.config import check_exposure, load_config
    from router.local import load_registry

    if die_with_parent:
        from experts.fleet.guard import end_with_parent

        end_with_parent(signal.SIGTERM)
    if pocket and registry is not None:
        raise ConfigError("--pocket and --registry: give one of them")
    if fusion and not pocket:
        raise ConfigError("--fusion goes with --pocket; a registry's own fused experts are started in any case")
    if pocket:
        registry = pocket_folder() / "registry.yaml"
        measured = pocket_folder() / "outcomes.jsonl.gz"
        outcomes = outcomes or (measured if measured.exists() else None)
    if pocket_port is not None:
        os.environ[POCKET_URL] = f"http://127.0.0.1:{pocket_port}/v1"
        os.environ.setdefault(FUSED_URL, f"http://127.0.0.1:{pocket_port + 1}/v1")
    if fusion:
        os.environ[FUSED] = str(fused_checkpoint(Path(CHECKPOINTS).expanduser()))
    settings = load_config({"registry": registry, "outcomes": outcomes, "host": host, "port": port}, config)
    check_exposure(settings)
    manifests = load_registry(settings.registry)
    servers = place(residences(manifests, fused=fusion or not pocket))
    tasks = prepared(settings, servers, config, logs.expanduser(), pocket=pocket)
    samples, route = sampled(manifests, pocket=pocket)
    served = frozenset(name for server in servers for name in server.experts)
    show = Display(screen(errors=json), as_json=json)
    session = Session(tasks, served, samples, route, url_of(settings), key or first_key(settings), timeout)
    raise typer.Exit(asyncio.run(session.run(show, once=once)))


def prepared(
    settings: Config, servers: Sequence[Server], config: Path | None, logs: Path, *, pocket: bool
) -> list[Task]:
    """The processes to start, the gateway last. Raises ConfigError where vLLM is missing or a port is taken."""
    from experts.fleet.command import installed_engine
    from experts.fleet.process import check_port
    from router.cli.placing import gateway_task, server_task

    tasks: list[Task] = []
    if servers:
        engine = installed_engine()
        tasks = [server_task(server, engine, logs) for server in servers]
    flag = "--pocket-port" if pocket else "serve.port in its manifest"
    for server in servers:
        check_port("127.0.0.1", server.port, f"the server {server.name}", f"choose another with {flag}")
    check_port(settings.host, settings.port, "the gateway", "choose another with --port")
    flags = {name: getattr(settings, name) for name in ("registry", "outcomes", "host", "port")}
    return [*tasks, gateway_task({**flags, "config": config}, url_of(settings), logs)]


def sampled(registry: Manifests, *, pocket: bool) -> tuple[Sequence[Sample], str]:
    """What to ask once all is ready, and the route to ask: `auto`, or the first there is."""
    from router.cli.samples import POCKET, of_registry

    route = "auto" if "auto" in registry.routes else next(iter(registry.routes))
    return POCKET if pocket else of_registry(registry), route


def url_of(settings: Config) -> str:
    """Where this machine reaches the gateway."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def first_key(settings: Config) -> str | None:
    """An API key that the gateway will take, where the environment gives one."""
    return settings.api_keys.get_secret_value().split(",")[0].strip() if settings.api_keys else None
