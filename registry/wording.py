"""What pydantic found wrong -> problems that people can act on, and that never show a secret.

A value is quoted only when it is written in the file itself and its key is not a secret one. For everything that
came from the environment, and for keys whose type is a secret, the message says what was expected and nothing else.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast, get_args

from pydantic import BaseModel, SecretBytes, SecretStr
from pydantic_core import ErrorDetails

from experts.errors import Problem
from registry.documents import Document
from registry.manifest import NAME_PATTERN, KeyPath, Reference
from registry.references import redacted

_EXPECTED = {
    "string_type": "text", "int_type": "a whole number", "int_parsing": "a whole number",
    "int_from_float": "a whole number", "int_parsing_size": "a smaller whole number", "float_type": "a number",
    "float_parsing": "a number", "finite_number": "a finite number", "bool_type": "true or false",
    "bool_parsing": "true or false", "list_type": "a list", "tuple_type": "a list", "set_type": "a list",
    "frozen_set_type": "a list", "dict_type": "a map", "model_type": "a map", "model_attributes_type": "a map",
    "mapping_type": "a map", "url_parsing": "a URL", "url_type": "a URL", "url_scheme": "a URL of another scheme",
    "url_syntax_violation": "a URL", "none_required": "nothing",
}  # fmt: skip
_BOUNDS = {"greater_than_equal": (">=", "ge"), "greater_than": (">", "gt"), "less_than_equal": ("<=", "le"),
           "less_than": ("<", "lt")}  # fmt: skip


class _Finding(NamedTuple):
    path: KeyPath
    via_union: bool
    expected: str | None
    message: str


def nearest(wanted: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, the known ones where nothing is near, or nothing where there are none."""
    names = sorted(known)
    near = difflib.get_close_matches(wanted, names, n=1, cutoff=0.6)
    if near:
        return f"; did you mean '{near[0]}'?"
    if not names:
        return "; there are none"
    return f"; known: {', '.join(names[:12])}{', …' if len(names) > 12 else ''}"


def shown(value: Any) -> str:
    """A value as a message quotes it: short, and without the user and password of a URL."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case int() | float():
            return str(value) if isinstance(value, int) and abs(value) < 1e15 else _short(value)
        case str():
            return repr(without_userinfo(value if len(value) <= 60 else value[:57] + "…"))
        case list():
            return f"a list of {len(cast(list[Any], value))}" if value else "an empty list"
        case _:
            return "a map"


def _short(number: float) -> str:
    try:
        return f"{number:.6g}"
    except OverflowError:
        return "a huge number"


def kind_of(value: Any) -> str:
    """A value's type, for messages that must not quote it."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
        case _:
            return "a map"


def sounds_secret(key: str) -> bool:
    """Whether a key's own name says that its value is nobody's business, whatever its declared type."""
    return re.search(r"(?i)(^|[_-])(key|secret|token|password|credentials?|authorization)$", key) is not None


def without_userinfo(text: str) -> str:
    return re.sub(r"(\w://)(?!\$\{[^}@]*\}@)[^/@\s]*@", r"\1***@", text)


def problems_of(
    document: Document, data: Any, references: Mapping[KeyPath, Reference], errors: Sequence[ErrorDetails],
    model: type[BaseModel],
) -> list[Problem]:  # fmt: skip
    """One problem for each thing that is wrong, in the order of the file.

    `data` is what was validated (references replaced); `model` the pydantic model that refused it.
    """
    findings = [_finding(data, references, error, model) for error in errors]
    kept = [
        finding
        for finding in findings
        if not (finding.via_union and any(_below(other.path, finding.path) for other in findings))
    ]
    merged: dict[KeyPath, list[_Finding]] = {}
    for finding in kept:
        merged.setdefault(finding.path, []).append(finding)
    problems: list[Problem] = []
    for path, found in merged.items():
        expected = list(dict.fromkeys(f.expected for f in found if f.expected))
        messages = [f.message for f in found if not f.expected]
        if expected:
            got = _got(_at(data, path), path, references, model)
            messages.insert(0, f"expected {' or '.join(expected)}, got {got}")
        problems += [document.problem(path, redacted(message, references)) for message in dict.fromkeys(messages)]
    return sorted(problems, key=lambda problem: problem.line)


def _finding(
    data: Any, references: Mapping[KeyPath, Reference], error: ErrorDetails, model: type[BaseModel]
) -> _Finding:  # fmt: skip
    kind, context = error["type"], error.get("ctx") or {}
    path, via_union = _path(data, error["loc"], missing=kind == "missing")
    if kind == "missing":
        return _Finding(path, False, None, f"required, but missing{_meaning(model, path)}")
    if kind == "extra_forbidden":
        around = _model_at(model, path[:-1])
        known = around.model_fields if around is not None else ()
        return _Finding(path, via_union, None, f"unknown key{nearest(str(path[-1]), known) if known else ''}")
    got = _got(_at(data, path), path, references, model)
    if kind in ("literal_error", "enum"):
        choices = re.findall(r"'([^']*)'", str(context["expected"]))
        return _Finding(path, via_union, f"{'one of ' if len(choices) > 1 else ''}{', '.join(choices)}", "")
    if kind in _EXPECTED:
        return _Finding(path, via_union, _EXPECTED[kind], "")
    if kind in _BOUNDS:
        sign, key = _BOUNDS[kind]
        return _Finding(path, via_union, None, f"must be {sign} {context[key]:g}, got {got}")
    if kind == "string_too_short":
        return _Finding(path, via_union, None, "must not be empty")
    if kind == "string_pattern_mismatch":
        wanted = str(context["pattern"])
        if wanted == NAME_PATTERN:
            wanted = "lower-case letters, digits, '.', '_' and '-', beginning with a letter or digit, at most 63"
        return _Finding(path, via_union, None, f"expected {wanted}, got {got}")
    if kind in ("too_short", "too_long"):
        least = kind == "too_short"
        count = context["min_length" if least else "max_length"]
        return _Finding(path, via_union, None, f"expected at {'least' if least else 'most'} {count} of them, got {got}")
    if _hidden(path, references, model):
        return _Finding(path, via_union, None, f"is not valid{_meaning(model, path)}; got {got}")
    return _Finding(path, via_union, None, _in_its_own_words(error, got))


def _in_its_own_words(error: ErrorDetails, got: str) -> str:
    """The message of a validator, or of a rarer pydantic error. Both may quote the value: not for a hidden one."""
    cause = (error.get("ctx") or {}).get("error")
    message = without_userinfo(str(cause) if cause is not None else error["msg"])
    message = re.sub(r"^Input should be", "expected", message)
    return message if "got " in message else f"{message}, got {got}"


def _got(value: Any, path: KeyPath, references: Mapping[KeyPath, Reference], model: type[BaseModel]) -> str:
    reference = references.get(path)
    if reference is not None:
        return f"the value of {reference.text}" if len(reference.text) <= 60 else "a value from the environment"
    if _hidden(path, references, model):
        return f"{kind_of(value)} (a secret, not shown)"
    return shown(value)


def _hidden(path: KeyPath, references: Mapping[KeyPath, Reference], model: type[BaseModel]) -> bool:
    if path in references:
        return True
    if any(isinstance(step, str) and sounds_secret(step) for step in path):
        return True
    field = model.model_fields.get(str(path[0])) if path else None
    return field is not None and _holds_secret(field.annotation, _depth=0)


def _holds_secret(annotation: Any, *, _depth: int) -> bool:
    if annotation in (SecretStr, SecretBytes):
        return True
    return _depth < 6 and any(_holds_secret(inner, _depth=_depth + 1) for inner in get_args(annotation))


def _path(data: Any, location: tuple[int | str, ...], *, missing: bool) -> tuple[KeyPath, bool]:
    """A pydantic location as a key path of the document, and whether it went through the branch of a union."""
    path: list[int | str] = []
    skipped = False
    for position, step in enumerate(location):
        if isinstance(data, dict) and step in data:
            data = cast(dict[Any, Any], data)[step]
            path.append(step)
        elif isinstance(data, list) and isinstance(step, int) and step < len(cast(list[Any], data)):
            data = cast(list[Any], data)[step]
            path.append(step)
        elif missing and position == len(location) - 1:
            path.append(step)
        else:
            skipped = True
    return tuple(path), skipped


def _at(data: Any, path: KeyPath) -> Any:
    for step in path:
        data = data[step]
    return data


def _below(path: KeyPath, parent: KeyPath) -> bool:
    return len(path) > len(parent) and path[: len(parent)] == parent


def _model_at(model: type[BaseModel], path: KeyPath) -> type[BaseModel] | None:
    """The model that a key path of `model` holds, where it is one."""
    for step in path:
        field = model.model_fields.get(str(step))
        if field is None:
            return None
        inner = [t for t in (field.annotation, *get_args(field.annotation)) if isinstance(t, type)]
        models = [t for t in inner if issubclass(t, BaseModel)]
        if not models:
            return None
        model = models[0]
    return model


def _meaning(model: type[BaseModel], path: KeyPath) -> str:
    named = path[: max((i for i, step in enumerate(path, 1) if isinstance(step, str)), default=0)]
    around = _model_at(model, named[:-1]) if named else None
    field = around.model_fields.get(str(named[-1])) if around is not None else None
    return f": {field.description.rstrip('.')}" if field is not None and field.description else ""
