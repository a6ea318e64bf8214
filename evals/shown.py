"""What live commands print: for people, or for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evals.ope import Evaluation


def told(found: dict[str, Any], *, json: bool) -> None:
    """A summary. The exit status is 4 where nobody answered anything."""
    import typer

    from router.cli.output import Exit, print_json

    if json:
        print_json(found)
    else:
        show(found)
    if found["n"] and found["errors"] == found["n"]:
        raise typer.Exit(Exit.FAILED)


def show(found: dict[str, Any]) -> None:
    from rich.markup import escape
    from rich.table import Table

    from router.cli.output import screen

    console = screen()
    low, high = found["ci95"]
    console.print(
        f"[bold]{escape(found['suite'])}[/]: score [bold]{found['score']:.3f}[/] "
        f"(95 % {low:.3f} to {high:.3f}) on {found['n']}"
        + (f", [red]{found['errors']} without an answer, counted as wrong[/]" if found["errors"] else "")
    )
    table = Table(box=None, pad_edge=False)
    for column in ("", "n", "score"):
        table.add_column(column, justify="left" if not column else "right")
    for kind in ("tasks", "expert_scores"):
        for name, row in found[kind].items():
            table.add_row(escape(name), str(row["n"]), f"{row['score']:.3f}")
        table.add_section()
    console.print(table)
    if "aggregation" in found:
        able = ", ".join(f"{escape(name)} {score:.2f}" for name, score in found["aggregation"].items())
        console.print(
            f"aggregating, over {found['panels']} panels of three answers: {able or 'no panel could be made'}"
        )
    cost = "" if found["cost_usd"] is None else f", {found['cost_usd']:.4g} USD"
    late = found["latency_ms"]
    took = f", median {late['p50']:.0f} ms, 95th percentile {late['p95']:.0f} ms" if late else ""
    console.print(f"{found['prompt_tokens']} + {found['completion_tokens']} tokens{cost}{took}")
    for message in found["first_errors"]:
        console.print(f"[red]error:[/] {escape(message)}", soft_wrap=True)
    console.print(f"[dim]{escape(found['out'])}[/]" if found.get("out") else "", soft_wrap=True)


def show_evaluation(found: Evaluation) -> None:
    from rich.table import Table

    from router.cli.output import screen

    console, table = screen(), Table(box=None, pad_edge=False)
    for column in ("", "value", "95 %"):
        table.add_column(column, justify="left" if not column else "right")
    for name, label in (("logged", "as logged"), ("ips", "IPS"), ("snips", "self-normalised IPS"),
                        ("dr", "doubly robust"), ("gain", "gain (doubly robust)")):  # fmt: skip
        one = getattr(found, name)
        table.add_row(label, f"{one.value:.4f}", f"{one.low:.4f} to {one.high:.4f}")
    console.print(table)
    console.print(f"{found.n} rated decisions, worth {found.effective:.0f} of the judged policy's own; largest weight "
                  f"{found.largest_weight:.1f}; it agrees with {found.agrees:.0%} of the choices")  # fmt: skip
    if not found.telling:
        console.print(
            f"[yellow]{found.explored} decisions were explored: too few to tell a gain from chance, gather more[/]"
        )
    if found.unsupported:
        console.print(
            f"[yellow]for {found.unsupported:.0%} of the decisions its choice had no chance of being made: there these "
            "figures lean on the estimates; let the route explore (`explore: 0.05`)[/]"
        )
    for why, count in found.skipped.items():
        console.print(f"[dim]left out: {count} {why}[/]")
