"""The manifest of a retriever: a corpus, and one way of searching it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from pydantic import Field

from registry.manifest import Name, Positive, ProvidedManifest, Text


class RetrieverManifest(ProvidedManifest, frozen=True):
    """A corpus and one way of searching it. A provider's own keys are written flat beside these."""

    provided: ClassVar[bool] = True
    placeholders: ClassVar[Mapping[str, Any]] = MappingProxyType({"provider": "?"})

    kind: Literal["retriever"] = Field("retriever", description="`retriever`.")
    provider: Text = Field(
        description="How it is searched: `dense`, `lexical`, `hybrid`, `remote`, or one that is installed."
    )
    encoder: Name = Field(
        "default", description="The encoder of the query, for those that search by vectors: the one of the index."
    )
    timeout_s: Positive = Field(2.0, description="Seconds that one search may take.")
