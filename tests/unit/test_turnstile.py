"""Calls of compositions start one a pass of the loop, so that nobody else waits for all of them."""

from __future__ import annotations

import asyncio

from router.turnstile import Turnstile


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
