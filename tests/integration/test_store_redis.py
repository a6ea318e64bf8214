"""Several gateways over one real Redis, and what happens when it, or one of them, is killed."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from experts.errors import Limited
from router.ledger import Ledger
from router.store.redis import CALL_S, HOLD, RedisStore

pytestmark = [pytest.mark.redis, pytest.mark.integration]


class Server:
    """A redis-server process on a Unix socket."""

    def __init__(self, program: str, folder: Path) -> None:
        self.path = folder / "s"
        self.url = f"unix://{self.path}"
        self._command = [program, "--port", "0", "--unixsocket", str(self.path), "--save", "", "--dir", str(folder)]
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        while "eady to accept connections" not in (line := self._process.stdout.readline()):
            assert line, "redis-server ended before it was ready"

    def kill(self) -> None:
        if self._process is not None:
            assert self._process.stdout is not None
            self._process.kill()
            self._process.wait(10)
            self._process.stdout.close()
            self._process = None

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    program = shutil.which("redis-server")
    if program is None:
        if os.environ.get("CONSILIUM_REQUIRE") == "all":
            pytest.fail("redis-server is not installed, and here nothing may be skipped")
        pytest.skip("redis-server is not installed")
    started = Server(program, tmp_path_factory.mktemp("redis"))
    started.start()
    yield started
    started.kill()


@pytest.fixture
async def stores(server: Server) -> AsyncIterator[Callable[..., RedisStore]]:
    made: list[RedisStore] = []

    def make(call_s: float = 60.0) -> RedisStore:
        made.append(RedisStore(server.url, call_s=call_s))
        return made[-1]

    yield make
    for store in made:
        await store.close()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await condition():
            await asyncio.sleep(0.02)


Make = Callable[..., RedisStore]


async def test_two_gateways_share_one_limit(stores: Make):
    one, two = stores(), stores()
    assert await one.enter("k", most=3, ttl_s=30)
    assert await two.enter("k", most=3, ttl_s=30)
    assert await one.enter("k", most=3, ttl_s=30)
    assert not await two.enter("k", most=3, ttl_s=30)
    assert await one.count("k") == await two.count("k") == 3
    await one.leave("k")
    assert await two.enter("k", most=3, ttl_s=30)
    assert await one.take("r", capacity=2, per_s=0.01) == 0.0
    assert await two.take("r", capacity=2, per_s=0.01) == 0.0
    assert await one.take("r", capacity=2, per_s=0.01) > 90
    await one.put("v", b"x", ttl_s=30)
    assert await two.get("v") == b"x"


async def test_many_calls_on_two_gateways_leave_nothing_behind(stores: Make):
    pair = stores(), stores()
    inside = most_seen = 0

    async def call(store: RedisStore) -> None:
        nonlocal inside, most_seen
        if await store.enter("k", most=5, ttl_s=30):
            inside += 1
            most_seen = max(most_seen, inside)
            await asyncio.sleep(0)
            inside -= 1
            await store.leave("k")

    await asyncio.gather(*(call(pair[i % 2]) for i in range(400)))
    assert 1 <= most_seen <= 5
    assert await pair[0].count("k") == 0


async def test_an_old_number_that_arrives_late_is_not_believed(server: Server):
    client: Any = cast(Any, Redis).from_url(server.url)
    hold: Callable[..., Awaitable[list[int]]] = client.register_script(HOLD)
    entered, left, asked = ["one", 1, 1, 5, 30_000], ["one", 0, 2, -1, 30_000], ["two", 0, 1, -1, 30_000]
    for said in (entered, left, entered[:3] + left[3:]):  # what was said when entering comes again, on a slower line
        await hold(keys=["k"], args=said)
    assert await hold(keys=["k"], args=asked) == [1, 0]
    await client.aclose()


async def test_who_was_refused_is_not_counted_for_what_a_call_beside_it_said(stores: Make):
    store, other = stores(), stores()
    assert await other.enter("k", most=3, ttl_s=30)
    assert await other.enter("k", most=3, ttl_s=30)
    assert await store.enter("k", most=3, ttl_s=30)
    refused, _ = await asyncio.gather(store.enter("k", most=3, ttl_s=30), store.leave("k"))
    assert await other.count("k") == (3 if refused else 2)


async def test_a_cancelled_entrant_leaks_no_slot(stores: Make):
    one, two = stores(), stores()
    for _ in range(30):
        entering = asyncio.create_task(one.enter("k", most=100, ttl_s=0.3))
        await asyncio.sleep(0)
        entering.cancel()
        await asyncio.gather(entering, return_exceptions=True)

    async def free() -> bool:
        return await two.count("k") == 0

    await until(free)


async def test_a_closed_gateway_gives_its_slots_back(stores: Make):
    one, two = stores(), stores()
    assert await one.enter("k", most=1, ttl_s=30)
    await one.close()
    assert await two.enter("k", most=1, ttl_s=30)


async def test_a_killed_gateway_leaks_nothing_and_a_living_one_keeps_its_slots(server: Server, stores: Make):
    program = (
        "import asyncio, sys\n"
        "from router.store.redis import RedisStore\n"
        "async def main():\n"
        "    store = RedisStore(sys.argv[1])\n"
        "    assert await store.enter('k', most=2, ttl_s=3)\n"
        "    print('entered', flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    mine = stores()
    assert await mine.enter("k", most=2, ttl_s=3)
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, server.url, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert other.stdout is not None
    assert await other.stdout.readline() == b"entered\n"
    watcher = stores()
    assert not await watcher.enter("k", most=2, ttl_s=3)
    for _ in range(8):  # more than the time to live: only heartbeats keep both slots
        await asyncio.sleep(0.5)
        assert await watcher.count("k") == 2
    other.send_signal(signal.SIGKILL)
    await other.wait()

    async def one_left() -> bool:
        return await watcher.count("k") == 1

    await until(one_left)
    assert await watcher.enter("k", most=2, ttl_s=3)
    assert not await watcher.enter("k", most=2, ttl_s=3)


async def test_when_redis_dies_each_gateway_goes_on_alone_and_shares_again_when_it_is_back(
    server: Server, stores: Make, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO, "router.store.redis")
    one, two = stores(), stores()
    assert await one.enter("k", most=2, ttl_s=30)
    assert await one.take("r", capacity=1, per_s=0.01) == 0.0
    server.kill()

    assert await one.take("r", capacity=1, per_s=0.01) == 0.0
    assert await one.take("r", capacity=1, per_s=0.01) > 0
    assert await one.enter("k", most=2, ttl_s=30)
    assert not await one.enter("k", most=2, ttl_s=30)
    assert await two.enter("k", most=2, ttl_s=30)
    await one.put("v", b"x", ttl_s=30)
    assert await one.get("v") is None
    assert await one.count("k") == 2
    assert not one.up
    assert [r.levelname for r in caplog.records].count("WARNING") == 2, "one warning an outage and gateway"

    server.start()

    async def both_up() -> bool:
        return one.up and two.up and await one.count("k") == 3

    await until(both_up)
    assert await two.count("k") == 3
    assert not await two.enter("k", most=3, ttl_s=30)
    await one.leave("k")
    await one.leave("k")
    await two.leave("k")
    assert await two.count("k") == 0


async def test_a_hanging_redis_costs_one_timeout_and_not_one_a_request(server: Server, stores: Make):
    store = stores(CALL_S)
    assert await store.take("r", capacity=1e6, per_s=1) == 0.0
    server.send(signal.SIGSTOP)
    try:
        started = perf_counter()
        assert await store.take("r", capacity=1e6, per_s=1) == 0.0
        first = perf_counter() - started
        started = perf_counter()
        for _ in range(1000):
            assert await store.take("r", capacity=1e6, per_s=1) == 0.0
            assert await store.enter("k", most=5000, ttl_s=30)
        later = perf_counter() - started
    finally:
        server.send(signal.SIGCONT)
    assert CALL_S * 0.5 < first < CALL_S * 10
    assert later < 100 * CALL_S, "2000 calls did not wait for it one by one"

    async def up() -> bool:
        return store.up and await store.count("k") == 1000

    await until(up)


async def test_a_redis_that_is_away_from_the_start_stops_nothing(tmp_path: Path):
    store = RedisStore(f"unix://{tmp_path}/nobody")
    ledger = Ledger(store)
    await ledger.admit("team", rpm=2, concurrency=1)
    with pytest.raises(Limited):
        await ledger.admit("team", rpm=2, concurrency=1)
    await ledger.release("team")
    await ledger.admit("team", rpm=2, concurrency=1)
    await ledger.close()


async def test_a_restart_between_calls_is_not_an_outage(server: Server, stores: Make):
    store = stores()
    assert await store.take("r", capacity=10, per_s=0.01) == 0.0
    server.kill()
    server.start()
    assert await store.take("r", capacity=10, per_s=0.01) == 0.0
    assert store.up


async def test_limits_of_two_ledgers_are_one(stores: Make):
    one, two = Ledger(stores()), Ledger(stores())
    await one.admit("team", rpm=2, concurrency=None)
    await two.admit("team", rpm=2, concurrency=None)
    with pytest.raises(Limited) as refused:
        await one.admit("team", rpm=2, concurrency=None)
    assert 20 < refused.value.retry_after_s <= 30
