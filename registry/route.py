"""The manifest of a route: which experts a model name stands for, and how one is chosen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, cast

from pydantic import (
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import CoreSchema

from registry.expert import ExpertManifest
from registry.manifest import Amount, Count, Manifest, Name, Positive, Section, Text, Word


class Plugged(Section, frozen=True):
    """A policy, estimator or composer by name, with its own options beside the name.

    `balanced` and `{name: balanced, gain: 0.3}` are both understood.
    """

    model_config = ConfigDict(extra="allow")

    name: Text = Field(description="The plug-in's name.")

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})

    @model_serializer
    def _short(self) -> Any:
        return {"name": self.name, **self.options} if self.options else self.name

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        whole = {
            "type": "object", "properties": {"name": {"type": "string", "minLength": 1}}, "required": ["name"],
            "additionalProperties": True,
        }  # fmt: skip
        return {"anyOf": [{"type": "string", "minLength": 1}, whole], "description": "A name, or {name, options…}."}


class Selection(Section, frozen=True):
    """Some of the registry's experts: named ones, all (`"*"`), or those that carry all of some labels."""

    names: tuple[Name, ...] | None = None
    labels: dict[str, Word] = Field(default_factory=dict[str, str])

    @model_validator(mode="before")
    @classmethod
    def _written(cls, value: Any) -> Any:
        if isinstance(value, str) and value == "*":
            return {}
        if isinstance(value, list):
            if not value:
                raise ValueError('expected at least one expert, "*" or {labels: {…}}, got an empty list')
            return {"names": cast(list[Any], value)}
        if isinstance(value, Mapping) and set(cast(Mapping[str, Any], value)) == {"labels"} and value["labels"]:
            return cast(Mapping[str, Any], value)
        raise ValueError('expected a list of expert names, "*" or {labels: {name: value}}')

    @model_serializer
    def _short(self) -> Any:
        if self.names is not None:
            return list(self.names)
        return {"labels": dict(self.labels)} if self.labels else "*"

    def of(self, experts: Mapping[str, ExpertManifest]) -> tuple[str, ...]:
        """Names of the selected experts that exist, in the order written (or the registry's). Reward models, which
        give no answers, are only taken by name."""
        if self.names is not None:
            return tuple(dict.fromkeys(name for name in self.names if name in experts))
        wanted = self.labels.items()
        return tuple(name for name, expert in experts.items() if wanted <= expert.labels.items() and not expert.rates)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        labels = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}
        return {
            "anyOf": [
                {"const": "*"},
                {"type": "array", "items": {"type": "string"}, "minItems": 1},
                {"type": "object", "properties": {"labels": {**labels, "minProperties": 1}}, "required": ["labels"],
                 "additionalProperties": False},
            ]
        }  # fmt: skip


class Budget(Section, frozen=True):
    """What one request may take, over all of its calls; a caller can only tighten it."""

    calls: Count | None = Field(None, description="Calls to experts.")
    tokens: Count | None = Field(None, description="Input and output tokens of all calls together.")
    usd: Positive | None = Field(None, description="USD, by the prices of the cards.")
    ms: Positive | None = Field(None, description="Milliseconds from the request's arrival to the answer's end.")


class Retrieval(Section, frozen=True):
    """Passages that are looked up before an expert is asked, and when that is worth their price."""

    retrievers: tuple[Name, ...] = Field(
        min_length=1, description="Retrievers to choose from for each query; what they find is merged."
    )
    mass: float = Field(
        0.995, gt=0, le=1,
        description="The fewest corpora are searched that hold this share of the belief; 1 searches all.",
    )  # fmt: skip
    measured: Text | None = Field(
        None,
        description="What `consilium retriever measure` wrote: how well each retriever searched. With it, `estimator` "
        "says which are searched, in place of `mass`. Relative to this file.",
    )
    estimator: Plugged = Field(
        Plugged(name="blend"), description="With `measured`: what predicts how well each retriever would do."
    )
    top: Count = Field(1, le=50, description="With `measured`: how many of the best retrievers are searched.")
    ranker: Text | None = Field(
        None, description="What `consilium retriever fit` wrote: puts what was found into order. Relative to this file."
    )
    passages: Count = Field(3, le=50, description="Passages that go into the prompt, at most.")
    gate: Literal["auto", "always", "never"] = Field(
        "auto",
        description="`auto` looks up where the answer is expected to gain more than the passages cost: by `outcomes`, "
        "or else where the chosen expert's expected quality is below `confidence`.",
    )
    outcomes: Text | None = Field(
        None,
        description="What the gate is fitted on: a JSONL file of `query`, `without` and `with`, the scores (0 to 1) of "
        "answers without and with passages. Relative to this file.",
    )
    confidence: float = Field(
        0.7, ge=0, le=1, description="Without `outcomes`: the expected quality from which no passage is looked up."
    )
    price: Amount = Field(
        0.02, description="What a thousand tokens of passages must gain, in score from 0 to 1, to be looked up."
    )
    price_s: Amount = Field(
        0.02,
        description="With `outcomes`: what a second of searching must gain, in score from 0 to 1; a search is "
        "expected to take as long as it took lately.",
    )
    max_tokens: Count = Field(1500, description="Most tokens of passages in a prompt, at four characters a token.")
    timeout_ms: Positive = Field(1000.0, description="How long an answer waits for its passages.")
    template: Text | None = Field(
        None, description="The question with its sources: a text that holds `{sources}` and `{question}`."
    )

    @field_validator("outcomes", "ranker", "measured")
    @classmethod
    def _from_the_manifest(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None:
            return None
        context: Mapping[str, Path] = info.context or {}
        return str((context.get("folder", Path()) / Path(value).expanduser()).resolve())

    @field_validator("template")
    @classmethod
    def _both_places(cls, value: str | None) -> str | None:
        if value is not None and ("{sources}" not in value or "{question}" not in value):
            raise ValueError("expected {sources} and {question} in the text")
        return value


Spares = Annotated[int, Field(ge=0, le=16)] | tuple[Name, ...]


class RouteManifest(Manifest, frozen=True):
    """A model name that stands for several experts. Its presets (`auto:cheap`) are the policy's: nothing to declare."""

    placeholders: ClassVar[Mapping[str, Any]] = MappingProxyType({"experts": "*"})

    kind: Literal["route"] = Field("route", description="`route`.")
    experts: Selection = Field(
        description='Whom it may ask: a list of names, `"*"` for every expert, or `{labels: {tier: small}}` for those '
        "that carry all the given labels."
    )
    policy: Plugged = Field(
        Plugged(name="balanced"), description="How estimates become a choice: a name, or `{name, options…}`."
    )
    estimator: Plugged = Field(
        Plugged(name="blend"),
        description="What predicts how each expert would do: a name, or `{name, options…}`.",
    )
    composer: Plugged = Field(
        Plugged(name="single"),
        description="What asks the chosen experts and makes one answer: a name, or `{name, options…}`.",
    )
    default: Name | None = Field(
        None, description="The expert to fall back on where the evidence is thin. Default: the best single one."
    )
    encoder: Name = Field(
        "default",
        description="The encoder that embeds its queries. The one called `default` exists without being declared.",
    )
    explore: float = Field(
        0.0, ge=0, le=1,
        description="Share of its traffic that asks an expert drawn evenly instead of the best one, so that other "
        "policies can be judged from the decision log. 0: none.",
    )  # fmt: skip
    budget: Budget = Field(
        Budget(calls=None, tokens=None, usd=None, ms=None),
        description="What one request may take, over all of its calls; a caller can only tighten it.",
    )
    retrieval: Retrieval | None = Field(
        None, description="Passages for the answer, and when they are looked up. Default: none ever."
    )
    spares: Spares = Field(
        2, description="Who is tried when the chosen expert fails: how many next-best ones, or their names in order."
    )
