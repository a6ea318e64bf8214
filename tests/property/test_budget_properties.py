"""A budget is never exceeded, whatever experts do: stall, fail, ramble, lie about their usage."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from time import perf_counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from experts.errors import ConsiliumError
from experts.language import Price
from router.budget import Allowance
from router.composers import names, open_composer
from tests.scripted_voices import Room, asked, planned, room

LATE_MS = 250.0
"""What a busy machine may take to wake a task that is over time, beside what it took to wake another one meanwhile."""


async def lateness(ended: asyncio.Event) -> float:
    """Milliseconds by which this machine woke a sleeper too late, in all, up to its first waking after the end."""
    late = 0.0
    while not ended.is_set():
        started = perf_counter()
        await asyncio.sleep(0.002)
        late += max(perf_counter() - started - 0.004, 0.0) * 1e3
    return late


scripts = st.fixed_dictionaries(
    {"text": st.integers(0, 60).map(lambda count: "word " * count), "ramble": st.booleans()},
    optional={
        "delay_s": st.sampled_from([0.001, 60.0]),
        "per_token_s": st.sampled_from([0.0001, 0.001]),
        "tokens_per_chunk": st.just(1),
        "usage": st.fixed_dictionaries(
            {"prompt_tokens": st.integers(0, 10**6), "completion_tokens": st.integers(0, 10**6)}
        ),
        "fail": st.one_of(
            st.fixed_dictionaries({"at": st.sampled_from(["connect", "status", "first_byte"])}),
            st.fixed_dictionaries({"at": st.just("mid_stream"), "after_tokens": st.integers(0, 20)}),
        ),
    },
)
allowances = st.builds(
    Allowance,
    calls=st.none() | st.integers(1, 6),
    tokens=st.none() | st.integers(1, 400),
    usd=st.none() | st.floats(1e-6, 1e-3),
    ms=st.floats(1, 30),
)
PROMPT = "Say some words please."


@settings(max_examples=1000, suppress_health_check=list(HealthCheck))
@given(
    script=st.lists(scripts, min_size=1, max_size=4), allowance=allowances,
    name=st.sampled_from(sorted(names())), stream=st.booleans(), limit=st.none() | st.integers(1, 50),
)  # fmt: skip
def test_a_budget_is_never_exceeded(
    script: list[dict[str, Any]], allowance: Allowance, name: str, stream: bool, limit: int | None
) -> None:
    experts = {f"e{place}": one for place, one in enumerate(script)}
    composer = open_composer(name, {})
    where = room(experts, plan=composer.seated(planned(list(experts), name)), allowance=allowance)
    more = {} if limit is None else {"max_tokens": limit}

    async def run() -> float:
        ended = asyncio.Event()
        late = asyncio.create_task(lateness(ended))
        await asyncio.sleep(0)
        where.voices.budget.started = perf_counter()  # not when the event loop was yet to be made
        with suppress(ConsiliumError):  # it may fail, but not overspend
            await composer.compose(asked(PROMPT, stream=stream, **more), where.voices, where.emit)
        took = (perf_counter() - where.voices.budget.started) * 1e3
        ended.set()
        return took - await late

    held(where, allowance, asyncio.run(run()))


def held(where: Room, allowance: Allowance, took_ms: float) -> None:
    """Counted on the experts' side, not by what the budget says of itself; and by that too."""
    spent, price = where.voices.budget, Price(1.0, 2.0)
    calls = sum(expert.calls for expert in where.experts.values())
    said = sum(expert.tokens for expert in where.experts.values())
    asked_tokens = sum(expert.asked for expert in where.experts.values())
    assert calls == spent.calls
    assert spent._held_tokens == 0  # pyright: ignore[reportPrivateUsage]
    if allowance.calls is not None:
        assert calls <= allowance.calls
    if allowance.tokens is not None:
        assert spent.tokens <= allowance.tokens
        assert said + asked_tokens <= allowance.tokens
    if allowance.usd is not None:
        assert spent.usd <= allowance.usd * (1 + 1e-9)
        assert (asked_tokens * price.input + said * price.output) / 1e6 <= allowance.usd * (1 + 1e-9)
    if allowance.ms is not None:
        assert took_ms <= allowance.ms + LATE_MS
    assert all(expert.load().in_flight == 0 for expert in where.experts.values())


async def test_calls_made_at_once_share_what_is_left() -> None:
    """Without a reservation before each call, ten calls at once would each take all there is."""
    scripts = {f"e{place}": {"text": "word " * 500, "ramble": True} for place in range(10)}
    composer = open_composer("council", {"k": 10})
    where = room(scripts, plan=composer.seated(planned(list(scripts), "council")), allowance=Allowance(tokens=900))
    await composer.compose(asked(PROMPT), where.voices, where.emit)
    held(where, Allowance(tokens=900), 0.0)
    assert sum(expert.calls for expert in where.experts.values()) > 5
    assert where.voices.budget.ended == "tokens"


@pytest.mark.parametrize("claim", [0, 3, 10**9])
async def test_what_a_server_claims_is_believed_as_far_as_the_text_bears_it(claim: int) -> None:
    script = {"text": "one two three four five", "usage": {"completion_tokens": claim, "prompt_tokens": claim}}
    where = room({"a": script}, allowance=Allowance(tokens=1000))
    answer = await where.voices.hear("a", asked(PROMPT))
    assert answer.text == "one two three four five"
    assert 5 <= answer.usage.completion_tokens <= len(answer.text)
    assert where.voices.budget.tokens < 100
