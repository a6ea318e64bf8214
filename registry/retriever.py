"""The manifest of a retriever: a corpus, and one way of searching it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from registry.manifest import Count, Name, Positive, ProvidedManifest, Section, Text


class Rerank(Section, frozen=True):
    """A second reading of what was found, by what sees query and passage together."""

    model: Text | None = Field(
        None, description="A cross-encoder: a folder (`./`, relative to this file, or `/`), or a hub name."
    )
    expert: Name | None = Field(None, description="Or an LLM expert of this registry, asked once a search.")
    candidates: Count = Field(20, le=200, description="How many passages are read again.")
    timeout_s: Positive = Field(1.0, description="Seconds after which the passages come in the order they were found.")

    @field_validator("model")
    @classmethod
    def _from_the_manifest(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None or not value.startswith((".", "~")):
            return value
        context: Mapping[str, Path] = info.context or {}
        return str((context.get("folder", Path()) / Path(value).expanduser()).resolve())

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.model is None) == (self.expert is None):
            raise ValueError("expected either `model`, a cross-encoder, or `expert`")
        return self


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
    rerank: Rerank | None = Field(None, description="Reads what was found again, and puts it into a better order.")
