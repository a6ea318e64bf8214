"""Commands of other packages: an entry point in the group `consilium.commands` names a typer app.

    [project.entry-points."consilium.commands"]
    eval = "evals.cli:app"

One is imported only when its name is typed, or when `--help` has to describe it.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

GROUP = "consilium.commands"


class CommandsWithPlugins(TyperGroup):
    """The project's own commands, then those of installed packages; the project's win where names collide."""

    def list_commands(self, ctx: Any) -> list[str]:
        own = list(super().list_commands(ctx))
        return own + sorted({point.name for point in entry_points(group=GROUP)} - set(own))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        for point in entry_points(group=GROUP, name=cmd_name):
            return _opened(point)
        return None


def _opened(point: EntryPoint) -> Any:
    """The command of an entry point; one that only says why, where it cannot be imported."""
    try:
        found: object = point.load()
    except ImportError as fault:
        found = _broken(point, fault)
    if not isinstance(found, typer.Typer):
        raise TypeError(f"entry point {point.name} = {point.value}: expected a typer.Typer, got {found!r}")
    command = get_command(found)
    command.name = point.name
    return command


def _broken(point: EntryPoint, fault: ImportError) -> typer.Typer:
    app = typer.Typer()
    reason = f"{point.value} cannot be imported: {fault}"

    @app.command(help=f"(not usable here: {reason})")
    def explain() -> None:  # pyright: ignore[reportUnusedFunction]
        typer.echo(reason, err=True)
        raise typer.Exit(2)

    return app
