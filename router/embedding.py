"""Embedding queries for the gateway: one encoder thread, batches that form by themselves, a bounded cache.

While the encoder works on one batch, what arrives waits and becomes the next: an idle gateway adds no delay, a busy
one fills batches. The same text asked for twice at once is encoded once. A text that nobody waits for any more when
its turn comes is not encoded at all, so clients that left leave no work behind.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from time import perf_counter

import numpy as np

from experts.errors import NotReady
from experts.protocols import Encoder, Vectors
from router.texts import Vector, mean_vector, routing_texts

__all__ = ["Embedding", "Vector", "routing_texts"]

MOST_AT_ONCE = 64


@dataclass(slots=True, eq=False)
class _Flight:
    """One text on its way to a vector, and how many callers wait for it."""

    key: bytes
    text: str
    landed: asyncio.Future[Vector]
    waiting: int = 0


class Embedding:
    """An encoder for concurrent callers on one event loop.

    `embed` raises what the encoder raised, to exactly the callers of that batch; a cancelled caller leaves its batch
    and its batch's other callers alone. After `close`, and for whoever still waits in line at that moment, it raises
    NotReady.
    """

    def __init__(self, encoder: Encoder, *, cache_size: int = 10_000) -> None:
        self.encoder = encoder
        self._size = cache_size
        self._cache: OrderedDict[bytes, Vector] = OrderedDict()
        self._flights: dict[bytes, _Flight] = {}
        self._line: OrderedDict[bytes, _Flight] = OrderedDict()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="encoder")
        self._busy = self._closed = False
        self._hits = self._misses = self._shared = self._errors = self._abandoned = 0
        self._batches = self._encoded = 0
        self._busy_s = 0.0

    def stats(self) -> dict[str, float]:
        """Figures since the start: `hits` of the cache, `misses`, `shared` (joined a text already under way),
        `batches`, `encoded` texts, `encode_seconds`, `errors` (batches) and `abandoned` texts; and of now: `cached`
        and `waiting` texts.
        """
        return {"hits": self._hits, "misses": self._misses, "shared": self._shared, "batches": self._batches,
                "encoded": self._encoded, "encode_seconds": self._busy_s,
                "errors": self._errors, "abandoned": self._abandoned, "cached": len(self._cache),
                "waiting": len(self._line)}  # fmt: skip

    async def embed(self, texts: Sequence[str], weights: Sequence[float]) -> Vector:
        """Shape (d,), float32, unit length, read-only: the weighted mean of the texts' vectors.

        One text's vector is exactly the encoder's. Texts whose vectors cancel out give the last one's.
        Raises ValueError where there is no text, or not one weight a text.
        """
        if len(texts) != len(weights) or not texts:
            raise ValueError(f"embed: expected one weight a text, got {len(texts)} texts and {len(weights)} weights")
        return mean_vector(await self._vectors(texts), weights)

    def close(self) -> None:
        """Waits for the batch that is being encoded, and for no other."""
        self._closed = True
        while self._line:
            _, flight = self._line.popitem(last=False)
            self._land(flight, NotReady("the gateway is stopping"))
        self._thread.shutdown(wait=True, cancel_futures=True)

    async def _vectors(self, texts: Sequence[str]) -> list[Vector]:
        found = [self._cached_or_flying(text) for text in texts]
        flights = [one for one in found if isinstance(one, _Flight)]
        if not flights:
            return [one for one in found if not isinstance(one, _Flight)]
        for flight in flights:
            flight.waiting += 1
        try:
            await asyncio.wait([flight.landed for flight in flights])
            return [one.landed.result() if isinstance(one, _Flight) else one for one in found]
        finally:
            for flight in flights:
                flight.waiting -= 1

    def _cached_or_flying(self, text: str) -> Vector | _Flight:
        key = blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()
        vector = self._cache.get(key)
        if vector is not None:
            self._cache.move_to_end(key)
            self._hits += 1
            return vector
        flight = self._flights.get(key)
        if flight is not None:
            self._shared += 1
            return flight
        if self._closed:
            raise NotReady("the gateway is stopping")
        self._misses += 1
        loop = asyncio.get_running_loop()
        flight = self._flights[key] = self._line[key] = _Flight(key, text, loop.create_future())
        if not self._busy:
            self._busy = True
            loop.call_soon(self._next_batch, loop)  # not at once: what else is ready in this turn of the loop joins
        return flight

    def _next_batch(self, loop: asyncio.AbstractEventLoop) -> None:
        batch: list[_Flight] = []
        while self._line and len(batch) < MOST_AT_ONCE:
            _, flight = self._line.popitem(last=False)
            if flight.waiting:
                batch.append(flight)
            else:
                self._abandoned += 1
                self._land(flight, None)
        self._busy = bool(batch)
        if batch:
            done = loop.run_in_executor(self._thread, self._encode, [flight.text for flight in batch])
            done.add_done_callback(lambda encoded: self._landed(batch, encoded, loop))

    def _encode(self, texts: list[str]) -> tuple[Vectors, float]:
        """In the encoder's thread: the vectors, and the seconds they took."""
        start = perf_counter()
        vectors = self.encoder.encode(texts)
        if vectors.shape != (len(texts), self.encoder.dimensions):
            expected = (len(texts), self.encoder.dimensions)
            raise ValueError(f"encoder {self.encoder.fingerprint}: expected shape {expected}, got {vectors.shape}")
        return vectors, perf_counter() - start

    def _landed(
        self, batch: list[_Flight], encoded: asyncio.Future[tuple[Vectors, float]], loop: asyncio.AbstractEventLoop
    ) -> None:
        fault = NotReady("the gateway is stopping") if encoded.cancelled() else encoded.exception()
        if fault is not None:
            self._errors += 1
            for flight in batch:
                self._land(flight, fault)
        else:
            vectors, seconds = encoded.result()
            self._batches += 1
            self._encoded += len(batch)
            self._busy_s += seconds
            for flight, row in zip(batch, vectors, strict=True):
                vector = row.copy()  # of its own, so that the cache does not keep whole batches alive
                vector.flags.writeable = False
                self._land(flight, vector)
        self._next_batch(loop)

    def _land(self, flight: _Flight, outcome: Vector | BaseException | None) -> None:
        """Ends a flight with its vector, its error, or (None) nobody left to tell."""
        self._flights.pop(flight.key, None)
        if isinstance(outcome, np.ndarray):
            flight.landed.set_result(outcome)
            self._cache[flight.key] = outcome
            while len(self._cache) > self._size:
                self._cache.popitem(last=False)
        elif outcome is None or not flight.waiting:
            flight.landed.cancel()
        else:
            flight.landed.set_exception(outcome)
            flight.landed.exception()  # seen: a caller that is cancelled just now must not make this a warning
