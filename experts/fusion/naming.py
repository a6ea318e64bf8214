"""`name=path` arguments of the commands."""

from collections.abc import Sequence
from pathlib import Path

from experts.errors import ConfigError

ROUTER = "router"
"""The name of a fused model's router beside those of its experts: no expert can have it."""


def named(arguments: Sequence[str]) -> dict[str, Path]:
    """In the order given. Raises ConfigError for one that is not `name=path`, or a name given twice."""
    found: dict[str, Path] = {}
    for argument in arguments:
        name, equals, path = argument.partition("=")
        if not (name and equals and path):
            raise ConfigError(f"--expert {argument!r}: expected NAME=DIR, as in calc=experts/calc")
        if name in found:
            raise ConfigError(f"--expert {name} is given twice: {found[name]} and {path}")
        found[name] = Path(path)
    return found
