"""Who spoke which characters of an answer, kept as it is spoken: for a relay, and for any model that marks its tokens.

A caller gets them with `"consilium": {"voices": true}`: `consilium.spans` in the end, and on a stream an event
`consilium.progress` with `{"event": "speaking", "expert": …, "start": …}` before the first character of each.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

SPEAKING = "speaking"
"""The name of the event that says who begins to speak."""


@dataclass(slots=True)
class Span:
    """Characters `start` to `end` (excluded) of the answer's text, in `tokens` tokens.

    Of a fused model also: `changed`, how many of the tokens this expert alone would not have said, and `shift`, how far
    the router moved what it says, 0 to 1 a token, summed. None where nobody could move it.
    """

    expert: str
    start: int
    end: int
    tokens: int
    changed: int | None = None
    shift: float = 0.0

    def as_json(self) -> dict[str, Any]:
        said = {"expert": self.expert, "start": self.start, "end": self.end, "tokens": self.tokens}
        if self.changed is None:
            return said
        return {**said, "changed": self.changed, "shift": round(self.shift / max(self.tokens, 1), 3)}


@dataclass(slots=True)
class Spans:
    """The spans of one answer, in order and without gaps."""

    found: list[Span] = field(default_factory=list[Span])

    def spoke(
        self, expert: str, characters: int, tokens: int, changed: int | None = None, shift: float = 0.0
    ) -> Span | None:
        """Add what an expert spoke; the span that this begins, None where it goes on with its last one.

        What shows nothing, such as the end of an answer, begins no span.
        """
        last = self.found[-1] if self.found else None
        if last is not None and (last.expert == expert or not characters):
            last.end += characters
            last.tokens += tokens
            last.changed = changed if last.changed is None else last.changed + (changed or 0)
            last.shift += shift
            return None
        start = last.end if last else 0
        self.found.append(Span(expert, start, start + characters, tokens, changed, shift))
        return self.found[-1]

    @property
    def tokens(self) -> dict[str, int]:
        """Tokens by expert."""
        total: dict[str, int] = {}
        for span in self.found:
            total[span.expert] = total.get(span.expert, 0) + span.tokens
        return total

    def as_json(self) -> list[dict[str, Any]]:
        return [span.as_json() for span in self.found]
