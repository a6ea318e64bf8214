"""The file shapes that outcomes are published in. One file each; the file's name is the shape's name.

A module exports `recognises(path) -> bool`, cheap and without raising, and `read(path) -> Loaded`.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from evals.outcomes.loaded import Loaded
from experts.errors import ConfigError
from experts.plugins import known, open_module

FIRST = ("consilium", "routerbench", "llmrouter", "routellm", "mmlu-pro", "table")
"""The order in which `auto` asks: what names itself most clearly first, what takes anything last."""


def names() -> frozenset[str]:
    """Every shape that can be read; nothing is imported to find out."""
    return known(__name__, __path__)


def read(path: Path, shape: str = "auto") -> Loaded:
    """Rows in the project's own format. Raises ConfigError: no such file or shape, or a shape not recognised."""
    if not path.exists():
        raise ConfigError(f"{path}: no such file or folder of outcomes")
    if shape != "auto":
        return _module(shape).read(path)
    order = [*(name for name in FIRST if name in names()), *sorted(names() - set(FIRST))]
    for name in order:
        module = _module(name)
        if module.recognises(path):
            return module.read(path)
    raise ConfigError(f"{path}: expected outcomes in one of the shapes {', '.join(order)}, recognised none; name one")


def _module(name: str) -> ModuleType:
    return open_module(__name__, __path__, name, "outcome format")
