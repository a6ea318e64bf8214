"""Scorers: what an answer is worth, 0 to 1. One file each; the file's name is the scorer's name.

A module exports `Options` (pydantic, frozen, `extra="forbid"`) and `build(options, parts) -> Scorer`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evals.sample import Scorer, ScorerParts
from experts.plugins import known, open_module, parse_options


def names() -> frozenset[str]:
    """Every scorer that can be opened; nothing is imported to find out."""
    return known(__name__, __path__)


def open_scorer(name: str, options: Mapping[str, Any], parts: ScorerParts) -> Scorer:
    """Raises ConfigError for an unknown name or a wrong option, and where a judge is needed and none is given."""
    module = open_module(__name__, __path__, name, "scorer")
    return module.build(parse_options(module, name, options), parts)
