"""`consilium eval compose`: the command, and its table in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from evals.cli_options import (
    DEFAULT_MODEL,
    DEFAULT_RUNTIME,
    Encoder,
    HtmlFile,
    JsonFile,
    OutcomesPath,
    Runtime,
    Seed,
    Shape,
    Splits,
    Test,
    Threads,
    bars,
    complaints,
    settings_of,
)

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 24


def compose(
    outcomes: OutcomesPath,
    fit: Splits = "train,validation",
    test: Test = "test",
    quick: Annotated[
        bool, typer.Option("--quick", help="Run no code, and compare expressions as they are spelled.")
    ] = False,
    json: JsonFile = None,
    html: HtmlFile = None,
    shape: Shape = "auto",
    encoder: Encoder = DEFAULT_MODEL,
    runtime: Runtime = DEFAULT_RUNTIME,
    threads: Threads = 1,
    seed: Seed = 0,
) -> None:
    """Replay recorded answers through votes, a cascade and `compose: auto`, beside single experts and routing.

    Needs what the experts said: responses.jsonl(.gz) beside the outcomes (id, model, response), or `answers` in them.
    Everything is fitted on the fit splits and judged on the test split; nobody is asked. The first run reads all
    answers (solving equations, running code on the tests that a question states) and keeps what it found.

    [bold]Examples[/]

      consilium eval compose --outcomes outcomes/
      consilium eval compose -o outcomes/ --quick --json compose.json --html compose.html
    """
    with complaints():
        from evals.composing import compose as replayed
        from evals.report import write_json, write_text
        from router.cli.output import screen

        settings = settings_of(outcomes, shape, fit, test, encoder, runtime, threads, seed)
        with bars() as progress:
            found = replayed(settings, progress, quick=quick).document
        show(found, screen())
        if json is not None:
            write_json(found, json)
        if html is not None:
            from evals.report.compose_page import page

            write_text(page(found), html)


def show(document: dict[str, Any], console: Console) -> None:
    """Quality of every policy by task, and bars of the mean over tasks beside the calls that it took."""
    from rich.table import Table

    rows = document["rows"]
    tasks = [row["task"] for row in rows if row["policy"] == rows[0]["policy"]]
    title = f"{document['dataset']}: {document['n']:,} test queries, {len(document['experts'])} experts, quality in %"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("policy", no_wrap=True)
    for name in (*tasks, "95 %", "calls", "tokens", "cost"):
        table.add_column(name, justify="right", no_wrap=True)
    macro = {row["policy"]: row for row in rows if row["task"] == "macro"}
    for policy, whole in macro.items():
        by_task = {row["task"]: row["quality"] for row in rows if row["policy"] == policy}
        low, high = whole["ci95"]
        table.add_row(
            policy, *(f"{100 * by_task[task]:.1f}" for task in tasks), f"{100 * low:.1f}-{100 * high:.1f}",
            f"{whole['calls']:.2f}", f"{whole['tokens']:.0f}", f"{whole['cost']:.4f}",
            style="bold" if policy == "auto" else "dim" if policy == "oracle" else "",
        )  # fmt: skip
    console.print(table)
    _bars(macro, console)
    console.print(f"self-ablation: {document['self_ablation']['why']}", style="dim", soft_wrap=True)
    lead = document["dominates"]
    worst = min(lead["lead"], key=lead["lead"].__getitem__)
    console.print(
        f"the curve of auto lies {'above' if lead['everywhere'] else 'NOT everywhere above'} every single expert at "
        f"its cost (least lead: {100 * lead['lead'][worst]:+.1f} points on {worst})", soft_wrap=True,
    )  # fmt: skip
    for note in document["notes"]:
        console.print(f"note: {note}", style="yellow", markup=False)


def _bars(macro: dict[str, dict[str, Any]], console: Console) -> None:
    """The mean over tasks from the worst policy to the oracle, and calls."""
    low = min(row["quality"] for row in macro.values()) - 0.02
    span = max(max(row["quality"] for row in macro.values()) - low, 1e-9)
    for policy, row in macro.items():
        filled = round(WIDTH * (row["quality"] - low) / span)
        console.print(
            f"{policy:>16} {'█' * filled}{'·' * (WIDTH - filled)} {100 * row['quality']:.1f} at "
            f"{row['calls']:.2f} calls",
            highlight=False,
        )  # fmt: skip
