"""What an encoder costs, alone and through the gateway's embedding: `python bench/encoder.py [--runtime R] [--json]`.

Each figure of the two ways of asking is taken in turn with the other, so that a busy machine weighs on both alike.
Memory and load time are those of a process of its own that does nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
from itertools import count
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import orjson

from experts.protocols import Encoder
from experts.retrieval.encoders import DEFAULT_MODEL, DEFAULT_RUNTIME, RUNTIMES, open_encoder
from router.embedding import Embedding

CONCURRENT = 32
WORDS = ("which", "of", "these", "two", "trains", "will", "be", "first", "in", "the", "city", "on", "monday")

LOAD = """
import sys
from time import perf_counter
import psutil
before = psutil.Process().memory_info().rss
start = perf_counter()
from experts.retrieval.encoders import open_encoder
encoder = open_encoder(sys.argv[1], sys.argv[2])
encoder.encode(["ready?"])
took = perf_counter() - start
loaded = psutil.Process().memory_info().rss
encoder.encode(["a long text of many words " * 100] * 64)
print(took, loaded / 2**20, psutil.Process().memory_info().rss / 2**20)
"""


def text_of(number: int, words: int) -> str:
    """A text of its own for each number, of `words` words and about two tokens more."""
    order = np.random.default_rng(number).integers(len(WORDS), size=words)
    return " ".join(WORDS[i] for i in order)


def loading(model: str, runtime: str) -> dict[str, float]:
    command = [sys.executable, "-c", LOAD, model, runtime]
    done = subprocess.run(command, cwd=Path(__file__).parent.parent, check=True, stdout=subprocess.PIPE, text=True)
    took, loaded, used = map(float, done.stdout.split())
    return {"load_s": took, "rss_loaded_mb": loaded, "rss_used_mb": used}


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
    """One 16-token text at a time, by the encoder alone and through Embedding, in turn; then the same one again."""
    embedding = Embedding(encoder)
    alone: list[float] = []
    through: list[float] = []
    hits: list[float] = []
    for number in range(rounds):
        text = text_of(number, 14)
        start = perf_counter()
        encoder.encode([text])
        middle = perf_counter()
        await embedding.embed([text], [1.0])
        end = perf_counter()
        await embedding.embed([text], [1.0])
        hits.append(perf_counter() - end)
        alone.append(middle - start)
        through.append(end - middle)
    embedding.close()
    found: dict[str, float] = {}
    for name, seconds in (("alone", alone), ("through", through)):
        p50, p99 = np.quantile(seconds, [0.5, 0.99])
        found |= {f"{name}_p50_ms": float(p50) * 1e3, f"{name}_p99_ms": float(p99) * 1e3}
    added = np.subtract(through, alone)
    return found | {"added_p50_ms": float(np.median(added)) * 1e3, "hit_us": float(np.median(hits)) * 1e6}


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
    figures |= asyncio.run(overhead(encoder, given.rounds)) | asyncio.run(throughput(encoder, 4 * given.rounds))
    if given.json:
        print(orjson.dumps({"fingerprint": encoder.fingerprint, **figures}, option=orjson.OPT_INDENT_2).decode())
        return
    print(encoder.fingerprint)
    for name, value in figures.items():
        print(f"  {name:<22}{value:>12,.3f}")


if __name__ == "__main__":
    main()
