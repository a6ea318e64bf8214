"""Where decisions and outcomes are kept. Every call blocks: callers on an event loop use a thread."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from experts.errors import ConsiliumError
from router.records.rows import Decision, Measured


class Unrecorded(ConsiliumError):
    """The store of decisions and outcomes cannot be read or written just now."""

    status = 503
    type = "service_unavailable"
    code = "records_unavailable"


class Records(Protocol):
    """Decisions and outcomes, shared by every process that opens the same place. All calls raise Unrecorded.

    `log` keeps at most the newest decisions that it was opened to keep. `measure` replaces rows with the same key.
    What a call has written survives the death of its process.
    """

    def log(self, decisions: Sequence[Decision]) -> None: ...

    def decision(self, decision_id: str) -> Decision | None: ...

    def decisions(self, route: str | None = None) -> Iterator[Decision]:
        """Oldest first; of one route where one is named."""
        ...

    def measure(self, outcomes: Sequence[Measured]) -> None: ...

    def measured(self) -> list[Measured]:
        """One row a key, in the order in which keys were first measured."""
        ...

    def close(self) -> None: ...
