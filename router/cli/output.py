"""What commands print: rich text for people, JSON for programs, exit statuses for scripts."""

from __future__ import annotations

import os
import sys
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from experts.errors import ConsiliumError


PIPED = 160
"""Columns where nobody looks at a terminal: tables whole, for `grep` and files."""


class Exit(IntEnum):
    OK = 0
    NO = 1
    USAGE = 2
    UNREACHABLE = 3
    FAILED = 4


def screen(*, errors: bool = False) -> Console:
    """A console on standard output, or on standard error; as wide as the terminal, or `COLUMNS`, or PIPED."""
    from rich.console import Console

    stream = sys.stderr if errors else sys.stdout
    piped = not stream.isatty() and "COLUMNS" not in os.environ
    return Console(stderr=errors, highlight=False, emoji=False, width=PIPED if piped else None)


def print_json(value: Any) -> None:
    """One JSON document on standard output, indented when a person is looking."""
    import orjson

    form = orjson.OPT_INDENT_2 if sys.stdout.isatty() else 0
    sys.stdout.write(orjson.dumps(value, option=form | orjson.OPT_NON_STR_KEYS).decode() + "\n")
    sys.stdout.flush()


def complain(fault: ConsiliumError) -> None:
    """An error's message on standard error, never read as markup."""
    console = screen(errors=True)
    console.print("[bold red]error:[/]", end=" ")
    console.print(fault.message, markup=False, soft_wrap=True)


def status_of(fault: ConsiliumError) -> int:
    """The exit status that an error means."""
    from experts.errors import ConfigError, RegistryError
    from router.cli.client import GatewayRefused, Unreachable

    match fault:
        case ConfigError() | RegistryError():
            return Exit.USAGE
        case Unreachable():
            return Exit.UNREACHABLE
        case GatewayRefused():
            return Exit.FAILED
        case _:
            return Exit.FAILED if fault.status >= 500 else Exit.USAGE


def no() -> typer.Exit:
    """The exit of a command that worked, and whose answer is no."""
    return typer.Exit(Exit.NO)
