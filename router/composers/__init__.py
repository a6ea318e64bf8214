"""Composers: carrying a plan out. One file each; the file's name is the composer's name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experts.plugins import known, open_module, parse_options
from router.protocols import Composer


def names() -> frozenset[str]:
    """Every composer that can be opened; nothing is imported to find out."""
    return known(__name__, __path__)


def open_composer(name: str, options: Mapping[str, Any]) -> Composer:
    """Raises ConfigError for an unknown name or a wrong option."""
    module = open_module(__name__, __path__, name, "composer")
    return module.build(parse_options(module, name, options))
