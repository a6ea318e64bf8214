"""Policies: estimates in, choices out. One file each; the file's name is the policy's name (`top_p.py`: `top-p`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experts.plugins import known, open_module, parse_options
from router.protocols import Policy


def names() -> frozenset[str]:
    """Every policy that can be opened; nothing is imported to find out."""
    return known(__name__, __path__)


def open_policy(name: str, options: Mapping[str, Any]) -> Policy:
    """A policy. Raises ConfigError for an unknown name or a wrong option."""
    module = open_module(__name__, __path__, name, "policy")
    return module.build(parse_options(module, name, options))
