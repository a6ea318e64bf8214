"""What an encoder costs, alone and through the gateway's embedding: `python bench/encoder.py [--runtime R] [--json]`.

Each figure of the two ways of asking is taken in turn with the other, so that a busy machine weighs on both alike.
Memory and load time are those of a process of its own that does nothing else; `load_cpu_s` counts Python's start too.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import orjson

from experts.protocols import Encoder, Vectors
from experts.retrieval.encoders import DEFAULT_MODEL, DEFAULT_RUNTIME, RUNTIMES, open_encoder
from router.embedding import Embedding

CONCURRENT = 32
WORDS = ("which", "of", "these", "two", "trains", "will", "be", "first", "in", "the", "city", "on", "monday")

LOAD = """
import sys
from time import perf_counter, process_time
import psutil
start = perf_counter()
from experts.retrieval.encoders import open_encoder
encoder = open_encoder(sys.argv[1], sys.argv[2])
encoder.encode(["ready?"])
took, cpu = perf_counter() - start, process_time()
loaded = psutil.Process().memory_info().rss
encoder.encode(["a long text of many words " * 100] * 64)
print(took, cpu, loaded / 2**20, psutil.Process().memory_info().rss / 2**20)
"""


def text_of(number: int, words: int) -> str:
    """A text of its own for each number, of `words` words and about two tokens more."""
    order = np.random.default_rng(number).integers(len(WORDS), size=words)
    return " ".join(WORDS[i] for i in order)


def loading(model: str, runtime: str) -> dict[str, float]:
    command = [sys.executable, "-c", LOAD, model, runtime]
    done = subprocess.run(command, cwd=Path(__file__).parent.parent, check=True, stdout=subprocess.PIPE, text=True)
    took, cpu, loaded, used = map(float, done.stdout.split())
    return {"load_s": took, "load_cpu_s": cpu, "rss_loaded_mb": loaded, "rss_used_mb": used}


def shapes(encoder: Encoder, rounds: int) -> dict[str, float]:
    """Milliseconds of CPU and of the clock for three shapes of batch: the lowest tenth of the rounds."""
    found: dict[str, float] = {}
    for name, words, rows in (("13_tokens", 11, 1), ("128_tokens", 126, 1), ("32x13_tokens", 11, 32)):
        times: list[tuple[float, float]] = []
        for i in range(max(10, rounds // rows)):
            texts = [text_of(i * rows + row, words) for row in range(rows)]
            wall, cpu = perf_counter(), process_time()
            encoder.encode(texts)
            times.append((perf_counter() - wall, process_time() - cpu))
        wall_ms, cpu_ms = (float(np.quantile(column, 0.1)) * 1e3 for column in zip(*times, strict=True))
        found[f"{name}_ms"], found[f"{name}_cpu_ms"] = wall_ms, cpu_ms
    return found


async def overhead(encoder: Encoder, rounds: int) -> dict[str, float]:
    """One 16-token text at a time, by the encoder alone and through Embedding, in turn; then the same one again.

    `p10`, and the CPU that is added, say what the code costs where other programs keep the cores busy.
    """
    embedding = Embedding(encoder)
    alone: list[float] = []
    through: list[float] = []
    hits: list[float] = []
    cpu: list[float] = []
    for number in range(rounds):
        text = text_of(number, 14)
        cpu_start, start = process_time(), perf_counter()
        encoder.encode([text])
        cpu_middle, middle = process_time(), perf_counter()
        await embedding.embed([text], [1.0])
        cpu_end, end = process_time(), perf_counter()
        await embedding.embed([text], [1.0])
        hits.append(perf_counter() - end)
        alone.append(middle - start)
        through.append(end - middle)
        cpu.append((cpu_end - cpu_middle) - (cpu_middle - cpu_start))
    embedding.close()
    found: dict[str, float] = {}
    for name, seconds in (("alone", alone), ("through", through)):
        for percent in (10, 50, 99):
            found[f"{name}_p{percent}_ms"] = float(np.quantile(seconds, percent / 100)) * 1e3
    added = np.subtract(through, alone)
    return found | {
        "added_p50_ms": float(np.median(added)) * 1e3,
        "added_cpu_p50_ms": float(np.median(cpu)) * 1e3,
        "hit_us": float(np.median(hits)) * 1e6,
    }


class InstantEncoder:
    """Takes no time, so that what is left is the embedding's own."""

    fingerprint = "instant"
    dimensions = 384

    def encode(self, texts: Sequence[str]) -> Vectors:
        return np.ones((len(texts), self.dimensions), np.float32)


async def own_cost(rounds: int) -> dict[str, float]:
    """Microseconds that Embedding itself takes of a text it must hand to the encoder's thread, and of a known one."""
    embedding = Embedding(InstantEncoder())
    misses: list[float] = []
    hits: list[float] = []
    for number in range(rounds):
        for times in (misses, hits):
            start = perf_counter()
            await embedding.embed([str(number)], [1.0])
            times.append(perf_counter() - start)
    embedding.close()
    return {
        f"{name}_p{percent}_us": float(np.quantile(times, percent / 100)) * 1e6
        for name, times in (("own_miss", misses), ("own_hit", hits))
        for percent in (10, 50, 99)
    }


async def throughput(encoder: Encoder, texts: int) -> dict[str, float]:
    """Texts a second with CONCURRENT callers that each ask for one 16-token text after another."""
    numbers = count(1_000_000)
    embedding = Embedding(encoder)

    async def caller() -> None:
        for _ in range(texts // CONCURRENT):
            await embedding.embed([text_of(next(numbers), 14)], [1.0])

    start = perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(CONCURRENT):
            group.create_task(caller())
    took = perf_counter() - start
    embedding.close()
    stats = embedding.stats()
    one_by_one = perf_counter()
    for _ in range(texts // CONCURRENT):
        encoder.encode([text_of(next(numbers), 14)])
    single = (perf_counter() - one_by_one) / (texts // CONCURRENT)
    return {"concurrent_per_s": texts // CONCURRENT * CONCURRENT / took, "one_by_one_per_s": 1 / single,
            "mean_batch": stats["encoded"] / stats["batches"]}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--runtime", default=DEFAULT_RUNTIME, choices=RUNTIMES)
    parser.add_argument("--rounds", type=int, default=400)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    given = parser.parse_args()
    encoder = open_encoder(given.model, given.runtime)
    encoder.encode(["warm"])
    figures = loading(given.model, given.runtime) | shapes(encoder, given.rounds)
    figures |= asyncio.run(own_cost(5 * given.rounds)) | asyncio.run(overhead(encoder, given.rounds))
    figures |= asyncio.run(throughput(encoder, 4 * given.rounds))
    if given.json:
        print(orjson.dumps({"fingerprint": encoder.fingerprint, **figures}, option=orjson.OPT_INDENT_2).decode())
        return
    print(encoder.fingerprint)
    for name, value in figures.items():
        print(f"  {name:<22}{value:>12,.3f}")


if __name__ == "__main__":
    main()
