"""From the experts of a registry to the processes that `consilium up` starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from experts.errors import ConfigError
from experts.fleet.command import Engine, command
from experts.fleet.placement import Residence, Server
from experts.fleet.process import Task
from registry.load import Registry
from registry.schema import ExpertManifest

POCKET_URL = "POCKET_URL"
"""The variable that the pocket registry takes its server's address from."""


def pocket_folder() -> Path:
    """Where the pocket experts are: `registry.yaml`, `outcomes.jsonl.gz` and the weights."""
    import experts.errors

    return Path(experts.errors.__file__).parent / "pocket"


def residences(registry: Registry) -> list[Residence]:
    """What the manifests with a `serve:` key say about their servers. Raises ConfigError."""
    return [_residence(registry, manifest) for manifest in registry.experts.values() if manifest.serve is not None]


def _residence(registry: Registry, manifest: ExpertManifest) -> Residence:
    serve, options = manifest.serve, manifest.options
    where = f"{registry.source(manifest.name)}: expert {manifest.name}"
    endpoints: object = getattr(options, "endpoints", None)
    model: object = getattr(options, "model", None)
    if serve is None or not isinstance(endpoints, Sequence) or not isinstance(model, str):
        raise ConfigError(f"{where}: serve: only experts of provider vllm can be served, got {manifest.provider}")
    return Residence(
        expert=manifest.name,
        server=serve.server or manifest.name,
        name=model,
        endpoints=tuple(str(endpoint) for endpoint in endpoints),  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        weights=serve.model,
        lora=serve.lora,
        port=serve.port,
        args=serve.args,
        env={name: value.get_secret_value() for name, value in serve.env.items()},
        where=where,
    )


def server_task(server: Server, engine: Engine, logs: Path) -> Task:
    """The process of one expert server."""
    argv, env = command(server, engine)
    return Task(server.name, argv, env, f"{server.url}/health", logs / f"{server.name}.log")


def gateway_task(flags: Mapping[str, object], url: str, logs: Path) -> Task:
    """The process of the gateway: `consilium serve` with these flags; one whose value is None is left out."""
    import sys

    said = [(f"--{name.replace('_', '-')}", str(value)) for name, value in flags.items() if value is not None]
    words = [word for pair in said for word in pair]
    return Task(
        "gateway", (sys.executable, "-m", "router.cli", "serve", *words), {}, f"{url}/readyz", logs / "gateway.log"
    )
