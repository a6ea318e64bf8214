"""One document -> one manifest: references replaced, keys shared out between the kind and its provider, validated."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from experts.errors import ConfigError, Problem
from registry.documents import Document, written
from registry.manifest import KeyPath, Manifest, Reference
from registry.providers import Providers, discover
from registry.references import resolve
from registry.schema import KINDS
from registry.wording import nearest, problems_of, shown

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Names:
    """The plug-ins that a route may name. The registry cannot see the router; its caller tells it.

    `options` gives the pydantic model of a plug-in's options, from `policy`, `estimator` or `composer` and a name;
    without it, options are taken as they are.
    """

    policies: frozenset[str]
    estimators: frozenset[str]
    composers: frozenset[str]
    options: Callable[[str, str], type[BaseModel] | None] | None = None

    def of(self, slot: str) -> frozenset[str]:
        return {"policy": self.policies, "estimator": self.estimators, "composer": self.composers}[slot]


@dataclass(frozen=True, slots=True)
class Terms:
    """What manifests are read against: the plug-ins and providers there are, the environment, and what is allowed."""

    names: Names | None = None
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    providers: Providers = field(default_factory=discover)
    allow_serve: bool = True
    allow_env: bool = True


class Entry(NamedTuple):
    """A document as far as it could be read: what it declares, and the manifest where it is valid.

    `partial` is, of one that is not valid, what is left without the wrong keys: good for cross-checks only.
    """

    kind: str
    name: str
    document: Document
    manifest: Manifest | None
    partial: Manifest | None = None


def read_manifest(document: Document, terms: Terms) -> tuple[Entry, list[Problem]]:
    """Validate one document. All of its problems come back; the manifest only when there are none."""
    raw = document.keys
    if not raw:
        message = f"expected a map with a kind and a name, got {shown(document.data)}"
        return Entry("", "", document, None), [document.problem((), message)]
    name = raw["name"] if isinstance(raw.get("name"), str) else ""
    kind = raw.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        known = f"expected one of {', '.join(KINDS)}"
        if "kind" not in raw:
            message = f"required, but missing: {known}"
        else:
            message = f"{known}, got {shown(kind)}" + (_guess(kind, KINDS) if isinstance(kind, str) else "")
        return Entry("", name, document, None), [document.problem(("kind",), message)]
    problems: list[Problem] = []
    if "serve" in raw and not terms.allow_serve:
        problems.append(document.problem(
            ("serve",), "not allowed here, because it runs a command; declare this manifest in the registry's files"
        ))  # fmt: skip
    resolved = resolve(raw, terms.environ, allowed=terms.allow_env)
    problems += [document.problem(fault.path, fault.message) for fault in resolved.faults]
    faulty = {written(fault.path) for fault in resolved.faults}
    manifest, found = _validated(document, KINDS[kind], resolved.data, resolved.references, terms)
    problems += [problem for problem in found if problem.path not in faulty]
    partial = _partial(KINDS[kind], resolved.data, resolved.references, problems) if problems else None
    return Entry(kind, name, document, None if problems else manifest, partial), problems


def _partial(
    model: type[Manifest], data: Mapping[str, Any], references: Mapping[KeyPath, Reference], problems: list[Problem]
) -> Manifest | None:
    wrong = {re.split(r"[.\[]", problem.path)[0] for problem in problems}
    kept = {key: value for key, value in data.items() if key in model.model_fields and key not in wrong}
    try:
        manifest = model.model_validate({**model.placeholders, **kept})
    except ValidationError:
        return None
    manifest.remember(references)
    return manifest


def _validated(
    document: Document, model: type[Manifest], data: dict[str, Any], references: Mapping[KeyPath, Reference],
    terms: Terms,
) -> tuple[Manifest | None, list[Problem]]:  # fmt: skip
    problems: list[Problem] = []
    options_model: type[BaseModel] | None = None
    if model.provided:
        options_model, problems = _options_of(document, data, terms)
    own = set(model.model_fields)
    theirs = _keys(options_model) if options_model is not None else set[str]()
    unknown = [key for key in data if key not in own | theirs]
    if model.provided and options_model is None:  # whose keys the others are, nobody knows: but not the near ones
        unknown = [key for key in unknown if "provider" not in data and "'provider'" in nearest(key, own)]
    options: BaseModel | None = None
    if options_model is not None:
        open_ended = options_model.model_config.get("extra") == "allow"
        chosen = {key: value for key, value in data.items() if key in theirs or (open_ended and key in unknown)}
        unknown = [] if open_ended else unknown
        options, found = _parsed(document, options_model, chosen, references)
        problems += found
    for key in unknown:
        problems.append(document.problem((key,), f"unknown key{nearest(key, own | theirs)}"))
    manifest, found = _parsed(document, model, {key: value for key, value in data.items() if key in own}, references)
    problems += found
    if manifest is None or problems:
        return None, sorted(problems, key=lambda problem: problem.line)
    manifest.bound(references, options)
    return manifest, []


def _options_of(
    document: Document, data: Mapping[str, Any], terms: Terms
) -> tuple[type[BaseModel] | None, list[Problem]]:  # fmt: skip
    kind, provider = str(data["kind"]), data.get("provider")
    if not isinstance(provider, str):
        return None, []
    known = terms.providers.names(kind)
    if provider not in known:
        return None, [
            document.problem(
                ("provider",),
                f"expected one of {', '.join(known) or 'none: there are no providers'}, got {shown(provider)}"
                + _guess(provider, known),
            )
        ]
    try:
        return terms.providers.options(kind, provider), []
    except ConfigError as fault:
        return None, [document.problem(("provider",), fault.message)]


def _parsed(
    document: Document, model: type[M], data: dict[str, Any], references: Mapping[KeyPath, Reference]
) -> tuple[M | None, list[Problem]]:
    try:
        return model.model_validate(data, context={"folder": document.source.folder}), []
    except ValidationError as fault:
        errors = fault.errors(include_url=False)
    return None, problems_of(document, data, references, errors, model)


def _keys(model: type[BaseModel]) -> set[str]:
    return {field.alias or name for name, field in model.model_fields.items()}


def _guess(wanted: str, known: Mapping[str, Any] | tuple[str, ...]) -> str:
    found = nearest(wanted, known)
    return found if "did you mean" in found else ""
