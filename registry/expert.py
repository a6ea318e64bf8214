"""The manifest of an expert: anything that can be asked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from experts.language import Card
from experts.language import Price as CardPrice
from registry.manifest import (
    Amount,
    Count,
    Name,
    Positive,
    ProvidedManifest,
    SecretWord,
    Section,
    Text,
    Word,
)  # fmt: skip

Modality = Literal["text", "image", "audio", "video", "file"]


class Price(Section, frozen=True):
    """What the expert's tokens cost, in USD per million."""

    input: Amount = Field(0.0, description="USD per million prompt tokens.")
    output: Amount = Field(0.0, description="USD per million completion tokens.")


class Limits(Section, frozen=True):
    """How much may be asked of the expert, over all gateways that share a store."""

    concurrency: Count | None = Field(None, description="Most calls under way at once. Unlimited where not given.")
    requests_per_minute: Count | None = Field(None, description="Most calls a minute. Unlimited where not given.")


class Timeouts(Section, frozen=True):
    """How long the gateway waits for the expert, in seconds."""

    connect_s: Positive = Field(5.0, description="Seconds to open a connection.")
    first_byte_s: Positive = Field(
        600.0, description="Seconds to the first byte of the answer; of a call that does not stream, to the answer."
    )
    between_bytes_s: Positive = Field(60.0, description="Seconds between two pieces of a streamed answer.")
    total_s: Positive = Field(3600.0, description="Seconds for a whole call, streamed or not.")


class Serve(Section, frozen=True):
    """How `consilium up` starts the expert's server. It runs a command: it is taken from files only by default."""

    server: Name | None = Field(
        None,
        description="Name of the server process. Experts that name the same one share it (a base model and its LoRA "
        "adapters). Default: the expert's own name.",
    )
    model: Text | None = Field(
        None,
        description="Weights to serve: a hub name, or a path when it begins with `./`, `../`, `/` or `~/`. Relative "
        "paths start at the manifest's file. Default: the expert's `model`.",
    )
    lora: Text | None = Field(None, description="A LoRA adapter on these weights: a hub name or a path, as in `model`.")
    port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="Port to listen on. Default: the port of the first of the expert's `endpoints` that is on this "
        "machine (such as 8001 of `http://127.0.0.1:8001/v1`).",
    )
    args: tuple[Word, ...] = Field((), description="More arguments of the server's command line, word by word.")
    env: dict[str, SecretWord] = Field(
        default_factory=dict[str, SecretStr], description="Environment variables of the server. Never shown."
    )

    @field_validator("model", "lora")
    @classmethod
    def _from_the_manifest(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None or (not value.startswith(("./", "../", "~/")) and value not in (".", "..")):
            return value
        context: Mapping[str, Path] = info.context or {}
        return str((context.get("folder", Path()) / Path(value).expanduser()).resolve())


class ExpertManifest(ProvidedManifest, frozen=True):
    """Anything that can be asked. A provider's own keys are written flat beside these."""

    provided: ClassVar[bool] = True
    placeholders: ClassVar[Mapping[str, Any]] = MappingProxyType({"provider": "?"})

    kind: Literal["expert"] = Field("expert", description="`expert`.")
    provider: Text = Field(
        description="What kind of client asks it: `vllm`, `litellm`, `scripted`, or one that is installed."
    )
    skills: tuple[Text, ...] = Field((), description="What it is good at, in a word or two each. Routing reads them.")
    examples: tuple[Text, ...] = Field(
        (), description="Questions it should be asked. Routing reads them: five to twenty are worth having."
    )
    languages: tuple[Text, ...] = Field((), description="Languages it answers well in (`en`, `de`, …). Empty: any.")
    modalities: tuple[Modality, ...] = Field(("text",), description="What it takes in. A hard constraint.")
    tools: bool = Field(True, description="Whether it can call tools. A hard constraint on requests with `tools`.")
    structured: bool = Field(
        True, description="Whether it honours `response_format`. A hard constraint on requests that set it."
    )
    context: Count | None = Field(
        None, description="Context length in tokens, prompt and answer together. A hard constraint when given."
    )
    price: Price = Field(Price(), description="What its tokens cost.")  # pyright: ignore[reportCallIssue]
    parameters_b: Positive | None = Field(None, description="Parameters, in billions.")
    tokenizer: Text | None = Field(
        None, description="Fingerprint of its tokenizer. Experts with the same one can be fused token by token."
    )
    members: tuple[Name, ...] = Field(
        (), description="For a fused expert: the experts it is made of, in the order of its routing head."
    )
    limits: Limits = Field(Limits(), description="How much may be asked of it.")  # pyright: ignore[reportCallIssue]
    timeouts: Timeouts = Field(Timeouts(), description="How long to wait for it.")  # pyright: ignore[reportCallIssue]
    serve: Serve | None = Field(
        None, description="How `consilium up` starts its server. Without it the server is somebody else's to start."
    )
    labels: dict[str, Word] = Field(
        default_factory=dict[str, str], description="Free labels, for a route's `experts: {labels: …}`."
    )

    @property
    def rates(self) -> bool:
        """Whether it is a reward model, which rates answers and gives none: no route chooses among such."""
        return getattr(self.options, "reward", False) is True

    def card(self) -> Card:
        """What a routing decision may know of it."""
        return Card(
            name=self.name, description=self.description, skills=self.skills, examples=self.examples,
            languages=self.languages, modalities=frozenset(self.modalities), tools=self.tools,
            structured=self.structured, context=self.context,
            price=CardPrice(self.price.input, self.price.output), parameters_b=self.parameters_b,
            tokenizer=self.tokenizer, members=self.members, labels=dict(self.labels),
        )  # fmt: skip
