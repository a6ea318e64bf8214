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
    """Characters `start` to `end` (excluded) of the answer's text, in `tokens` tokens."""

    expert: str
    start: int
    end: int
    tokens: int


@dataclass(slots=True)
class Spans:
    """The spans of one answer, in order and without gaps."""

    found: list[Span] = field(default_factory=list[Span])

    def spoke(self, expert: str, characters: int, tokens: int) -> Span | None:
        """Add what an expert spoke; the span that this begins, None where it goes on with its last one."""
        last = self.found[-1] if self.found else None
        if last is not None and last.expert == expert:
            last.end += characters
            last.tokens += tokens
            return None
        start = last.end if last else 0
        self.found.append(Span(expert, start, start + characters, tokens))
        return self.found[-1]

    @property
    def tokens(self) -> dict[str, int]:
        """Tokens by expert."""
        total: dict[str, int] = {}
        for span in self.found:
            total[span.expert] = total.get(span.expert, 0) + span.tokens
        return total

    def as_json(self) -> list[dict[str, Any]]:
        return [{"expert": s.expert, "start": s.start, "end": s.end, "tokens": s.tokens} for s in self.found]
