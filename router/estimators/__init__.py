"""Estimators: what every expert would make of a query. One file each; the file's name is the estimator's name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experts.plugins import known, open_module, parse_options
from router.protocols import Estimator, Parts


def names() -> frozenset[str]:
    """Every estimator that can be opened; nothing is imported to find out."""
    return known(__name__, __path__)


def open_estimator(name: str, options: Mapping[str, Any], parts: Parts) -> Estimator:
    """An unfitted estimator. Raises ConfigError for an unknown name or a wrong option."""
    module = open_module(__name__, __path__, name, "estimator")
    return module.build(parse_options(module, name, options), parts)
