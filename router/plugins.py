"""Finding plug-ins: a plug-in's name is the name of its file, or of a third party's entry point.

A plug-in is a module that exports `Options` (pydantic) and `build`. Looking for names imports none of them.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

from pydantic import BaseModel, ValidationError

from experts.errors import ConfigError


def known(package: str, paths: Sequence[str]) -> frozenset[str]:
    """Names of the plug-ins in a package's folder and of installed entry points of the group `consilium.<folder>`.

    A file that starts with an underscore is shared code, not a plug-in. `top_p.py` is called `top-p`.
    """
    own = {found.name.replace("_", "-") for found in pkgutil.iter_modules(paths) if not found.name.startswith("_")}
    return frozenset(own | {point.name for point in entry_points(group=group_of(package))})


def open_module(package: str, paths: Sequence[str], name: str, what: str) -> ModuleType:
    """Imports the plug-in of this name. Raises ConfigError that lists the known names where there is none.

    `what` is the word for one such plug-in: "estimator", "policy".
    """
    for found in pkgutil.iter_modules(paths):
        if not found.name.startswith("_") and found.name.replace("_", "-") == name:
            return import_module(f"{package}.{found.name}")
    for point in entry_points(group=group_of(package), name=name):
        return point.load()
    raise ConfigError(f"{what} {name!r}: no such {what}; known are {', '.join(sorted(known(package, paths)))}")


def parse_options(module: ModuleType, name: str, options: Mapping[str, Any]) -> BaseModel:
    """The plug-in's own `Options`. Raises ConfigError with every key that is wrong, what was found and why."""
    try:
        return module.Options.model_validate(dict(options))
    except ValidationError as fault:
        wrong = "; ".join(
            f"{name}.{'.'.join(str(step) for step in error['loc'])}: {error['msg']}, got {error['input']!r}"
            for error in fault.errors()
        )
        raise ConfigError(wrong) from fault


def group_of(package: str) -> str:
    return f"consilium.{package.rpartition('.')[2]}"
