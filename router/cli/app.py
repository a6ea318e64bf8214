"""The commands, gathered. Nothing here imports what a command needs to run: `consilium --help` is immediate."""

from __future__ import annotations

import typer

from router.cli import ask, check, encoder, experts, fit, fusion, index, keys, retriever, route, serve, up, version
from router.cli.plugins import CommandsWithPlugins

HELP = """One OpenAI-compatible gateway in front of many expert language models.

[bold]Start here[/]

  consilium up --pocket                     real experts on this machine, no GPU needed
  consilium ask "What is 17 * 23?"          ask them; the router picks the expert
  consilium route "What is 17 * 23?" -r DIR explain a decision, asking nobody

Exit status: 0 fine; 1 the answer is no; 2 wrong usage or configuration; 3 gateway not reachable; 4 it answered with
an error; 130 interrupted.
"""

app = typer.Typer(
    cls=CommandsWithPlugins, help=HELP, no_args_is_help=True, rich_markup_mode="rich", pretty_exceptions_enable=False
)
app.command("up")(up.up)
app.command("serve")(serve.serve)
app.command("ask")(ask.ask)
app.command("route")(route.route)
app.add_typer(experts.app, name="experts")
app.command("check")(check.check)
app.command("fit")(fit.fit)
app.add_typer(keys.app, name="keys")
app.add_typer(encoder.app, name="encoder")
app.add_typer(fusion.app, name="fusion")
app.add_typer(index.app, name="index")
app.add_typer(retriever.app, name="retriever")
app.command("version")(version.version)
