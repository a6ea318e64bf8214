"""Finding plug-ins: a plug-in's name is the name of its file, or of a third party's entry point.

A plug-in is a module that exports `Options` (pydantic) and `build`. Looking for names imports none of them. A package
of plug-ins is named with its `__name__` and `__path__`; third parties add to it with entry points of the group
`consilium.<its folder>`, or of the one that it names.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

from pydantic import BaseModel, ValidationError

from experts.errors import ConfigError


def own(paths: Sequence[str]) -> dict[str, str]:
    """Names of the plug-ins in a package's folder, each with the name of its module.

    A file that starts with an underscore is shared code, not a plug-in. `top_p.py` is called `top-p`.
    """
    files = (found.name for found in pkgutil.iter_modules(paths))
    return {file.replace("_", "-"): file for file in files if not file.startswith("_")}


def known(package: str, paths: Sequence[str], group: str = "") -> frozenset[str]:
    """Names of the plug-ins in a package's folder and of installed entry points."""
    installed = {point.name for point in entry_points(group=group or group_of(package))}
    return frozenset(own(paths).keys() | installed)


def open_module(package: str, paths: Sequence[str], name: str, what: str, group: str = "") -> ModuleType:
    """Imports the plug-in of this name; one of this project's own wins over an entry point's.

    `what` is the word for one such plug-in: "estimator", "policy". Raises ConfigError, with the names that are known,
    for an unknown one, and where what the plug-in needs is not installed.
    """
    file = own(paths).get(name)
    try:
        if file is not None:
            return import_module(f"{package}.{file}")
        for point in entry_points(group=group or group_of(package), name=name):
            return point.load()
    except ImportError as fault:
        raise ConfigError(f"{what} {name} cannot be used here: {fault}; install what it needs") from fault
    names = sorted(known(package, paths, group))
    near = get_close_matches(name, names, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ConfigError(f"{what} {name!r}: no such {what}; known are {', '.join(names)}{hint}")


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
