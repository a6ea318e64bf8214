"""What every manifest shares: strictness, names, and a `repr` that shows no value.

A manifest is one YAML document. Its values may come from the environment; those count as secrets, so a manifest
remembers which of its values were references, prints nothing but its kind and name, and is shown to people and
programs only through `registry.public.public`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, SecretStr, StringConstraints

NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,62}$"

KeyPath = tuple[str | int, ...]
"""Where a value stands in a document: keys and list positions from the root."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A value that came, whole or in part, from the environment.

    `text` is what the manifest says, without defaults (`https://${HOST}/v1`); `values` what the environment put in.
    """

    text: str
    names: tuple[str, ...]
    values: tuple[str, ...] = field(repr=False)


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(f"expected a number, got {str(value).lower()}")
    return value


def as_word(value: Any) -> Any:
    """A number or boolean as the text it was written as; anything else unchanged."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
Text = Annotated[str, StringConstraints(min_length=1)]
Word = Annotated[str, BeforeValidator(as_word, json_schema_input_type=str | int | float | bool)]
"""Text that people write without quotes even where it looks like a number: command-line words, label values."""
SecretWord = Annotated[SecretStr, BeforeValidator(as_word, json_schema_input_type=str | int | float | bool)]
Amount = Annotated[float, Field(ge=0), BeforeValidator(_number)]
Positive = Annotated[float, Field(gt=0), BeforeValidator(_number)]
Count = Annotated[int, Field(ge=1), BeforeValidator(_number)]


class Section(BaseModel, frozen=True):
    """A map inside a manifest: frozen, unknown keys refused, silent about values when printed."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        return iter(())


class Manifest(Section, frozen=True):
    """One document of a registry. `references` maps each value that came from the environment to its reference."""

    provided: ClassVar[bool] = False
    """Whether the kind has providers, whose options are written flat among its keys."""
    placeholders: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    """What stands in for a required key that is wrong, while the document's other keys are cross-checked."""

    kind: str
    name: Name = Field(
        description="What others call it by: lower-case letters, digits, `.`, `_`, `-`; at most 63 characters."
    )
    description: str = Field(
        "", description="What it is for, in a sentence or two. Experts and retrievers are routed by it."
    )
    env: dict[str, SecretWord] = Field(
        default_factory=dict[str, SecretStr],
        description="Names that `${NAME}` may refer to in this document, before the process environment is asked. "
        "Values may themselves be environment references. Never shown.",
    )
    _references: Mapping[KeyPath, Reference] = PrivateAttr(default_factory=lambda: MappingProxyType({}))

    @property
    def references(self) -> Mapping[KeyPath, Reference]:
        return self._references

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        yield None, self.name

    def remember(self, references: Mapping[KeyPath, Reference]) -> None:
        held = MappingProxyType(dict(references))
        self._references = held  # pyright: ignore[reportAttributeAccessIssue]

    def bound(self, references: Mapping[KeyPath, Reference], options: BaseModel | None) -> None:
        """Called once by the loader, right after validation: keeps what validation itself cannot carry."""
        self.remember(references)
        if options is not None:
            raise TypeError(f"a manifest of kind {self.kind} has no provider options")


class ProvidedManifest(Manifest, frozen=True):
    """A manifest whose provider has keys of its own: `options` holds them, an instance of its module's `Options`."""

    _options: BaseModel = PrivateAttr()

    @property
    def options(self) -> BaseModel:
        return self._options

    def bound(self, references: Mapping[KeyPath, Reference], options: BaseModel | None) -> None:
        if options is None:
            raise TypeError(f"{self.kind} {self.name}: the provider's options are missing")
        self.remember(references)
        self._options = options  # pyright: ignore[reportAttributeAccessIssue]
