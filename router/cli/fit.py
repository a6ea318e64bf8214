"""`consilium fit`: from outcomes to a fitted router that running gateways pick up."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router.cli.options import ConfigFile, Json, Registry

if TYPE_CHECKING:
    from router.artifact import Artifact
    from router.config import Config


def fit(
    version: Annotated[str | None, typer.Argument(help="With --rollback: the version to go back to.")] = None,
    registry: Registry = None,
    outcomes: Annotated[
        list[Path] | None,
        typer.Option("--outcomes", "-o", metavar="PATH", help="Outcomes: a file or folder; may be given again."),
    ] = None,
    state: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A gateway's state folder: its profiles and feedback are used.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where versions go.", show_default="artifacts in --state")
    ] = None,
    redis_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Where profiles and feedback are, if not in --state.")
    ] = None,
    show: Annotated[bool, typer.Option("--list", help="Show the versions, and which is in force.")] = False,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="Put the version before the current one in force, or the one named.")
    ] = False,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Fit the routes of a registry on everything measured, as a new version that gateways pick up by themselves.

    Outcomes come from files (--outcomes), and from what `consilium profile` and `/v1/feedback` left in the state
    folder. Older versions are kept: rolling back is pointing back.

    [bold]Examples[/]

      consilium fit --registry registry/ --outcomes outcomes.jsonl.gz --out fitted/
      consilium fit --registry registry/ --state var/
      consilium fit --state var/ --list
      consilium fit --state var/ --rollback
      consilium fit --state var/ --rollback v0003
    """
    from experts.errors import ConfigError
    from router.artifact import roll_back

    if version is not None and not rollback:
        raise ConfigError(f"{version!r}: a version is named only with --rollback")
    flags = {"registry": registry, "state": state, "artifact": out, "redis_url": redis_url}
    settings = _settings(flags, config, needs_registry=not (show or rollback))
    root = _root(settings)
    if show:
        _list(root, json=json)
    elif rollback:
        _said(roll_back(root, version), "in force again", json=json)
    else:
        _said(_fit(settings, outcomes or [], root, quiet=json), "in force", json=json)


def _settings(flags: dict[str, Any], config: Path | None, *, needs_registry: bool) -> Config:
    from router.config import from_file, load_config

    if not needs_registry and flags["registry"] is None and "registry" not in from_file(config)[0]:
        flags = {**flags, "registry": Path()}  # not read: listing and rolling back know only versions
    return load_config(flags, config)


def _root(settings: Config) -> Path:
    from experts.errors import ConfigError

    root = settings.artifacts
    if root is None:
        raise ConfigError("where do versions go? give --out FOLDER, or --state FOLDER (they are in its `artifacts`)")
    return root


def _fit(settings: Config, outcomes: list[Path], root: Path, *, quiet: bool) -> Artifact:
    from experts.errors import ConfigError
    from router.cli.output import screen
    from router.fitting import Evidence, fit
    from router.local import load_registry
    from router.records import recording

    paths = outcomes or ([settings.outcomes] if settings.outcomes else [])
    kept = recording(settings)
    if not paths and kept is None:
        raise ConfigError("nothing to fit on: give --outcomes PATH, or the --state FOLDER of a gateway")
    measured = []
    if kept is not None:
        records = kept.open()
        measured = records.measured()
        records.close()
    evidence = Evidence.of(paths, measured)
    console = screen(errors=True)
    with console.status("reading ...") as status:
        return fit(
            load_registry(settings.registry), evidence, root, threads=settings.encoder_threads,
            say=None if quiet else status.update,
        )  # fmt: skip


def _said(artifact: Artifact, what: str, *, json: bool) -> None:
    from router.cli.output import print_json, screen

    if json:
        print_json(row(artifact, in_force=True))
        return
    console = screen()
    console.print(f"[bold]{artifact.version}[/] is {what} [dim]({artifact.folder})[/]", soft_wrap=True)
    for name, fitted in artifact.manifest.routes.items():
        found = fitted.metrics
        console.print(f"  route [bold]{name}[/]: {fitted.estimator} on {fitted.rows} queries")
        if "routed" in found:
            console.print(
                f"    on {found['choices']} queries not fitted on: {found['routed']:.3f}; "
                f"{found['best_single_expert']} alone {found['best_single']:.3f}; "
                f"the best of each query {found['oracle']:.3f}", soft_wrap=True,
            )  # fmt: skip


def _list(root: Path, *, json: bool) -> None:
    from experts.errors import ConfigError
    from router.artifact import current, read, versions
    from router.cli.output import print_json, screen

    now, rows = current(root), list[dict[str, Any]]()
    for version in versions(root):
        try:
            rows.append(row(read(root, version), in_force=version == now))
        except ConfigError as fault:
            rows.append({"version": version, "in_force": version == now, "broken": fault.message})
    if json:
        print_json(rows)
        return
    console = screen()
    if not rows:
        console.print(f"no versions in {root}", soft_wrap=True)
    for one in rows:
        mark = "[green]*[/]" if one["in_force"] else " "
        told = one.get("broken") or f"{one['created']}  " + "; ".join(
            f"{name}: {route['rows']} queries, routed {route['metrics'].get('routed', 'not measured')}"
            for name, route in one["routes"].items()
        )
        console.print(f"{mark} [bold]{one['version']}[/]  {told}", soft_wrap=True)


def row(artifact: Artifact, *, in_force: bool) -> dict[str, Any]:
    """A version as JSON."""
    import msgspec

    found: dict[str, Any] = msgspec.to_builtins(artifact.manifest)
    found.pop("files")
    return {"version": artifact.version, "in_force": in_force, "path": str(artifact.folder), **found}
