"""References to the environment: `${NAME}`, `${NAME:-default}`, and `$${` for a literal `${`.

What a variable held counts as a secret from here on: it is kept beside the value, so that every later message and
every public view can say `${NAME}` instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from registry.manifest import KeyPath, Reference, as_word

_PATTERN = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^{}]*))?\}|\$\{")
LITERAL = ("kind", "name", "provider")
"""Keys that everybody may read: a reference there would publish what it refers to."""


class Fault(NamedTuple):
    path: KeyPath
    message: str


@dataclass(frozen=True, slots=True)
class Resolved:
    """A document's data with every reference replaced; `references` says where the environment was read."""

    data: Any = field(repr=False)
    references: Mapping[KeyPath, Reference]
    faults: tuple[Fault, ...]


@dataclass(slots=True)
class _Scope:
    """What names mean in one document: its own `env` first, then the process environment."""

    environ: Mapping[str, str]
    allowed: bool
    own: dict[str, str]
    references: dict[KeyPath, Reference]
    faults: list[Fault]


def resolve(data: Any, environ: Mapping[str, str], *, allowed: bool = True) -> Resolved:
    """Replace the references of one document. With `allowed` false the process environment is out of bounds."""
    scope = _Scope(environ, allowed, {}, {}, [])
    if not isinstance(data, dict):
        return Resolved(data, scope.references, ())
    keys = cast(dict[str, Any], data)
    out: dict[str, Any] = dict(keys)
    env = keys.get("env")
    if isinstance(env, dict):
        out["env"] = {}
        for name, value in cast(dict[str, Any], env).items():
            path = ("env", name)
            out["env"][name] = _inside(value, path, scope)
        for name, value in cast(dict[str, Any], out["env"]).items():
            if isinstance(value, str | int | float):
                scope.own[name] = as_word(value)
    for key, value in keys.items():
        if key == "env" and isinstance(env, dict):
            continue
        out[key] = _inside(value, (key,), scope)
    return Resolved(out, scope.references, tuple(scope.faults))


def _inside(value: Any, path: KeyPath, scope: _Scope) -> Any:
    if isinstance(value, str):
        return _text(value, path, scope) if "${" in value else value
    if isinstance(value, dict):
        return {key: _inside(item, (*path, key), scope) for key, item in cast(dict[str, Any], value).items()}
    if isinstance(value, list):
        return [_inside(item, (*path, i), scope) for i, item in enumerate(cast(list[Any], value))]
    return value


def _text(text: str, path: KeyPath, scope: _Scope) -> str:
    if len(path) == 1 and path[0] in LITERAL:
        scope.faults.append(Fault(path, "expected plain text, got a reference to the environment: everybody reads it"))
        return text
    names: list[str] = []
    values: list[str] = []

    def replaced(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        name, default = match[1], match[2]
        if name is None:
            scope.faults.append(Fault(path, "expected ${NAME} or ${NAME:-default}; a literal ${ is written $${"))
            return ""
        if name in scope.own:
            names.append(name)
            values.append(scope.own[name])
            return scope.own[name]
        if not scope.allowed:
            scope.faults.append(Fault(
                path, f"${{{name}}}: references to the environment are not allowed here, because they would let "
                "whoever sends a manifest read it; write the value, or declare this manifest in the registry's files",
            ))  # fmt: skip
            return ""
        if name in scope.environ and (scope.environ[name] or default is None):
            names.append(name)
            values.append(scope.environ[name])
            return scope.environ[name]
        if default is None:
            scope.faults.append(Fault(
                path, f"environment variable {name} is not set; set it, or give a default: ${{{name}:-…}}"
            ))  # fmt: skip
        return default or ""

    result = _PATTERN.sub(replaced, text)
    if names:
        shown = _PATTERN.sub(lambda match: f"${{{match[1]}}}" if match[1] else "${", text)
        held = tuple(dict.fromkeys(value for value in values if value))
        scope.references[path] = Reference(shown, tuple(dict.fromkeys(names)), held)
    return result


def redacted(text: str, references: Mapping[KeyPath, Reference], *, shortest: int = 3) -> str:
    """`text` with everything that came from the environment replaced by its name.

    Values shorter than `shortest` are left: they occur everywhere, and say nothing.
    """
    for value, shown in sorted(_held(references), key=lambda pair: -len(pair[0])):
        if len(value) >= shortest:
            text = text.replace(value, shown)
    return text


def _held(references: Mapping[KeyPath, Reference]) -> Iterator[tuple[str, str]]:
    for reference in references.values():
        for value in reference.values:
            yield value, "${" + ",".join(reference.names) + "}"
