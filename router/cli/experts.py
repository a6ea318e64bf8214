"""`consilium experts`: looking at a registry, and changing it, on disk or in a running gateway."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router.cli.options import ApiKey, Json

if TYPE_CHECKING:
    from router.skills import Profile

SHOWN = 10
"""Skills of a profile that are shown from each end; --json has all."""
LEAST_ASKED = 3

app = typer.Typer(
    help="Look at a registry, and change it: on disk (--registry), or in a running gateway (--url).",
    no_args_is_help=True,
)

Place = Annotated[Path | None, typer.Argument(help="The registry: a YAML file or a folder.")]
RegistryOption = Annotated[Path | None, typer.Option("--registry", "-r", metavar="PATH", help="The registry on disk.")]
StateOption = Annotated[
    Path | None, typer.Option("--state", metavar="DIR", help="A gateway's state folder, for its profile.")
]
UrlOption = Annotated[
    str | None, typer.Option("--url", metavar="URL", help="A running gateway, instead of files. Changes need --key.")
]


@app.command()
def check(place: Place = None, registry: RegistryOption = None, json: Json = False) -> None:
    """Check a registry, and show every problem of every file. Exit status 1 where there is one.

    [bold]Examples[/]

      consilium experts check registry/
      consilium experts check registry/ --json | jq '.problems[].path'
    """
    from experts.errors import RegistryError
    from router.cli.output import no, print_json, screen
    from router.local import load_registry

    path = place or on_disk(registry)
    try:
        found = load_registry(path)
    except RegistryError as fault:
        if json:
            problems = [{"file": p.file, "line": p.line, "path": p.path, "message": p.message} for p in fault.problems]
            print_json({"valid": False, "problems": problems})
        else:
            for problem in fault.problems:
                screen(errors=True).print(str(problem), markup=False, soft_wrap=True)
            screen(errors=True).print(f"[bold red]{counted(len(fault.problems), 'problem')}[/]")
        raise no() from None
    experts, routes = len(found.experts), len(found.routes)
    if json:
        print_json(
            {"valid": True, "problems": [], "experts": experts, "routes": routes, "registry_version": found.version}
        )
    else:
        parts = f"{counted(experts, 'expert')}, {counted(routes, 'route')}"
        screen().print(f"[green]fine:[/] {parts}, version {found.version}")


@app.command(name="list")
def list_(
    place: Place = None, registry: RegistryOption = None, url: UrlOption = None, key: ApiKey = None, json: Json = False
) -> None:
    """List the experts, and, of a running gateway, whether they are up.

    [bold]Examples[/]

      consilium experts list registry/
      consilium experts list --url http://127.0.0.1:8080
    """
    from rich.table import Table

    from router.cli.output import print_json, screen

    rows = _from_gateway(url, key) if url else [{"manifest": said} for said in _from_disk(place or on_disk(registry))]
    if json:
        print_json(rows)
        return
    table = Table(box=None, pad_edge=False)
    for column in ("expert", "provider", "model", "skills", *(["up"] if url else [])):
        table.add_column(column)
    for row in rows:
        said, state = row["manifest"], row.get("state")
        cells = [said["name"], said["provider"], str(said.get("model", "")), ", ".join(said.get("skills", ()))]
        if state is not None:
            colour = "green" if state["up"] else "red"
            cells.append(f"[{colour}]{state['endpoints_up']} of {state['endpoints']}[/]")
        table.add_row(*cells)
    screen().print(table)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="The expert.")],
    registry: RegistryOption = None,
    url: UrlOption = None,
    key: ApiKey = None,
    state: StateOption = None,
    json: Json = False,
) -> None:
    """Show one expert's manifest, defaults filled in, secrets masked; and its profile, where it has one.

    A profile is what `consilium profile` found: for each skill word, +1 for a question that it solved and -1 for one
    that it failed; its competence over all; how well it aggregates others' answers.

    [bold]Examples[/]

      consilium experts show qwen-math --registry registry/
      consilium experts show qwen-math --registry registry/ --state var/
      consilium experts show qwen-math --url http://127.0.0.1:8080
    """
    from experts.errors import ConfigError
    from router.cli.output import print_json, screen

    if url:
        from router.skills import Profile

        reply = _ask_gateway(url, key, "GET", f"/v1/experts/{name}")
        found, known = reply["manifest"], Profile.from_json(reply["profile"]) if "profile" in reply else None
    else:
        said = {row["name"]: row for row in _from_disk(on_disk(registry))}
        if name not in said:
            raise ConfigError(f"expert {name}: no such expert; known are {', '.join(said) or 'none'}")
        found, known = said[name], _profile(name, state)
    if json:
        print_json(found if known is None else {**found, "profile": known.json()})
        return
    import yaml

    screen().print(yaml.safe_dump(found, sort_keys=False, allow_unicode=True), markup=False, end="")
    if known is not None:
        _show_profile(known)


@app.command()
def add(
    manifest: Annotated[str, typer.Argument(help="A YAML file with one manifest; - reads standard input.")],
    registry: RegistryOption = None,
    url: UrlOption = None,
    key: ApiKey = None,
    replace: Annotated[bool, typer.Option("--replace", help="Put it in the place of the one of its name.")] = False,
    json: Json = False,
) -> None:
    """Add an expert (or any other manifest). It takes traffic at once; a mistake changes nothing.

    [bold]Examples[/]

      consilium experts add qwen-math.yaml --registry registry/
      consilium experts add qwen-math.yaml --url http://127.0.0.1:8080 --key $ADMIN_KEY
    """
    from registry import edit
    from registry.load import terms_of
    from router.cli.output import print_json, screen
    from router.local import plugin_names

    text = _read(manifest)
    if url:
        said = _ask_gateway(url, key, "POST", "/v1/experts" + ("?replace=true" if replace else ""), yaml=text)
    else:
        change = (edit.replace if replace else edit.add)(on_disk(registry), text, terms_of(plugin_names()))
        said = {"kind": change.kind, "name": change.name, "file": str(change.file),
                "registry_version": change.registry.version}  # fmt: skip
    if json:
        print_json(said)
    else:
        screen().print(f"[green]{'replaced' if replace else 'added'}[/] {said.get('name', '')}", soft_wrap=True)


@app.command()
def remove(
    name: Annotated[str, typer.Argument(help="The expert.")],
    registry: RegistryOption = None,
    url: UrlOption = None,
    key: ApiKey = None,
    json: Json = False,
) -> None:
    """Remove an expert, unless a route needs it.

    [bold]Example[/]

      consilium experts remove qwen-math --registry registry/
    """
    from registry import edit
    from registry.load import terms_of
    from router.cli.output import print_json, screen
    from router.local import plugin_names

    if url:
        said = _ask_gateway(url, key, "DELETE", f"/v1/experts/{name}") or {"name": name}
    else:
        change = edit.remove(on_disk(registry), name, "expert", terms_of(plugin_names()))
        said = {"name": name, "file": str(change.file), "registry_version": change.registry.version}
    if json:
        print_json(said)
    else:
        screen().print(f"[green]removed[/] {name}")


def on_disk(registry: Path | None) -> Path:
    """The registry named by a flag, the environment or the config file. Raises ConfigError where none is."""
    from router.config import load_config

    return load_config({"registry": registry}).registry


def counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _profile(name: str, state: Path | None) -> Profile | None:
    """What was measured of an expert; None where nothing was, or no state folder is set."""
    from router.config import load_config
    from router.records import recording
    from router.skills import profiles

    store = recording(load_config({"registry": Path(), "state": state}))
    if store is None:
        return None
    records = store.open()
    found = profiles(row for row in records.measured() if row.expert == name)
    records.close()
    return found.get(name)


def _show_profile(known: Profile) -> None:
    from rich.table import Table

    from router.cli.output import screen

    console, table = screen(), Table(box=None, pad_edge=False)
    able = "" if known.aggregation is None else f"; right on {known.aggregation:.0%} of {known.panels} panels"
    console.print(f"\n[bold]profile[/]: competence {known.competence:.3f} over {known.outcomes} questions{able}")
    for column in ("skill", "net", "asked"):
        table.add_column(column, justify="left" if column == "skill" else "right")
    words = known.words(LEAST_ASKED) or known.words()
    for word in words if len(words) <= 2 * SHOWN else [*words[:SHOWN], *words[-SHOWN:]]:
        table.add_row(word, f"{known.net[word]:+g}", str(known.asked[word]))
    console.print(table)


def _from_disk(path: Path) -> list[dict[str, Any]]:
    from registry.public import public
    from router.local import load_registry

    return [public(manifest) for manifest in load_registry(path).experts.values()]


def _from_gateway(url: str, key: str | None) -> list[dict[str, Any]]:
    return _ask_gateway(url, key, "GET", "/v1/experts")["data"]


def _ask_gateway(url: str, key: str | None, method: str, path: str, yaml: str | None = None) -> Any:
    from router.cli.client import Client

    return asyncio.run(Client(url, key).json(method, path, yaml=yaml))


def _read(manifest: str) -> str:
    from experts.errors import ConfigError

    if manifest == "-":
        return sys.stdin.read()
    try:
        return Path(manifest).read_text()
    except (OSError, UnicodeDecodeError) as fault:
        raise ConfigError(f"{manifest}: cannot be read: {fault}") from fault
