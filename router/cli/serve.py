"""`consilium serve`: one gateway on one registry."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from router.cli.options import ConfigFile, Outcomes, Registry


def serve(
    registry: Registry = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.", show_default="8080")] = None,
    outcomes: Outcomes = None,
    config: ConfigFile = None,
    state: Annotated[Path | None, typer.Option(metavar="DIR", help="Keeps decisions and measured outcomes.")] = None,
    artifact: Annotated[Path | None, typer.Option(metavar="DIR", help="Fitted routers; see `consilium fit`.")] = None,
    log_queries: Annotated[bool | None, typer.Option("--log-queries", help="Keep texts in the decision log.")] = None,
    keep_decisions: Annotated[int | None, typer.Option(help="Decisions kept.", show_default="200000")] = None,
    keys: Annotated[Path | None, typer.Option(metavar="FILE", help="API keys; see `consilium keys new`.")] = None,
    redis_url: Annotated[str | None, typer.Option(metavar="URL", help="State shared by several gateways.")] = None,
    max_body_bytes: Annotated[int | None, typer.Option(help="Longest request taken.", show_default="20 MiB")] = None,
    rpm: Annotated[int | None, typer.Option(help="Requests a minute for a key that sets no limit.")] = None,
    concurrency: Annotated[int | None, typer.Option(help="Requests at once for a key that sets no limit.")] = None,
    encoder_threads: Annotated[int | None, typer.Option(help="Threads of the query encoder.", show_default="1")] = None,
    cache_size: Annotated[int | None, typer.Option(help="Embeddings remembered.", show_default="10000")] = None,
    drain_s: Annotated[float | None, typer.Option(help="Seconds to finish at a stop.", show_default="10")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.", show_default="info")] = None,
    log_format: Annotated[str | None, typer.Option(help="json or text.", show_default="json")] = None,
) -> None:
    """Run a gateway on a registry, whose experts are already served somewhere.

    Settings come from a file (consilium.yaml), then the environment (CONSILIUM_PORT, …), then these flags; the last
    one wins. Secrets (CONSILIUM_API_KEYS, CONSILIUM_ADMIN_KEY) have no flag: others could read it in `ps`.

    [bold]Examples[/]

      consilium serve --registry experts.yaml
      consilium serve --registry registry/ --outcomes outcomes.jsonl.gz --port 9000
      consilium serve --registry registry/ --host 0.0.0.0 --keys keys.yaml
    """
    flags = {name: value for name, value in locals().items() if name != "config"}
    from router.config import load_config

    settings = load_config(flags, config)
    from router.serve import run

    run(settings)
