"""One JSON Schema for every document of a registry, so that editors complete and check manifests as they are typed.

Each kind, and each provider of a kind, is one alternative, told apart by constants. Numbers and booleans may also be
references to the environment. What a schema cannot say (names that lead nowhere) is left to the loader.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from registry.providers import Providers, built_in
from registry.schema import KINDS

Schema = dict[str, Any]

REFERENCE: Schema = {
    "type": "string",
    "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^{}]*)?\}",
    "description": "A reference to the environment: ${NAME} or ${NAME:-default}.",
}


def json_schema(providers: Providers | None = None) -> Schema:
    """The schema of one document, for the given providers (this project's own, where not given).

    Raises ConfigError when a provider's module cannot be imported.
    """
    providers = providers or built_in()
    options = {
        (kind, provider): providers.options(kind, provider)
        for kind, model in KINDS.items()
        if model.provided
        for provider in providers.names(kind)
    }
    models: list[type[BaseModel]] = [*KINDS.values(), *options.values()]
    parts, whole = models_json_schema([(model, "validation") for model in models], ref_template="#/$defs/{model}")
    shared = cast(dict[str, Schema], whole["$defs"])
    of_model = {model: shared[_target(part)] for (model, _), part in parts.items()}
    alternatives: dict[str, Schema] = {}
    for kind, model in KINDS.items():
        if not model.provided:
            alternatives[kind] = _document(kind, of_model[model], {}, {})
        for (of_kind, provider), option_model in options.items():
            if of_kind == kind:
                chosen = {"provider": {"const": provider, "description": f"`{provider}`."}}
                alternatives[f"{kind}-{provider}"] = _document(kind, of_model[model], of_model[option_model], chosen)
    top = {_target(part) for part in parts.values()}
    definitions = {name: _plain(part) for name, part in shared.items() if name not in top}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A document of a Consilium registry",
        "oneOf": [{"$ref": f"#/$defs/{name}"} for name in alternatives],
        "$defs": {**alternatives, **dict(sorted(definitions.items())), "reference": REFERENCE},
    }


def _target(part: Mapping[str, Any]) -> str:
    return str(part["$ref"]).rsplit("/", 1)[-1]


def _document(kind: str, own: Schema, options: Schema, chosen: Schema) -> Schema:
    properties: Schema = {**own["properties"], **options.get("properties", {}), **chosen}
    properties["kind"] = {"const": kind, "description": f"`{kind}`."}
    required = ["kind", *own.get("required", ()), *options.get("required", ())]
    return {
        "type": "object",
        "description": str(own.get("description", "")).split("\n")[0],
        "properties": {name: _plain(part) for name, part in properties.items()},
        "required": list(dict.fromkeys(required)),
        "additionalProperties": options.get("additionalProperties", False) is not False,
    }


def _plain(part: Any) -> Any:
    """Without the titles that only repeat the keys; numbers and booleans may be references."""
    if isinstance(part, list):
        return [_plain(item) for item in cast(list[Any], part)]
    if not isinstance(part, dict):
        return part
    schema = cast(Schema, part)
    out: Schema = {}
    for key, value in schema.items():
        if key == "properties":
            out[key] = {name: _plain(item) for name, item in cast(Schema, value).items()}
        elif key not in ("title", "default") or (key == "title" and not isinstance(value, str)):
            out[key] = _plain(value)
        elif key == "default":
            out[key] = value
    if out.get("type") in ("integer", "number", "boolean"):
        outside = {key: out.pop(key) for key in ("description", "default") if key in out}
        return {"anyOf": [out, {"$ref": "#/$defs/reference"}], **outside}
    return out
