"""What only the memory store has: no clock but the one it is given, and nothing kept for ever."""

from __future__ import annotations

import pytest

from experts.errors import ConfigError
from router.store import MemoryStore, open_store
from router.store.memory import SWEEP_FROM


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_the_wait_told_is_the_wait_needed():
    clock = Clock()
    store = MemoryStore(clock=clock)
    for _ in range(60):
        assert await store.take("k", capacity=60, per_s=1) == 0.0
    wait = await store.take("k", capacity=60, per_s=1)
    assert wait == pytest.approx(1.0)
    clock.now += wait / 2
    assert await store.take("k", capacity=60, per_s=1) == pytest.approx(0.5)
    clock.now += wait / 2
    assert await store.take("k", capacity=60, per_s=1) == 0.0
    assert await store.take("k", capacity=60, per_s=1) > 0


async def test_a_refused_take_takes_nothing_and_a_rest_refills_to_capacity_at_most():
    clock = Clock()
    store = MemoryStore(clock=clock)
    assert await store.take("k", capacity=10, per_s=2, n=8) == 0.0
    assert await store.take("k", capacity=10, per_s=2, n=5) == pytest.approx(1.5)
    assert await store.take("k", capacity=10, per_s=2, n=2) == 0.0
    clock.now += 3600
    assert await store.take("k", capacity=10, per_s=2, n=10) == 0.0
    assert await store.take("k", capacity=10, per_s=2, n=1) == pytest.approx(0.5)


async def test_values_end_with_their_time():
    clock = Clock()
    store = MemoryStore(clock=clock)
    await store.put("k", b"v", ttl_s=5)
    clock.now += 4.9
    assert await store.get("k") == b"v"
    clock.now += 0.2
    assert await store.get("k") is None


async def test_keys_whose_time_is_over_are_swept():
    clock = Clock()
    store = MemoryStore(clock=clock)
    for i in range(20 * SWEEP_FROM):
        clock.now += 1.0
        await store.put(f"v{i}", b"x", ttl_s=0.5)
        await store.take(f"t{i}", capacity=1, per_s=2)
    assert len(store._values) + len(store._full_at) <= SWEEP_FROM + 1


@pytest.mark.parametrize(
    ("capacity", "per_s", "n"), [(1, 0, 1), (1, -1, 1), (1, 1, 2), (1, 1, -1), (1, float("nan"), 1)]
)
async def test_a_bucket_that_could_never_grant_is_an_error(capacity: float, per_s: float, n: float):
    with pytest.raises(ValueError, match="expected"):
        await MemoryStore().take("k", capacity=capacity, per_s=per_s, n=n)


def test_no_url_is_memory_and_a_wrong_one_is_refused_without_being_shown():
    assert isinstance(open_store(None), MemoryStore)
    assert isinstance(open_store(""), MemoryStore)
    with pytest.raises(ConfigError, match="redis://") as fault:
        open_store("http://user:hunter2@localhost:6379")
    assert "hunter2" not in str(fault.value)
