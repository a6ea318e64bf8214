"""`consilium fusion build`, `inspect` and `average`. Nothing heavy is imported before they run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from experts.errors import ConfigError

if TYPE_CHECKING:
    from experts.fusion.config import FusionConfig


def build(
    router: Annotated[
        Path, typer.Option("--router", metavar="DIR", help="The model that picks and corrects, with its routing head.")
    ],
    expert: Annotated[
        list[str],
        typer.Option(
            "--expert", metavar="NAME=DIR", help="A model or a LoRA adapter, in the head's order. Repeatable."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to make.")],
    base: Annotated[Path | None, typer.Option("--base", metavar="DIR", help="The base of the adapters.")] = None,
    merge: Annotated[bool, typer.Option("--merge", help="Merge adapters into copies of their base.")] = False,
    always: Annotated[str, typer.Option("--always", metavar="NAME", help="No head: this expert speaks always.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Replace the folder if it is there.")] = False,
) -> None:
    """Make one checkpoint of a router and its experts, which vLLM serves like any other model.

    All members must have one tokenizer. LoRA adapters on one base share its weights, in the file and in memory; with
    --merge they do not, which tensor parallelism needs.

    [bold]Examples[/]

      consilium fusion build --router trained --expert calc=experts/calc --expert geo=experts/geo --out fused

      vllm serve ./fused --served-model-name fused
    """
    from experts.fusion import checkpoint
    from experts.fusion.naming import named

    made = checkpoint.build(router, named(expert), out, base=base, merge=merge, always=always, replace=force)
    _show(_facts(made.folder, checkpoint.read_config(made.folder)))
    typer.echo(f"serve it: vllm serve {out} --served-model-name {out.name}")


def inspect(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A fused model.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the members of a fused model, their sizes, and what the checkpoint asks of a registry."""
    from experts.fusion.checkpoint import read_config
    from router.cli.output import print_json

    facts = _facts(folder, read_config(folder))
    if as_json:
        print_json(facts)
    else:
        _show(facts)


def average(
    router: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Routers that went on from the same one.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to make.")],
) -> None:
    """Make one router of several: the mean of their weights.

    Train two or three that go on from the same router, or from one another, each on other data or with another --seed.
    The mean often reads wordings that none has seen better than each, and is served at the price of one. Compare them
    on questions that are not the test's.

    [bold]Examples[/]

      consilium fusion average runs/a runs/b runs/c --out trained
    """
    from experts.fusion import average as averaging

    averaging.average(router, out)
    typer.echo(f"{out}: the mean of {len(router)} routers; next: consilium fusion build --router {out} ...")


def _show(facts: dict[str, Any]) -> None:
    from rich.table import Table

    from router.cli.output import screen

    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("member", "architecture", "adapter on the base of", "parameters"):
        shown.add_column(column, justify="right" if column == "parameters" else "left")
    for member in facts["members"]:
        size = f"{member['parameters'] / 1e6:,.2f} M"
        shown.add_row(member["name"], member["architecture"], member["shares"], size)
    shown.add_row("in all", "", "", f"{facts['parameters'] / 1e6:,.2f} M")
    screen().print(shown)
    typer.echo(f"{facts['vocabulary']} tokens, context {facts['context'] or '?'}, tokenizer {facts['tokenizer']}")
    named = ", ".join(member["name"] for member in facts["members"][1:])
    typer.echo(f"in a registry: marks: {facts['marks']}, members: experts that stand for {named}, in this order")


def _facts(folder: Path, config: FusionConfig) -> dict[str, Any]:
    from experts.fusion.checkpoint import stored
    from experts.fusion.config import place

    counts: dict[str, int] = {}
    for key, tensor in stored(folder):
        where = key.split(".", 1)[0]
        counts[where] = counts.get(where, 0) + tensor.numel()
    members = [
        {"name": member.name, "architecture": (member.config.get("architectures") or ["?"])[0], "shares": member.shares,
         "rank": member.rank, "parameters": counts.get(place(index), 0)}
        for index, member in enumerate(config.listed())
    ]  # fmt: skip
    if not any(counts.values()):
        raise ConfigError(f"{folder}: its checkpoint is empty")
    return {
        "folder": str(folder), "members": members, "parameters": sum(counts.values()), "vocabulary": config.vocabulary,
        "marks": config.vocabulary,
        "context": getattr(config, "max_position_embeddings", None),
        "tokenizer": getattr(config, "tokenizer_fingerprint", ""),
    }  # fmt: skip
