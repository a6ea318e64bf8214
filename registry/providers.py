"""The providers that a manifest may name, by kind. A provider's module is imported when a manifest names it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType, ModuleType

from pydantic import BaseModel

from experts import kinds
from experts.errors import ConfigError
from experts.plugins import own
from experts.retrieval import kinds as retriever_kinds

Import = Callable[[], ModuleType]

PLACES: Mapping[str, ModuleType] = MappingProxyType({"expert": kinds, "retriever": retriever_kinds})
"""For each kind of manifest that has providers, the package that finds them: `names()` and `module(name)`."""


@dataclass(frozen=True, slots=True)
class Providers:
    """Providers by kind of manifest, then by name; each value imports the provider's module."""

    found: Mapping[str, Mapping[str, Import]]

    def names(self, kind: str) -> tuple[str, ...]:
        return tuple(sorted(self.found.get(kind, {})))

    def options(self, kind: str, provider: str) -> type[BaseModel]:
        """The provider's `Options`. Raises ConfigError when its module cannot be imported or exports none."""
        module = self.found[kind][provider]()
        options: object = getattr(module, "Options", None)
        if not (isinstance(options, type) and issubclass(options, BaseModel)):
            raise ConfigError(
                f"provider {provider}: expected the module {module.__name__} to export Options, a pydantic model"
            )
        return options


def built_in() -> Providers:
    """Only the providers of this project."""
    return Providers(
        {kind: {name: partial(place.module, name) for name in own(place.__path__)} for kind, place in PLACES.items()}
    )


def discover() -> Providers:
    """The providers of this project and of installed distributions."""
    return Providers(
        {kind: {name: partial(place.module, name) for name in place.names()} for kind, place in PLACES.items()}
    )
