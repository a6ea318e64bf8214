"""Showing how a fleet comes up: a live table for people, a line at each change for logs, nothing for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from experts.fleet.fleet import Standing, State
from experts.fleet.process import tail

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

LINE_EVERY_S = 15.0


class Watch(Protocol):
    def __call__(self, standings: Sequence[Standing], /) -> None: ...


@contextmanager
def watching(console: Console, *, quiet: bool = False) -> Iterator[Watch]:
    """Gives the function to call with how every process stands, several times a second."""
    if quiet:
        yield lambda standings: None
    elif console.is_terminal:
        from rich.live import Live

        with Live(console=console, refresh_per_second=8, transient=True) as live:
            yield lambda standings: live.update(_table(standings))
    else:
        yield _Lines(console)


def _table(standings: Sequence[Standing]) -> Table:
    from rich.spinner import Spinner
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    for _ in range(4):
        table.add_column()
    table.add_column(no_wrap=True, overflow="ellipsis", style="dim")
    for standing in standings:
        signs = {State.STARTING: Spinner("dots"), State.READY: Text("✓", "green"), State.ENDED: Text("✗", "red")}
        table.add_row(
            signs[standing.state], standing.task.name, standing.state.value, f"{standing.took_s:.0f} s",
            Text(tail(standing.task.log, 1) if standing.state is State.STARTING else str(standing.task.log)),
        )  # fmt: skip
    return table


class _Lines:
    """Says what changed since the last call, and every so often that it is still waiting, and for whom."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._known: dict[str, State] = {}
        self._said_s = 0.0

    def __call__(self, standings: Sequence[Standing], /) -> None:
        for standing in standings:
            name = standing.task.name
            if self._known.get(name) is not standing.state:
                self._known[name] = standing.state
                after = "" if standing.state is State.STARTING else f" after {standing.took_s:.0f} s"
                self._console.print(f"{name}: {standing.state.value}{after} (log: {standing.task.log})", soft_wrap=True)
        waited = [standing for standing in standings if standing.state is State.STARTING]
        if waited and waited[0].took_s - self._said_s >= LINE_EVERY_S:
            self._said_s = waited[0].took_s
            names = ", ".join(standing.task.name for standing in waited)
            self._console.print(f"waiting for {names}: {self._said_s:.0f} s")
