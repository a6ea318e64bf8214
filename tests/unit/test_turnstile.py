"""Calls of compositions start one a pass of the loop, so that nobody else waits for all of them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson

from experts.protocols import silent
from experts.wire import parse
from registry.load import load
from router.local import open_router
from router.run import Run
from router.telemetry import Log, Telemetry
from router.turnstile import Turnstile

WORLD = """
kind: expert
name: quick
provider: scripted
description: quick
text: four
---
kind: route
name: auto
experts: "*"
estimator: prior
"""


async def test_one_starts_a_pass_in_the_order_of_coming() -> None:
    turnstile, started = Turnstile(), list[tuple[int, int]]()
    passes = 0

    async def counting() -> None:
        nonlocal passes
        while len(started) < 6:
            passes += 1
            await asyncio.sleep(0)

    async def call(number: int) -> None:
        await turnstile.enter()
        started.append((number, passes))

    await asyncio.gather(counting(), *(call(number) for number in range(6)))
    assert [number for number, _ in started] == list(range(6))
    at = [when for _, when in started]
    assert len(set(at)) == len(at)


async def test_who_left_the_queue_holds_up_nobody() -> None:
    turnstile, started = Turnstile(), list[int]()

    async def call(number: int) -> None:
        await turnstile.enter()
        started.append(number)

    tasks = [asyncio.create_task(call(number)) for number in range(5)]
    await asyncio.sleep(0)
    for task in tasks[1:4]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert started == [0, 4]
    await asyncio.wait_for(call(9), 1)
    assert started[-1] == 9


async def test_requests_that_arrive_at_once_are_decided_on_one_a_pass(tmp_path: Path) -> None:
    (tmp_path / "registry.yaml").write_text(WORLD)
    decided_in: list[int] = []
    passes, single_in, wanted = 0, 0, 20
    async with open_router(load(tmp_path / "registry.yaml"), telemetry=Telemetry(Log(level="error"))) as router:

        async def asked(model: str, number: int) -> None:
            nonlocal single_in
            body = {"model": model, "messages": [{"role": "user", "content": f"Number {number}?"}]}
            query = parse("chat", orjson.dumps(body), f"q{number}")
            if model == "quick":
                await router.answer(query, silent, Run(query.id))
                single_in = passes
            else:
                await router.plan(query, Run(query.id))
                decided_in.append(passes)

        async def counting() -> None:
            nonlocal passes
            while len(decided_in) < wanted or not single_in:
                passes += 1
                await asyncio.sleep(0)

        await asyncio.gather(counting(), *(asked("auto", number) for number in range(wanted)), asked("quick", wanted))
    assert len(set(decided_in)) == wanted
    assert single_in < decided_in[-1]
