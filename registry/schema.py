"""The kinds of manifest.

A new kind is one file with its model and one line in `KINDS`; a kind that has providers also names where they are
found, in `registry.providers.PLACES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from registry.encoder import EncoderManifest, Runtime
from registry.expert import ExpertManifest, Limits, Modality, Price, Serve, Timeouts
from registry.manifest import NAME_PATTERN, Manifest
from registry.retriever import RetrieverManifest
from registry.route import Plugged, Retrieval, RouteManifest, Selection

KINDS: Mapping[str, type[Manifest]] = MappingProxyType(
    {"expert": ExpertManifest, "route": RouteManifest, "encoder": EncoderManifest, "retriever": RetrieverManifest}
)

__all__ = [
    "KINDS", "NAME_PATTERN", "EncoderManifest", "ExpertManifest", "Limits", "Manifest", "Modality", "Plugged",
    "Price", "Retrieval", "RetrieverManifest", "RouteManifest", "Runtime", "Selection", "Serve", "Timeouts",
]  # fmt: skip
