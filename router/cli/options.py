"""Options that several commands share, so that they read the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_URL = "http://127.0.0.1:8080"

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of text for people.")]
Registry = Annotated[
    Path | None,
    typer.Option("--registry", "-r", metavar="PATH", help="A registry: a YAML file, or a folder of them."),
]
Outcomes = Annotated[
    Path | None,
    typer.Option("--outcomes", "-o", metavar="PATH", help="Measured outcomes to fit the router on: a file or folder."),
]
State = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="A gateway's state folder: the router that is fitted there is the one in force."),
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", "-c", metavar="FILE", help="Settings; default: consilium.yaml, if there.")
]
Url = Annotated[str, typer.Option("--url", envvar="CONSILIUM_URL", metavar="URL", help="Where the gateway listens.")]
ApiKey = Annotated[
    str | None,
    typer.Option("--key", envvar="CONSILIUM_KEY", metavar="KEY", help="API key (an admin key where one is needed)."),
]
