"""What a composer adds to its experts' own time, and what councils do to single requests: `make bench`.

    python bench/compose.py [--rounds 200] [--json bench/compose.json]

Scripted experts in this process, so that everything that is not their scripted time is the composer's; the event loop
and the garbage collector as the gateway has them. Every composition is compared with single requests that alternate
with it; what the decision takes is told beside it. The five who vote all disagree. The 100 councils start over as soon
as they end, on experts that take 20 ms: one core is then fully busy, which with slower experts it is not. The first
text of a streamed council should come an aggregator's step (20 ms) after the last seat: two steps from the start.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

DELAY_S = 0.02
EXPERT = "kind: expert\nname: e{n}\nprovider: scripted\ndescription: e{n}\ntext: The answer is {n}.\ndelay_s: {delay}\n"
ROUTE = 'kind: route\nname: {name}\nexperts: "*"\nestimator: prior\ncomposer: {{name: {name}, k: 5}}\n'
STEPS: dict[str, Callable[[int, int], int]] = {
    "race": lambda calls, turns: 1, "best-of": lambda calls, turns: 1, "council": lambda calls, turns: 2,
    "vote": lambda calls, turns: turns, "cascade": lambda calls, turns: calls,
}  # fmt: skip
"""How many experts' times a composition takes one after another, by its calls, and a vote by its rounds."""
BARS = {**{f"{name}_added_p50_ms": 2.0 for name in (*STEPS, "council_first_text")}, "singles_p99_ratio": 3.0}


async def measured(rounds: int) -> dict[str, float]:
    import orjson

    from experts.language import Delta
    from experts.protocols import silent
    from experts.wire import parse
    from router.local import load_registry, open_router
    from router.run import Run
    from router.serve import settle
    from router.telemetry import Log, Telemetry

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "registry.yaml"
        path.write_text(
            "---\n".join(
                [EXPERT.format(n=n, delay=DELAY_S) for n in range(5)] + [ROUTE.format(name=name) for name in STEPS]
            )
        )
        async with open_router(load_registry(path), telemetry=Telemetry(Log(level="warning"))) as router:
            decided_ms: list[float] = []

            async def one(model: str, number: int) -> tuple[float, int, int]:
                """Milliseconds but for the decision, calls, and rounds of a vote."""
                asked = f"How many are there of number {number}?" if model == "vote" else f"Number {number}?"
                body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": asked}]}
                query = parse("chat", orjson.dumps(body), f"q{number}")
                started, run = perf_counter(), Run(f"q{number}")
                await router.answer(query, silent, run)
                if run.plan is not None and run.plan.route:
                    decided_ms.append(run.decide_s * 1e3)
                return (perf_counter() - started - run.decide_s) * 1e3, len(run.attempts), run.notes.get("rounds", 1)

            async def first_text(number: int) -> float:
                """Milliseconds to the first piece of a streamed council's answer."""
                said: list[float] = []

                async def heard(delta: Delta) -> None:
                    if b'"content":"' in delta.events:
                        said.append(perf_counter())

                body: dict[str, Any] = {
                    "model": "council",
                    "messages": [{"role": "user", "content": f"Number {number}?"}],
                }
                query = parse("chat", orjson.dumps({**body, "stream": True}), f"q{number}")
                started, run = perf_counter(), Run(f"q{number}")
                await router.answer(query, heard, run)
                return (said[0] - started) * 1e3

            async def singles(count: int, gap_s: float) -> list[float]:
                async def later(number: int) -> float:
                    await asyncio.sleep(number * gap_s)
                    return (await one("e0", number))[0]

                return await asyncio.gather(*(later(number) for number in range(count)))

            settle()
            found: dict[str, float] = {}
            for name, steps in STEPS.items():
                took, alone_ms, busy_s = list[tuple[float, int, int]](), list[float](), 0.0
                for number in range(rounds):
                    alone_ms.append((await one("e0", number))[0])
                    began = process_time()
                    took.append(await one(name, number))
                    busy_s += process_time() - began
                own = statistics.median(alone_ms)
                found[f"{name}_added_p50_ms"] = statistics.median(
                    ms - steps(calls, turns) * own for ms, calls, turns in took
                )
                found[f"{name}_calls"] = statistics.mean(calls for _, calls, _ in took)
                found[f"{name}_cpu_ms"] = busy_s / rounds * 1e3
            found["decision_p50_ms"] = statistics.median(decided_ms)
            own = statistics.median([(await one("e0", number))[0] for number in range(rounds)])
            first = [await first_text(number) for number in range(rounds)]
            found["council_first_text_p50_ms"] = statistics.median(first)
            found["council_first_text_added_p50_ms"] = found["council_first_text_p50_ms"] - 2 * own
            alone = sorted(await singles(300, 0.005))
            stop, made = False, 0

            async def councils() -> None:
                nonlocal made
                while not stop:
                    await one("council", made)
                    made += 1

            busy = [asyncio.create_task(councils()) for _ in range(100)]
            started = perf_counter()
            beside = sorted(await singles(300, 0.005))
            stop, rate = True, made / (perf_counter() - started)
            await asyncio.gather(*busy)
            found |= {"single_p50_ms": own, "singles_p99_alone_ms": alone[-4], "singles_p99_beside_ms": beside[-4],
                      "singles_p99_ratio": beside[-4] / alone[-4], "councils_per_s": rate}  # fmt: skip
            return found


def main() -> None:
    import uvloop

    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=200)
    options.add_argument("--json", type=Path)
    asked = options.parse_args()
    found = uvloop.run(measured(asked.rounds))
    for key, value in found.items():
        bar = BARS.get(key)
        verdict = "" if bar is None else f"<= {bar}  {'met' if value <= bar else 'MISSED'}"
        print(f"  {key:28}{value:10.2f}   {verdict}")
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
