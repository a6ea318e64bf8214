"""The file shapes that outcomes are published in. One file each; the file's name is the shape's name.

A module exports `recognises(path) -> bool`, cheap, which raises nothing but ConfigError for compressed data that are
not whole, and `read(path, experts) -> Loaded`. `experts` are all that the caller wants, everybody where it is empty: a
hint for shapes in which an expert cannot be told from another column. What is read of others is dropped here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from evals.outcomes.loaded import Loaded
from experts.errors import ConfigError
from experts.plugins import known, open_module
from router.outcomes import with_splits

FIRST = ("consilium", "routerbench", "llmrouter", "routellm", "mmlu-pro", "table")
"""The order in which `auto` asks: what names itself most clearly first, what takes anything last."""


def names() -> frozenset[str]:
    """Every shape that can be read; nothing is imported to find out."""
    return known(__name__, __path__)


def read(path: Path, shape: str = "auto", experts: Sequence[str] = ()) -> Loaded:
    """Rows in the project's own format, each with a split; of these experts only, if any are named.

    Raises ConfigError: no such file or shape, a shape not recognised, or an expert without any outcome.
    """
    loaded = _recognised(path, shape).read(path, experts)
    if loaded.rows and (missing := [name for name in experts if name not in loaded.experts]):
        raise ConfigError(
            f"{path}: no outcome is of {', '.join(missing)}; there are outcomes of {', '.join(loaded.experts)}"
        )
    if experts:
        loaded.hold_to(experts)
    elif absent := [name for name in loaded.models if name not in loaded.experts]:
        loaded.notes.append(f"prices or sizes are given for {', '.join(absent)}, but no outcomes")
    if unsplit := sum(not row.get("split") for row in loaded.rows):
        loaded.notes.append(f"{unsplit} rows name no split and were split 60/20/20 by a hash of their id")
        loaded.rows = with_splits(loaded.rows)
    return loaded


def _recognised(path: Path, shape: str) -> ModuleType:
    if not path.exists():
        raise ConfigError(f"{path}: no such file or folder of outcomes")
    if shape != "auto":
        return _module(shape)
    order = [*(name for name in FIRST if name in names()), *sorted(names() - set(FIRST))]
    for name in order:
        module = _module(name)
        if module.recognises(path):
            return module
    raise ConfigError(f"{path}: expected outcomes in one of the shapes {', '.join(order)}, recognised none; name one")


def _module(name: str) -> ModuleType:
    return open_module(__name__, __path__, name, "outcome format")
