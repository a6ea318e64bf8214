"""`consilium route`: a decision, explained."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router.cli.options import ApiKey, ConfigFile, Json, Outcomes, Registry, State

if TYPE_CHECKING:
    from router.config import Config


def route(
    text: Annotated[str, typer.Argument(help="The question; - reads it from standard input.")],
    registry: Registry = None,
    outcomes: Outcomes = None,
    state: State = None,
    model: Annotated[str, typer.Option("--model", "-m", "--route", help="The route that decides.")] = "auto",
    url: Annotated[str | None, typer.Option("--url", metavar="URL", help="Ask a running gateway instead.")] = None,
    key: ApiKey = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Show who would answer a question, and why. Nobody is asked.

    Decides in this process on a registry, as a gateway with the same settings would: by the router that is fitted in
    its state folder, or on --outcomes, and says which. With --url, in a running gateway, as it stands there and now.

    [bold]Examples[/]

      consilium route --registry registry/ "Solve x^2 = 9"
      consilium route --registry registry/ --state var/ "Solve x^2 = 9"
      consilium route --registry registry/ --outcomes outcomes.jsonl.gz --json "Solve x^2 = 9"
      consilium route --url http://127.0.0.1:8080 "Solve x^2 = 9"
    """
    from router.cli.output import print_json

    question = sys.stdin.read() if text == "-" else text
    if url is not None:
        from router.cli.client import Client

        body = {"model": model, "messages": [{"role": "user", "content": question}]}
        decided = asyncio.run(Client(url, key).json("POST", "/v1/route", body))
    else:
        from router.config import load_config

        settings = load_config({"registry": registry, "outcomes": outcomes, "state": state}, config)
        decided = asyncio.run(decide(settings, model, question))
    if json:
        print_json(decided)
    else:
        _show(decided)


async def decide(settings: Config, model: str, question: str) -> dict[str, Any]:
    """A decision made here, as `POST /v1/route` gives it; `learned` says where the estimates come from."""
    import orjson

    from experts.wire import parse
    from router.explain import learned, plan_json
    from router.local import load_registry, open_router
    from router.run import Run
    from router.telemetry import Log, Telemetry

    body = orjson.dumps({"model": model, "messages": [{"role": "user", "content": question}]})
    query = parse("chat", body, "dec-0")
    async with open_router(
        load_registry(settings.registry), outcomes=settings.outcomes, artifact=settings.artifacts,
        telemetry=Telemetry(Log(level="warning")),
    ) as router:  # fmt: skip
        run = Run(query.id)
        plan, snapshot = await router.plan(query, run)
        return {**plan_json(plan), **learned(snapshot, plan), "decide_ms": round(run.decide_s * 1e3, 3)}


def _show(decided: dict[str, Any]) -> None:
    from rich.markup import escape
    from rich.table import Table

    from router.cli.output import screen

    chosen = {seat["expert"] for seat in decided["plan"]["seats"]}
    table = Table(box=None, pad_edge=False)
    table.add_column("expert")
    skilled = any("suitability" in row for row in decided["estimates"])
    figures = ("quality", "uncertainty", "cost_usd", "latency_ms", "score", *(["suitability"] if skilled else []))
    for column in ("quality", "±", "cost, USD", "latency, ms", "score", *(["by skill"] if skilled else [])):
        table.add_column(column, justify="right")
    for row in decided["estimates"]:
        table.add_row(
            f"[bold]{row['expert']}[/]" if row["expert"] in chosen else row["expert"],
            *(_number(row.get(name)) for name in figures),
        )
    console = screen()
    console.print(f"[bold]{', '.join(sorted(chosen))}[/] by {decided['plan']['composer']}: {decided['reason']}")
    if decided["estimates"]:
        console.print(table)
    if "learned" in decided:
        console.print(f"[dim]estimates from: {escape(decided['learned'])}[/]", soft_wrap=True)
    if decided.get("skills"):
        console.print(f"skills: {', '.join(decided['skills'])}")
    for name, why in decided["excluded"].items():
        console.print(f"[dim]{name} is out: {why}[/]")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
