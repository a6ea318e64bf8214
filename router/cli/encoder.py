"""`consilium encoder`: the encoder that turns queries into vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from router.cli.options import Json

app = typer.Typer(help="Prepare the encoder that turns queries into vectors.", no_args_is_help=True)


@app.callback()
def encoder() -> None:
    """Prepare the encoder that turns queries into vectors."""


@app.command()
def export(
    model: Annotated[
        str, typer.Option("--model", "-m", help="A sentence-transformers model: a hub name or a folder.")
    ] = "all-MiniLM-L6-v2",
    runtime: Annotated[str, typer.Option(help="onnx-int8 or onnx.")] = "onnx-int8",
    cache: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where it goes.", show_default="CONSILIUM_CACHE, or ~/.cache/consilium"),
    ] = None,
    json: Json = False,
) -> None:
    """Export an encoder to ONNX ahead of time, so that a gateway without torch can load it.

    A gateway does the same on first use, where torch is installed; images and machines without it need this first.

    [bold]Examples[/]

      consilium encoder export
      consilium encoder export --model ./my-encoder --runtime onnx
      consilium encoder export --cache /srv/cache    for a gateway with CONSILIUM_CACHE=/srv/cache
    """
    from experts.errors import ConfigError
    from experts.retrieval.encoders import EXPORTED, open_encoder
    from router.cli.output import print_json, screen

    if runtime not in EXPORTED:
        raise ConfigError(f"--runtime: expected {' or '.join(EXPORTED)}, got {runtime!r}; others need no export")
    opened = open_encoder(model, runtime, threads=1, cache=cache)
    vectors = opened.encode(["Is it there?"])
    if json:
        print_json({"fingerprint": opened.fingerprint, "dimensions": vectors.shape[1]})
    else:
        screen().print(f"[green]ready:[/] {opened.fingerprint}, {vectors.shape[1]} dimensions")
