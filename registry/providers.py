"""The providers that a manifest may name: modules of `experts.kinds`, and entry points of other distributions.

Finding them imports nothing; a provider's module is imported when a manifest names it.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType, ModuleType
from typing import NamedTuple

from pydantic import BaseModel

from experts.errors import ConfigError

Import = Callable[[], ModuleType]


class Place(NamedTuple):
    """Where the providers of one kind are found: a package of this project, and an entry-point group."""

    package: str
    group: str


PLACES: Mapping[str, Place] = MappingProxyType({"expert": Place("experts.kinds", "consilium.expert_kinds")})


@dataclass(frozen=True, slots=True)
class Providers:
    """Providers by kind of manifest, then by name; each value imports the provider's module."""

    found: Mapping[str, Mapping[str, Import]]

    def names(self, kind: str) -> tuple[str, ...]:
        return tuple(sorted(self.found.get(kind, {})))

    def module(self, kind: str, provider: str) -> ModuleType:
        """The provider's module. Raises ConfigError when it, or something that it needs, cannot be imported."""
        try:
            return self.found[kind][provider]()
        except ImportError as fault:
            raise ConfigError(
                f"provider {provider} cannot be used here: {fault}; install what it needs "
                f"(pip install 'consilium[{provider}]')"
            ) from fault

    def options(self, kind: str, provider: str) -> type[BaseModel]:
        """The provider's `Options`. Raises ConfigError when its module cannot be imported or exports none."""
        module = self.module(kind, provider)
        options: object = getattr(module, "Options", None)
        if not (isinstance(options, type) and issubclass(options, BaseModel)):
            raise ConfigError(
                f"provider {provider}: expected the module {module.__name__} to export Options, a pydantic model"
            )
        return options


def built_in() -> Providers:
    """Only the providers of this project."""
    return Providers({kind: _modules(place.package) for kind, place in PLACES.items()})


def discover() -> Providers:
    """The providers of this project and of installed distributions; this project's win where names collide."""
    return Providers(
        {kind: {**_entry_points(place.group), **_modules(place.package)} for kind, place in PLACES.items()}
    )


def _modules(package: str) -> dict[str, Import]:
    spec = importlib.util.find_spec(package)
    places = spec.submodule_search_locations if spec is not None else None
    names = [module.name for module in pkgutil.iter_modules(places or []) if not module.name.startswith("_")]
    return {name: _importing(f"{package}.{name}") for name in names}


def _importing(module: str) -> Import:
    return lambda: importlib.import_module(module)


def _entry_points(group: str) -> dict[str, Import]:
    return {point.name: point.load for point in importlib.metadata.entry_points(group=group)}
