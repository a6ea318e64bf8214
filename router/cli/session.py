"""One run of `consilium up`: start, wait, show, ask, wait for the end, stop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from experts.errors import ConsiliumError
from experts.fleet.fleet import POLL_S, Fleet
from experts.fleet.process import Task
from router.cli.client import Client
from router.cli.output import Exit, complain, print_json, status_of
from router.cli.samples import Reply, Sample, asked
from router.cli.waiting import watching

if TYPE_CHECKING:
    from rich.console import Console

INTERRUPTED = 130
NOTICE_S = 30.0

READY = """[bold green]Ready[/] after {took:.0f} s: [bold]{url}[/]

[bold]Try it[/]

  curl {url}/v1/chat/completions -H 'content-type: application/json'{header} \\
    -d '{{"model": "{route}", "messages": [{{"role": "user", "content": "{question}"}}]}}'

  from openai import OpenAI
  client = OpenAI(base_url="{url}/v1", api_key="{key}")
  answer = client.chat.completions.create(
      model="{route}", messages=[{{"role": "user", "content": "{question}"}}]
  )
  print(answer.choices[0].message.content, answer._request_id)

  consilium ask --url {url} "{question}"
  consilium route --url {url} "{question}"
"""


@dataclass(frozen=True, slots=True)
class Display:
    """What people see on a console, or programs as one JSON object a line."""

    console: Console
    as_json: bool = False

    def ready(self, url: str, route: str, question: str, took: float, *, keyed: bool) -> None:
        if self.as_json:
            print_json({"event": "ready", "url": url, "took_s": round(took, 1)})
            return
        header = ' -H "authorization: Bearer $CONSILIUM_KEY"' if keyed else ""
        key = "YOUR KEY" if keyed else "none"
        said = READY.format(took=took, url=url, route=route, question=question, header=header, key=key)
        self.console.print(said, soft_wrap=True)

    def reply(self, reply: Reply) -> None:
        if self.as_json:
            print_json({"event": "sample", **reply.json()})
            return
        sign = "[green]✓[/]" if reply.right else "[red]✗[/]"
        sure = "" if reply.confidence is None else f", confidence {reply.confidence:.2f}"
        self.console.print(f"{sign} [bold]{reply.sample.question}[/]")
        self.console.print(f"  [cyan]{reply.expert}[/]{sure}, {reply.took_s:.2f} s", soft_wrap=True)
        for line in reply.text.splitlines():
            self.console.print(f"  {line}", markup=False, soft_wrap=True)
        if not reply.right:
            wanted = reply.sample.answer or "any answer"
            self.console.print(f"  expected {reply.sample.expert} to answer: {wanted}", soft_wrap=True)

    def say(self, event: str, text: str) -> None:
        if self.as_json:
            print_json({"event": event})
        else:
            self.console.print(text)


@dataclass(slots=True)
class Session:
    """`tasks` end with the gateway, which listens at `url`; `samples` are asked of `route`.

    `served` are the experts whose servers are among the tasks.
    """

    tasks: Sequence[Task]
    served: frozenset[str]
    samples: Sequence[Sample]
    route: str
    url: str
    key: str | None
    timeout_s: float

    async def run(self, show: Display, *, once: bool) -> int:
        """The exit status of `consilium up`. Nothing that was started is left when it returns."""
        main = asyncio.current_task()
        stopped = False

        def stop() -> None:
            nonlocal stopped
            if not stopped and main is not None:
                stopped = True
                show.say("stopping", "Stopping ...")
                main.cancel()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, stop)
        is_up = False
        try:
            async with Fleet(self.tasks) as fleet:
                with watching(show.console, quiet=show.as_json) as watch:
                    await fleet.ready(self.timeout_s, watch)
                await self._noticed()
                is_up = not once
                all_right = await self._shown(fleet, show)
                if once:
                    show.say("stopping", "Stopping ...")
                    return Exit.OK if all_right else Exit.NO
                show.say("running", "\nCtrl-C stops everything.")
                ended = await fleet.until_one_ends()
                raise ended.failure()
        except asyncio.CancelledError:
            return Exit.OK if is_up else INTERRUPTED
        except ConsiliumError as fault:
            complain(fault)
            return status_of(fault)

    async def _noticed(self) -> None:
        """Waits until the gateway's own health checks have seen that the servers are up, but not for long."""
        client = Client(self.url, self.key)
        with suppress(TimeoutError):
            async with asyncio.timeout(NOTICE_S):
                while self.served:
                    rows = (await client.json("GET", "/v1/experts"))["data"]
                    if self.served <= {row["name"] for row in rows if row["state"]["up"]}:
                        return
                    await asyncio.sleep(POLL_S)

    async def _shown(self, fleet: Fleet, show: Display) -> bool:
        """Says what to try, and asks the samples; whether every reply was right."""
        took = max((standing.took_s for standing in fleet.standing()), default=0.0)
        question = self.samples[0].question if self.samples else "Hello"
        show.ready(self.url, self.route, question, took, keyed=self.key is not None)
        all_right = True
        async for reply in asked(Client(self.url, self.key), self.samples, self.route):
            show.reply(reply)
            all_right = all_right and reply.right
        return all_right
