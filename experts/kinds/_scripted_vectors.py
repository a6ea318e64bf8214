"""Embeddings of a scripted expert: unit vectors that depend on nothing but the text (or token ids)."""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Sequence
from typing import Any

import orjson

DIMENSIONS = 16


def items_of(given: Any) -> list[Any]:
    """What an `input` asks to embed: texts, or lists of token ids."""
    items: list[Any] = given if isinstance(given, list) and not isinstance(given[:1], int) else [given]  # pyright: ignore[reportUnknownVariableType]
    return [items] if items and isinstance(items[0], int) else items


def embeddings(items: Sequence[Any], size: int, *, packed: bool) -> list[dict[str, Any]]:
    """OpenAI's `data`; `packed`: in base64."""
    data: list[dict[str, Any]] = []
    for index, item in enumerate(items):
        vector = _vector(orjson.dumps(item), size)
        value = base64.b64encode(struct.pack(f"<{size}f", *vector)).decode() if packed else vector
        data.append({"object": "embedding", "index": index, "embedding": value})
    return data


def _vector(seed: bytes, size: int) -> list[float]:
    raw = hashlib.shake_128(seed).digest(2 * size)
    values = [value - 32767.5 for value in struct.unpack(f"<{size}H", raw)]
    length = sum(value * value for value in values) ** 0.5
    return [value / length for value in values]
