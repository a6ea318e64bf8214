"""`consilium fusion`: several models that speak one text together. Nothing heavy is imported before a command runs."""

import typer

from router.cli import fusion_build, fusion_train

app = typer.Typer(
    help="Several models that speak one text together, token by token: train their router, make one checkpoint.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
app.command("build")(fusion_build.build)
app.command("inspect")(fusion_build.inspect)
app.command("train")(fusion_train.train)
app.command("average")(fusion_build.average)
