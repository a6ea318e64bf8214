"""Answer extractors: what a text settles on, as a key that equal answers share. One file each.

A module exports `Options` (pydantic, frozen, `extra="forbid"`) and `build(options) -> Extractor`; the file's name is
the extractor's name. Extractors read the query and the answers, never a reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experts.plugins import known, open_module, parse_options
from router.answers._reading import Extractor


def names() -> frozenset[str]:
    """Every extractor that can be opened; nothing is imported to find out."""
    return known(__name__, __path__)


def open_extractor(name: str, options: Mapping[str, Any]) -> Extractor:
    """Raises ConfigError for an unknown name or a wrong option."""
    module = open_module(__name__, __path__, name, "extractor")
    return module.build(parse_options(module, name, options))
