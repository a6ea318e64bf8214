from __future__ import annotations

from dataclasses import dataclass

import pytest

from experts.errors import Limited
from router.ledger import RETRY_BUSY_S, Ledger
from router.store.memory import MemoryStore


@dataclass(frozen=True)
class Limits:
    concurrency: int | None = None
    requests_per_minute: int | None = None


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Untouchable:
    """A store that fails the test when anything is asked of it."""

    def __getattr__(self, name: str):
        raise AssertionError(f"the store was touched: {name}")


async def test_without_limits_the_store_is_not_touched():
    ledger = Ledger(Untouchable())
    await ledger.admit("team", rpm=None, concurrency=None)
    await ledger.release("team")
    assert await ledger.enter_expert("qwen", Limits())
    await ledger.leave_expert("qwen")


async def test_a_rate_is_refused_with_the_time_to_wait():
    clock = Clock()
    ledger = Ledger(MemoryStore(clock=clock))
    for _ in range(6):
        await ledger.admit("team", rpm=6, concurrency=None)
    with pytest.raises(Limited, match=r"team: its 6 requests a minute are spent; try again in 10\.0 s") as refused:
        await ledger.admit("team", rpm=6, concurrency=None)
    assert refused.value.retry_after_s == pytest.approx(10.0)
    assert refused.value.status == 429
    await ledger.admit("another", rpm=6, concurrency=None)
    clock.now += 10
    await ledger.admit("team", rpm=6, concurrency=None)


async def test_concurrency_is_refused_until_a_release():
    ledger = Ledger(MemoryStore())
    await ledger.admit("team", rpm=None, concurrency=2)
    await ledger.admit("team", rpm=None, concurrency=2)
    with pytest.raises(Limited, match="2 requests are under way") as refused:
        await ledger.admit("team", rpm=None, concurrency=2)
    assert refused.value.retry_after_s == RETRY_BUSY_S
    await ledger.release("team")
    await ledger.admit("team", rpm=None, concurrency=2)


async def test_a_refused_rate_gives_its_slot_back_and_a_refused_slot_takes_no_rate():
    clock = Clock()
    store = MemoryStore(clock=clock)
    ledger = Ledger(store)
    await ledger.admit("team", rpm=2, concurrency=1)
    with pytest.raises(Limited, match="under way"):
        await ledger.admit("team", rpm=2, concurrency=1)
    await ledger.release("team")
    await ledger.admit("team", rpm=2, concurrency=1)
    await ledger.release("team")
    with pytest.raises(Limited, match="a minute"):
        await ledger.admit("team", rpm=2, concurrency=1)
    assert await store.count("caller:team") == 0


async def test_an_expert_takes_no_more_than_its_limits():
    clock = Clock()
    store = MemoryStore(clock=clock)
    ledger = Ledger(store)
    limits = Limits(concurrency=1, requests_per_minute=3)
    assert await ledger.enter_expert("qwen", limits)
    assert not await ledger.enter_expert("qwen", limits)
    await ledger.leave_expert("qwen")
    for _ in range(2):
        assert await ledger.enter_expert("qwen", limits)
        await ledger.leave_expert("qwen")
    assert not await ledger.enter_expert("qwen", limits)
    assert await store.count("expert:qwen") == 0
    clock.now += 20
    assert await ledger.enter_expert("qwen", limits)
    assert await ledger.enter_expert("other", limits)


async def test_a_limit_taken_away_while_a_call_is_under_way_leaves_no_slot_held():
    store = MemoryStore()
    ledger = Ledger(store)
    assert await ledger.enter_expert("qwen", Limits(concurrency=1))
    assert await ledger.enter_expert("qwen", Limits())
    await ledger.leave_expert("qwen")
    await ledger.leave_expert("qwen")
    assert await store.count("expert:qwen") == 0
    assert await ledger.enter_expert("qwen", Limits(concurrency=1))


async def test_a_caller_and_an_expert_of_one_name_are_two():
    ledger = Ledger(MemoryStore())
    await ledger.admit("qwen", rpm=1, concurrency=1)
    assert await ledger.enter_expert("qwen", Limits(concurrency=1, requests_per_minute=1))
