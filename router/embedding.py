"""Embedding queries for the gateway: one encoder thread, batches that form by themselves, a bounded cache.

While the encoder works on one batch, what arrives waits and becomes the next: an idle gateway adds no delay, a busy
one fills batches. The same text asked for twice at once is encoded once.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from experts.language import Query
from experts.protocols import Encoder

LAST_TURN_WEIGHT = 0.7
MOST_CHARS = 4_000
MOST_AT_ONCE = 64

Vector = NDArray[np.float32]


def routing_texts(query: Query) -> tuple[list[str], list[float]]:
    """What of a query is embedded, and with what weights: earlier user turns as one text, and the last turn.

    A query of one turn is exactly that turn. A long text keeps its head and its tail, where tasks are stated.
    """
    turns = query.user_texts()
    if len(turns) < 2:
        return [_bounded(turns[0] if turns else "")], [1.0]
    earlier = "\n".join(turns[:-1])
    return [_bounded(earlier), _bounded(turns[-1])], [1.0 - LAST_TURN_WEIGHT, LAST_TURN_WEIGHT]


def _bounded(text: str) -> str:
    if len(text) <= MOST_CHARS:
        return text
    half = MOST_CHARS // 2
    return f"{text[:half]}\n{text[-half:]}"


class Embedding:
    """An encoder for concurrent callers on one event loop.

    `embed` raises what the encoder raised, to exactly the callers of that batch; a cancelled caller leaves its batch
    and its batch's other callers alone.
    """

    def __init__(self, encoder: Encoder, *, cache_size: int = 10_000) -> None:
        self.encoder = encoder
        self._size = cache_size
        self._cache: OrderedDict[bytes, Vector] = OrderedDict()
        self._waiting: OrderedDict[bytes, str] = OrderedDict()
        self._futures: dict[bytes, asyncio.Future[Vector]] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="encoder")
        self._worker: asyncio.Task[None] | None = None
        self._hits = self._misses = self._batches = self._encoded = 0

    def stats(self) -> dict[str, float]:
        return {"hits": self._hits, "misses": self._misses, "batches": self._batches, "encoded": self._encoded,
                "cached": len(self._cache), "waiting": len(self._waiting)}  # fmt: skip

    async def embed(self, texts: Sequence[str], weights: Sequence[float]) -> Vector:
        """Shape (d,), unit length: the weighted mean of the texts' vectors."""
        if len(texts) == 1:
            return await self._one(texts[0])
        vectors = await asyncio.gather(*(self._one(text) for text in texts))
        mean = np.asarray(weights, np.float32) @ np.stack(vectors)
        length = float(np.linalg.norm(mean))
        return mean / length if length > 0 else vectors[-1]

    def close(self) -> None:
        """Waits for the batch that is being encoded, and for no other."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    async def _one(self, text: str) -> Vector:
        key = blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()
        vector = self._cache.get(key)
        if vector is not None:
            self._cache.move_to_end(key)
            self._hits += 1
            return vector
        self._misses += 1
        future = self._futures.get(key)
        if future is None:
            future = self._futures[key] = asyncio.get_running_loop().create_future()
            self._waiting[key] = text
            if self._worker is None:
                self._worker = asyncio.create_task(self._work(), name="embedding")
        return await asyncio.shield(future)

    async def _work(self) -> None:
        try:
            while self._waiting:
                await self._batch()
        finally:
            self._worker = None

    async def _batch(self) -> None:
        batch = [self._waiting.popitem(last=False) for _ in range(min(len(self._waiting), MOST_AT_ONCE))]
        texts = [text for _, text in batch]
        loop = asyncio.get_running_loop()
        futures = [self._futures[key] for key, _ in batch]
        try:
            vectors = await loop.run_in_executor(self._thread, self.encoder.encode, texts)
        except BaseException as fault:
            for future in futures:
                if isinstance(fault, asyncio.CancelledError):
                    future.cancel()
                else:
                    future.set_exception(fault)
                    future.exception()  # seen: a caller that left must not make this a warning
            if not isinstance(fault, Exception):
                raise
        else:
            self._batches += 1
            self._encoded += len(batch)
            for (key, _), future, vector in zip(batch, futures, vectors, strict=True):
                future.set_result(vector)
                self._remember(key, vector)
        finally:
            for key, _ in batch:
                self._futures.pop(key, None)

    def _remember(self, key: bytes, vector: Vector) -> None:
        if self._size:
            self._cache[key] = vector
            if len(self._cache) > self._size:
                self._cache.popitem(last=False)
