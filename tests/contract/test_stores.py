"""What every store does, whichever it is: the same tests on memory and on a real Redis."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from router.store.memory import MemoryStore
from router.store.protocol import Store
from router.store.redis import RedisStore


@pytest.fixture(scope="module")
def redis_socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    program = shutil.which("redis-server")
    if program is None:
        if os.environ.get("CONSILIUM_REQUIRE") == "all":
            pytest.fail("redis-server is not installed, and here nothing may be skipped")
        pytest.skip("redis-server is not installed")
    path = tmp_path_factory.mktemp("redis") / "s"
    server = subprocess.Popen(
        [program, "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(path.parent)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    while "eady to accept connections" not in (line := server.stdout.readline()):
        assert line, "redis-server ended before it was ready"
    yield path
    server.terminate()
    server.wait(10)
    server.stdout.close()


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.redis)])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    opened: Store
    if request.param == "memory":
        opened = MemoryStore()
    else:
        path = request.getfixturevalue("redis_socket")
        opened = RedisStore(f"unix://{path}", prefix=f"{request.node.name}:", call_s=60)
    yield opened
    await opened.close()


async def test_a_bucket_gives_its_capacity_then_tells_the_wait(store: Store):
    granted = [await store.take("k", capacity=5, per_s=0.01) for _ in range(5)]
    assert granted == [0.0] * 5
    assert 90 < await store.take("k", capacity=5, per_s=0.01) <= 100
    assert await store.take("other", capacity=5, per_s=0.01) == 0.0


async def test_a_bucket_refills(store: Store):
    assert await store.take("k", capacity=10, per_s=2, n=10) == 0.0
    wait = await store.take("k", capacity=10, per_s=2, n=10)
    assert 0 < wait <= 5
    wait = await store.take("k", capacity=10, per_s=2)
    assert 0 <= wait <= 0.5
    async with asyncio.timeout(30):
        while await store.take("k", capacity=10, per_s=2, n=2):
            await asyncio.sleep(0.05)


async def test_side_by_side_takers_get_the_capacity_and_no_more(store: Store):
    waits = await asyncio.gather(*(store.take("k", capacity=20, per_s=0.01) for _ in range(200)))
    assert waits.count(0.0) == 20


async def test_n_tokens_at_once(store: Store):
    assert await store.take("k", capacity=100, per_s=1, n=60) == 0.0
    assert await store.take("k", capacity=100, per_s=1, n=60) == pytest.approx(20, abs=1)
    assert await store.take("k", capacity=100, per_s=1, n=40) == 0.0


async def test_slots_are_held_until_left(store: Store):
    assert [await store.enter("k", most=2, ttl_s=30) for _ in range(3)] == [True, True, False]
    assert await store.count("k") == 2
    await store.leave("k")
    assert await store.count("k") == 1
    assert await store.enter("k", most=2, ttl_s=30)
    await store.leave("k")
    await store.leave("k")
    await store.leave("k")
    assert await store.count("k") == 0
    assert [await store.enter("k", most=1, ttl_s=30) for _ in range(2)] == [True, False]


async def test_side_by_side_entrants_never_pass_the_limit(store: Store):
    inside = most_seen = 0

    async def call() -> int:
        nonlocal inside, most_seen
        if not await store.enter("k", most=7, ttl_s=30):
            return 0
        inside += 1
        most_seen = max(most_seen, inside)
        await asyncio.sleep(0)
        inside -= 1
        await store.leave("k")
        return 1

    granted = await asyncio.gather(*(call() for _ in range(300)))
    assert sum(granted) >= 7
    assert most_seen <= 7
    assert await store.count("k") == 0


async def test_a_limit_of_nothing_lets_nobody_in(store: Store):
    assert not await store.enter("k", most=0, ttl_s=30)
    assert await store.count("k") == 0


async def test_values(store: Store):
    assert await store.get("k") is None
    await store.put("k", b"\x00one\xff", ttl_s=30)
    assert await store.get("k") == b"\x00one\xff"
    await store.put("k", b"two", ttl_s=0.05)
    assert await store.get("k") in (b"two", None)
    async with asyncio.timeout(5):
        while await store.get("k") is not None:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(("capacity", "per_s", "n"), [(1, 0, 1), (1, 1, 2)])
async def test_a_bucket_that_could_never_grant_is_an_error(store: Store, capacity: float, per_s: float, n: float):
    with pytest.raises(ValueError, match="expected"):
        await store.take("k", capacity=capacity, per_s=per_s, n=n)
