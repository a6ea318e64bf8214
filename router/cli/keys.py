"""`consilium keys`: API keys."""

from __future__ import annotations

from typing import Annotated

import typer

from router.cli.options import Json

app = typer.Typer(help="Make API keys.", no_args_is_help=True)


@app.callback()
def keys() -> None:
    """Make API keys."""


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Whose key it is; shown in logs.")],
    json: Json = False,
) -> None:
    """Make a key. It is shown once; the gateway is given only its hash.

    [bold]Example[/]

      consilium keys new ci                  shows the key, and prints the entry for the keys file
      consilium keys new ci >> keys.yaml     the entry goes there; the key is only shown
    """
    from router.cli.output import print_json, screen
    from router.keys import hash_of, new_token

    token = new_token()
    entry = {"name": name, "hash": hash_of(token), "routes": "*", "experts": "*"}
    if json:
        print_json({"key": token, "entry": entry})
        return
    import yaml

    screen(errors=True).print("The key, shown only now:")
    typer.echo(token, err=True)
    screen(errors=True).print("\nIts entry for the file that `--keys` names:")
    typer.echo(yaml.safe_dump([entry], sort_keys=False), nl=False)
