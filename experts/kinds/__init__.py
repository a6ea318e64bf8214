"""The kinds of experts: one module each, whose file name is the `provider` that a manifest names.

Third parties add theirs with an entry point in the group `consilium.expert_kinds`. Nothing is imported until asked for.
"""

from __future__ import annotations

import pkgutil
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import entry_points
from types import ModuleType

from experts.errors import ConfigError

GROUP = "consilium.expert_kinds"


def names() -> frozenset[str]:
    """Every provider that can be named; finding them imports none."""
    return _own() | {point.name for point in entry_points(group=GROUP)}


def module(name: str) -> ModuleType:
    """The module of one provider, which exports `Options` and `build(name, options, parts)`.

    A name of this project's own wins over an entry point's. Raises ConfigError for an unknown name, and where what
    the module needs is not installed.
    """
    try:
        if name in _own():
            return import_module(f"{__name__}.{name}")
        for point in entry_points(group=GROUP, name=name):
            return point.load()
    except ImportError as fault:
        raise ConfigError(f"provider {name} cannot be used here: {fault}; install what it needs") from fault
    known = sorted(names())
    near = get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ConfigError(f"provider {name!r}: no such provider; known are {', '.join(known)}{hint}")


def _own() -> frozenset[str]:
    return frozenset(found.name for found in pkgutil.iter_modules(__path__) if not found.name.startswith("_"))
