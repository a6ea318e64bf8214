"""Reading streams, for tests."""

from __future__ import annotations

from typing import Any

import orjson


def delta_texts(events: bytes) -> str:
    """The text that a piece of a stream adds to the first choice."""
    text: list[str] = []
    for event in events.split(b"\n\n"):
        start = event.find(b"{")
        if start < 0 or not event.startswith(b"data:"):
            continue
        choices: list[dict[str, Any]] = orjson.loads(event[start:]).get("choices") or []
        for choice in choices:
            delta: dict[str, Any] = choice.get("delta") or {}
            if choice.get("index", 0) == 0:
                text.append(delta.get("content") or choice.get("text") or "")
    return "".join(text)
