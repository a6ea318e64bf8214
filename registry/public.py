"""Manifests as people and programs may see them: no secret, whether written in the file or from the environment."""

from __future__ import annotations

from typing import Any, cast

from registry.manifest import Manifest, ProvidedManifest
from registry.references import redacted
from registry.wording import sounds_secret, without_userinfo

MASK = "**********"


def public(manifest: Manifest) -> dict[str, Any]:
    """A JSON-ready view of a manifest, flat as in YAML, defaults filled in and empty keys left out.

    What came from the environment is shown as its reference (`${NAME}`), secret values as asterisks, and the
    user and password of a URL as `***`.
    """
    said = manifest.model_dump(mode="json", exclude_none=True)
    if isinstance(manifest, ProvidedManifest):
        said |= manifest.options.model_dump(mode="json", exclude_none=True)
    for path, reference in manifest.references.items():
        _put(said, path, reference.text)
    return {key: _clean(value, manifest, key) for key, value in said.items() if value not in ({}, [], "")}


def _put(said: Any, path: tuple[str | int, ...], text: str) -> None:
    """Replace what stands at a key path, where the dump still has that path."""
    for step in path[:-1]:
        said = _step(said, step)
    if _step(said, path[-1]) is not None:
        said[path[-1]] = text


def _step(said: Any, step: str | int) -> Any:
    if isinstance(said, dict):
        return cast(dict[Any, Any], said).get(step)
    if isinstance(said, list) and isinstance(step, int) and step < len(cast(list[Any], said)):
        return cast(list[Any], said)[step]
    return None


def _clean(value: Any, manifest: Manifest, key: str) -> Any:
    if isinstance(value, str):
        text = redacted(value, manifest.references)
        return MASK if sounds_secret(key) and not text.startswith("${") else without_userinfo(text)
    if isinstance(value, dict):
        return {inner: _clean(item, manifest, inner) for inner, item in cast(dict[str, Any], value).items()}
    if isinstance(value, list):
        return [_clean(item, manifest, key) for item in cast(list[Any], value)]
    return value
