"""What a decision costs: embed, estimate, decide. Part of `make bench`.

    python bench/decide.py [--n 500] [--json bench/decide.json]

On the pocket registry with its outcomes fitted: p50 and p99 of one decision for queries of about 16 tokens that were
never seen before, what the encoder alone takes for the same queries in the same run, a decision from the cache, and
decisions a second with 32 callers at once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import uvloop

from experts.language import Query
from experts.wire import parse
from router.cli.placing import pocket_folder
from router.local import load_registry, open_router
from router.pipeline import Router
from router.run import Run

WORDS = [
    "river",
    "planet",
    "window",
    "apple",
    "seven",
    "mountain",
    "paper",
    "garden",
    "yellow",
    "summer",
    "ticket",
    "bridge",
    "forest",
    "silver",
    "market",
]


def queries(n: int, seed: int) -> list[str]:
    """About 16 tokens each, none twice."""
    rng = random.Random(seed)
    return [f"What is {rng.randint(0, 10**6)} and {' '.join(rng.choices(WORDS, k=9))}?" for _ in range(n)]


def parsed(text: str) -> Query:
    body = {"model": "auto", "messages": [{"role": "user", "content": text}]}
    return parse("chat", json.dumps(body).encode(), "bench")


async def timed(texts: list[str], work: Callable[[str], Any]) -> list[float]:
    """Milliseconds of each."""
    spent: list[float] = []
    for text in texts:
        started = perf_counter()
        await work(text)
        spent.append((perf_counter() - started) * 1e3)
    return spent


def row(spent: list[float]) -> dict[str, float]:
    p50, p99 = np.percentile(spent, [50, 99]).tolist()
    return {"p50_ms": p50, "p99_ms": p99}


async def measure(router: Router, n: int) -> dict[str, Any]:
    embedding = next(iter(router.snapshot.embeddings.values()))

    async def decide(text: str) -> None:
        await router.plan(parsed(text), Run("bench"))

    async def encode(text: str) -> None:
        await asyncio.to_thread(embedding.encoder.encode, [text])

    await timed(queries(50, 0), decide)
    found: dict[str, Any] = {"decide": [], "encoder alone": []}
    for turn in range(5):  # in turns, so that both meet the same neighbours
        found["decide"] += await timed(queries(n // 5, 10 + turn), decide)
        found["encoder alone"] += await timed(queries(n // 5, 20 + turn), encode)
    found = {name: row(spent) for name, spent in found.items()}
    again = queries(n, 3)
    await timed(again, decide)
    found["cached"] = row(await timed(again, decide))
    found["added_p50_ms"] = found["decide"]["p50_ms"] - found["encoder alone"]["p50_ms"]
    waiting = iter(queries(4 * n, 4))

    async def caller() -> None:
        for text in waiting:
            await decide(text)

    started = perf_counter()
    await asyncio.gather(*(caller() for _ in range(32)))
    found["decisions_per_s_at_32"] = 4 * n / (perf_counter() - started)
    return found


async def run(n: int) -> dict[str, Any]:
    folder = pocket_folder()
    async with open_router(load_registry(folder / "registry.yaml"), outcomes=folder / "outcomes.jsonl.gz") as router:
        return await measure(router, n)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--n", type=int, default=500)
    options.add_argument("--json", type=Path)
    asked = options.parse_args()
    found = uvloop.run(run(asked.n))
    for name in ("encoder alone", "decide", "cached"):
        print(f"{name:24} p50 {found[name]['p50_ms']:8.3f} ms   p99 {found[name]['p99_ms']:8.3f} ms")
    met = "met" if found["added_p50_ms"] <= 1.0 else "MISSED"
    print(f"{'added to the encoder':24} p50 {found['added_p50_ms']:8.3f} ms   <= 1.0 {met}")
    print(f"{'32 callers at once':24} {found['decisions_per_s_at_32']:12.0f} decisions a second")
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
