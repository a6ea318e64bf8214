"""What voices need: the part of a snapshot that is in force for them, and how their calls end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from experts.errors import ExpertError, Limited
from experts.language import Card, Query
from experts.protocols import Expert
from router.ledger import Limits
from router.plan import Plan
from router.worth import Composing

Aside = Callable[[Mapping[str, Any], bool], Awaitable[None]]
"""Tells the client how a composition goes, beside the answer; the flag: someone has answered, so it will not fail."""

Decide = Callable[[Query], Awaitable[Plan]]
"""The route's decision for a query that a composer poses."""


class InForce(Protocol):
    """The part of a snapshot that voices need."""

    @property
    def experts(self) -> Mapping[str, Expert]: ...

    @property
    def cards(self) -> Mapping[str, Card]: ...

    @property
    def limits(self) -> Mapping[str, Limits]: ...

    def abilities_of(self, route: str) -> Mapping[str, float]: ...

    def composing_of(self, route: str) -> Composing: ...


async def cancelled(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancel what still runs, and wait until it has let go of its connections."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)  # unlike awaiting each, it lets a cancellation of the caller through
    for task in tasks:
        if not task.cancelled():
            task.result()


def full(expert: str) -> ExpertError:
    """The failure of an expert that has no room for another call."""
    fault = ExpertError(f"expert {expert} has as many calls under way as its manifest allows", expert=expert)
    fault.status, fault.type, fault.code = Limited.status, Limited.type, "expert_full"
    return fault
