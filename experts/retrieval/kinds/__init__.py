"""The kinds of retrievers: one module each, whose file name is the `provider` that a retriever's manifest names.

A module exports `Options` and `build(name, options, parts) -> Retriever`, and `USES_VECTORS = True` where it searches
by the query's vector: then its manifest's encoder is opened. Third parties add theirs with an entry point
in the group `consilium.retriever_kinds`. Nothing is imported until asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

from experts import plugins

if TYPE_CHECKING:
    from experts.transport import Transport

GROUP = "consilium.retriever_kinds"


@dataclass(frozen=True, slots=True)
class RetrieverParts:
    """What a retriever may be built from. `encoder` is the fingerprint of the encoder that its manifest names."""

    transport: Transport
    encoder: str = ""
    timeout_s: float = 2.0


def names() -> frozenset[str]:
    """Every provider that can be named; finding them imports none."""
    return plugins.known(__name__, __path__, GROUP)


def module(name: str) -> ModuleType:
    """The module of one provider. Raises ConfigError for an unknown name, and where what it needs is not installed."""
    return plugins.open_module(__name__, __path__, name, "retriever provider", GROUP)
