"""The kinds of experts: one module each, whose file name is the `provider` that a manifest names.

Third parties add theirs with an entry point in the group `consilium.expert_kinds`. Nothing is imported until asked for.
"""

from __future__ import annotations

from types import ModuleType

from experts import plugins

GROUP = "consilium.expert_kinds"


def names() -> frozenset[str]:
    """Every provider that can be named; finding them imports none."""
    return plugins.known(__name__, __path__, GROUP)


def module(name: str) -> ModuleType:
    """The module of one provider, which exports `Options` and `build(name, options, parts)`.

    A name of this project's own wins over an entry point's. Raises ConfigError for an unknown name, and where what
    the module needs is not installed.
    """
    return plugins.open_module(__name__, __path__, name, "provider", GROUP)
