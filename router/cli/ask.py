"""`consilium ask`: one question to a running gateway."""

from __future__ import annotations

import asyncio
import sys
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router.cli.options import DEFAULT_URL, ApiKey, Json, Url
from router.spans import SPEAKING

_PALETTE = ("cyan", "yellow", "magenta", "green", "blue", "red")

if TYPE_CHECKING:
    from router.cli.client import Client


def ask(
    text: Annotated[str, typer.Argument(help="The question; - reads it from standard input.")],
    model: Annotated[
        str, typer.Option("--model", "-m", "--route", help="A route (auto, auto:cheap, …), or one expert.")
    ] = "auto",
    url: Url = DEFAULT_URL,
    key: ApiKey = None,
    system: Annotated[str | None, typer.Option("--system", "-s", help="A system message before it.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Longest answer, in tokens.")] = None,
    temperature: Annotated[float | None, typer.Option(min=0, help="0 for the likeliest answer.")] = None,
    compose: Annotated[
        str | None, typer.Option("--compose", metavar="NAME", help="auto, single, council, cascade, best-of, race, …")
    ] = None,
    budget_calls: Annotated[int | None, typer.Option(min=1, help="Most calls to experts.")] = None,
    budget_tokens: Annotated[int | None, typer.Option(min=1, help="Most tokens, in and out, of all calls.")] = None,
    budget_usd: Annotated[float | None, typer.Option(help="Most USD.")] = None,
    budget_ms: Annotated[float | None, typer.Option(help="Most milliseconds.")] = None,
    show: Annotated[
        str | None, typer.Option("--show", metavar="voices", help="voices: colour the words by who spoke them.")
    ] = None,
    json: Json = False,
) -> None:
    """Ask a running gateway, and show the answer as it comes.

    The answer goes to standard output; who gave it, and how sure the router was of that choice, to standard error.

    [bold]Examples[/]

      consilium ask "What is 17 * 23?"
      consilium ask --model geo "Capital of Peru?"
      consilium ask --compose council --budget-calls 4 "Which is larger, 9.11 or 9.9?"
      consilium ask --compose relay --show voices "What is the capital of Peru?"
      consilium ask --json "Reverse the word stone" | jq .consilium.expert
    """
    from router.cli.client import Client
    from router.cli.output import print_json

    if show not in (None, "voices"):
        raise typer.BadParameter(f"expected voices, got {show!r}", param_hint="--show")
    question = sys.stdin.read() if text == "-" else text
    turns = [{"role": "system", "content": system}] if system else []
    body: dict[str, Any] = {"model": model, "messages": [*turns, {"role": "user", "content": question}]}
    body |= {
        name: value for name, value in (("max_tokens", max_tokens), ("temperature", temperature)) if value is not None
    }
    limits = {"calls": budget_calls, "tokens": budget_tokens, "usd": budget_usd, "ms": budget_ms}
    wish: dict[str, Any] = {"budget": {name: value for name, value in limits.items() if value is not None}}
    body["consilium"] = {
        "explain": True,
        **wish,
        **({"voices": True} if show else {}),
        **({"compose": compose} if compose else {}),
    }
    client = Client(url, key)
    if json:
        print_json(asyncio.run(whole(client, body)))
    else:
        asyncio.run(_show(client, body))


async def whole(client: Client, body: dict[str, Any]) -> dict[str, Any]:
    """The OpenAI response, with the `consilium` object that says how it was decided."""
    return await client.json("POST", "/v1/chat/completions", {"consilium": True, **body})


async def _show(client: Client, body: dict[str, Any]) -> None:
    from rich.text import Text

    from router.cli.client import events
    from router.cli.output import screen

    started = perf_counter()
    decided: dict[str, Any] = {}
    said, colours = screen(), Colours()
    async with client.call("POST", "/v1/chat/completions", {"consilium": True, **body, "stream": True}) as response:
        async for event in events(response):
            found: dict[str, Any] = event.get("consilium") or {}
            if progress := found.get("progress"):
                colours.speaks(progress)
                continue
            decided = found or decided
            for choice in event.get("choices") or ():
                delta: dict[str, Any] = choice.get("delta") or {}
                text: str = delta.get("content") or ""
                if colours.now:
                    said.print(Text(text, style=colours.now), end="", soft_wrap=True)
                else:
                    sys.stdout.write(text)
                sys.stdout.flush()
    sys.stdout.write("\n")
    console = screen(errors=True)
    for expert, style in colours.of.items():
        console.print(Text(expert, style=style))
    for line in voices(decided):
        console.print(f"[dim]{line}[/]", highlight=False)
    console.print(f"[dim]{signature(decided)} in {perf_counter() - started:.2f} s[/]")


class Colours:
    """A colour for each expert that speaks, in the order in which they first do. `now` is the speaker's."""

    def __init__(self) -> None:
        self.of: dict[str, str] = {}
        self.now = ""

    def speaks(self, progress: dict[str, Any]) -> None:
        """Take an event of `consilium.progress`; those that tell no speaker change nothing."""
        if progress.get("event") == SPEAKING:
            expert = str(progress["expert"])
            self.now = self.of.setdefault(expert, _PALETTE[len(self.of) % len(_PALETTE)])


def voices(decided: dict[str, Any]) -> list[str]:
    """A line for each call of an answer that took several, then what the composer found, and what ended the budget."""
    spoke: list[dict[str, Any]] = decided.get("voices") or []
    lines = [
        f"{one['expert']} ({one['role']}): {one['error'] or str(one['completion_tokens']) + ' tokens'}, "
        f"{one['took_ms']:.0f} ms, {one['cost_usd']:.2g} USD"
        for one in spoke
        if len(spoke) > 1
    ]
    found: dict[str, Any] = decided.get("compose") or {}
    lines += [f"{name.replace('_', ' ')}: {value}" for name, value in found.items() if name != "steps"]
    budget: dict[str, Any] = decided.get("budget") or {}
    if budget.get("ended_by"):
        lines.append(f"the budget of {budget['ended_by']} was spent: this is what there was by then")
    return lines


def signature(decided: dict[str, Any]) -> str:
    """`calc, by route auto (confidence 0.97)`, as far as the decision says."""
    said = str(decided.get("expert") or "unknown")
    if decided.get("route"):
        said += f", by route {decided['route']}"
    if decided.get("confidence") is not None:
        said += f" (confidence {decided['confidence']:.2f})"
    return said
