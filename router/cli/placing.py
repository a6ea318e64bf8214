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
FUSED, FUSED_URL = "POCKET_FUSED", "POCKET_FUSED_URL"
"""The same for the fused pocket model: its checkpoint, and its server's address."""


def pocket_folder() -> Path:
    """Where the pocket experts are: `registry.yaml`, `outcomes.jsonl.gz` and the weights."""
    import experts.errors

    return Path(experts.errors.__file__).parent / "pocket"


def fused_checkpoint(home: Path) -> Path:
    """The fused pocket model's checkpoint under `home`, made from the committed weights unless it is there.

    Its name says which weights it was made of, so that newer ones make another.
    """
    import hashlib

    from experts.pocket.questions import SKILLS

    weights = pocket_folder() / "weights"
    folders = {name: weights / name for name in ("fused", "base", *SKILLS)}
    digest = hashlib.sha256()
    for name, folder in folders.items():
        for file in sorted(folder.iterdir()):
            digest.update(f"{name}/{file.name}".encode() + file.read_bytes())
    made = home / f"pocket-fused-{digest.hexdigest()[:12]}"
    if not made.exists():
        from experts.fusion.checkpoint import build

        build(folders["fused"], {skill: folders[skill] for skill in SKILLS}, made, base=folders["base"])
    return made


def residences(registry: Registry, *, fused: bool = False) -> list[Residence]:
    """What the manifests with a `serve:` key say about their servers, `fused` experts' ones or not. Raises
    ConfigError."""
    served = [one for one in registry.experts.values() if one.serve is not None and (fused or not one.members)]
    return [_residence(registry, manifest) for manifest in served]


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
