"""Options that the commands of `consilium eval` share, and how they speak: errors in one line, progress in one bar."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from evals.routing import Progress, Settings

OutcomesPath = Annotated[
    Path, typer.Option("--outcomes", "-o", metavar="PATH", help="An outcome set: a file or folder, of any known shape.")
]
Shape = Annotated[str, typer.Option("--format", metavar="NAME", help="The shape of the files; auto recognises it.")]
Splits = Annotated[str, typer.Option("--fit", metavar="SPLITS", help="Splits to fit on, separated by commas.")]
Test = Annotated[str, typer.Option("--test", metavar="SPLITS", help="Splits to judge on.")]
Encoder = Annotated[str, typer.Option("--encoder", metavar="MODEL", help="The model that embeds queries.")]
Runtime = Annotated[str, typer.Option("--runtime", metavar="NAME", help="onnx-int8, onnx or torch.")]
Threads = Annotated[int, typer.Option("--threads", min=1, help="Threads for embedding.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of everything that is drawn.")]
JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the report as JSON.")]
HtmlFile = Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write one page to look at.")]
Estimator = Annotated[
    str | None, typer.Option("--estimator", metavar="NAME[:K=V,…]", help="The estimator; default: a route's own.")
]
Policy = Annotated[str | None, typer.Option("--policy", metavar="NAME[:K=V,…]", help="The policy; likewise.")]

DEFAULT_MODEL, DEFAULT_RUNTIME = "all-MiniLM-L6-v2", "onnx-int8"


def names_in(text: str) -> tuple[str, ...]:
    """Names separated by commas; of two that are equal, one."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def splits_of(text: str) -> tuple[str, ...]:
    """Names separated by commas. Raises ConfigError where there is none."""
    from experts.errors import ConfigError

    found = names_in(text)
    if not found:
        raise ConfigError("splits: expected at least one name, got none")
    return found


def settings_of(
    outcomes: Path, shape: str, fit: str, test: str, encoder: str, runtime: str, threads: int, seed: int
) -> Settings:
    """What is fitted and judged on what, with the route's own estimator and policy. Raises ConfigError."""
    from evals.routing import Settings

    return Settings(
        outcomes, shape, splits_of(fit), splits_of(test), (), encoder=encoder, runtime=runtime, threads=threads,
        seed=seed,
    )  # fmt: skip


@contextmanager
def complaints() -> Iterator[None]:
    """Errors as the other commands give them: one line on standard error, and the exit status that they mean."""
    from experts.errors import ConsiliumError
    from router.cli.output import complain, status_of

    try:
        yield
    except ConsiliumError as fault:
        complain(fault)
        raise typer.Exit(status_of(fault)) from fault


@contextmanager
def bars() -> Iterator[Progress]:
    """Progress on standard error while something runs: a spinner for steps, a bar with its end in sight for texts."""
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    from evals.routing import Progress
    from router.cli.output import screen

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"),
               TimeElapsedColumn(), TimeRemainingColumn())  # fmt: skip
    with Bars(*columns, console=screen(errors=True), transient=True) as shown:
        task = shown.add_task("starting", total=None)

        def step(what: str) -> None:
            shown.update(task, description=what, total=None, completed=0)

        def embedding(done: int, of: int) -> None:
            shown.update(task, completed=done, total=of)

        yield Progress(embedding, step)
