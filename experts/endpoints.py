"""Where experts live, and whether anybody is home.

Several experts may share one server (LoRA adapters of one base), so health belongs to the endpoint, not to the
expert. Two sources: passive (what real calls met) and active (`GET /health` every `probe_every_s`). An endpoint that
cannot be reached is down at once and comes back with the first good probe; one that answers 5xx or stalls cools down
for a time that doubles with each failure in a row.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from time import monotonic

import aiohttp
from yarl import URL

from experts.transport import Transport

PROBE_EVERY_S = 2.0
PROBE_TIMEOUT_S = 2.0
FAILURES_BEFORE_COOLDOWN = 3
COOLDOWN_S = 1.0
COOLDOWN_MOST_S = 30.0


class Endpoint:
    """One server's base URL (`http://host:port/v1`), its calls under way and its health.

    `address` is the URL to call; `url` is how it is spoken of, without the user and password that it may hold.
    """

    __slots__ = (
        "address",
        "cool_until",
        "failures",
        "in_flight",
        "last_error",
        "paths",
        "reachable",
        "told_up",
        "url",
        "users",
    )

    def __init__(self, url: str) -> None:
        self.address = url.rstrip("/")
        base = URL(self.address)
        self.url = str(base.with_user(None)) if base.user or base.password else self.address
        self.paths = {
            "chat": base / "chat/completions", "completion": base / "completions", "embedding": base / "embeddings",
            "classify": self._root / "classify",
        }  # fmt: skip
        self.in_flight = 0
        self.reachable = True
        self.failures = 0
        self.cool_until = 0.0
        self.last_error = ""
        self.told_up = True
        self.users = 0

    @property
    def up(self) -> bool:
        return self.reachable and (self.cool_until == 0.0 or monotonic() >= self.cool_until)

    @property
    def _root(self) -> URL:
        """Where vLLM's own paths are: beside `/v1`."""
        base = URL(self.address)
        return base.parent if base.path.rstrip("/").endswith("/v1") else base

    @property
    def tokenize_urls(self) -> tuple[URL, URL]:
        """vLLM's `/tokenize` and `/detokenize`."""
        return self._root / "tokenize", self._root / "detokenize"

    @property
    def health_urls(self) -> tuple[URL, URL]:
        """vLLM's `/health`; servers that have none are asked for `/v1/models`."""
        return self._root / "health", URL(self.address) / "models"

    def succeeded(self) -> None:
        self.reachable, self.failures, self.cool_until = True, 0, 0.0

    def unreachable(self, error: str) -> None:
        self.reachable, self.last_error = False, error

    def failed(self, error: str) -> None:
        """A call that reached the server and got no answer out of it."""
        self.failures += 1
        self.last_error = error
        beyond = self.failures - FAILURES_BEFORE_COOLDOWN
        if beyond >= 0:
            self.cool_until = monotonic() + min(COOLDOWN_S * 2**beyond, COOLDOWN_MOST_S)


class Endpoints:
    """The endpoints in use by this process, each known once, probed by one task.

    `on_change` is called with an endpoint by the first probe after it was lost or is back, whoever found out.
    """

    def __init__(self, transport: Transport, *, on_change: Callable[[Endpoint], None] | None = None) -> None:
        self._transport = transport
        self._known: dict[str, Endpoint] = {}
        self._on_change = on_change
        self._prober: asyncio.Task[None] | None = None

    def __iter__(self) -> Iterable[Endpoint]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return iter(tuple(self._known.values()))

    def use(self, urls: Iterable[str]) -> tuple[Endpoint, ...]:
        """The endpoints at these URLs, counted as used until `release`."""
        found: list[Endpoint] = []
        for url in dict.fromkeys(url.rstrip("/") for url in urls):
            endpoint = self._known.setdefault(url, Endpoint(url))
            endpoint.users += 1
            found.append(endpoint)
        return tuple(found)

    def release(self, endpoints: Iterable[Endpoint]) -> None:
        for endpoint in endpoints:
            endpoint.users -= 1
            if endpoint.users <= 0:
                self._known.pop(endpoint.address, None)

    def start(self) -> None:
        """Begin probing, on the running loop."""
        if self._prober is None:
            self._prober = asyncio.create_task(self._probe_forever(), name="endpoint-prober")

    async def close(self) -> None:
        if self._prober is not None:
            self._prober.cancel()
            with suppress(asyncio.CancelledError):
                await self._prober
            self._prober = None

    async def probe(self) -> None:
        """One round over all endpoints, side by side."""
        await asyncio.gather(*(self._probe_one(endpoint) for endpoint in tuple(self._known.values())))

    async def _probe_forever(self) -> None:
        while True:
            await self.probe()
            await asyncio.sleep(PROBE_EVERY_S)

    async def _probe_one(self, endpoint: Endpoint) -> None:
        health, models = endpoint.health_urls
        try:
            async with self._transport.get(health, PROBE_TIMEOUT_S) as reply:
                status = reply.status
            if status == 404:
                async with self._transport.get(models, PROBE_TIMEOUT_S) as reply:
                    status = reply.status
            endpoint.reachable = status < 500
            if not endpoint.reachable:
                endpoint.last_error = f"health check answered {status}"
        except (aiohttp.ClientError, TimeoutError, OSError) as fault:
            endpoint.unreachable(f"health check: {type(fault).__name__}: {fault}"[:200])
        if endpoint.reachable != endpoint.told_up:
            endpoint.told_up = endpoint.reachable
            if self._on_change is not None:
                self._on_change(endpoint)


def least_loaded(endpoints: Iterable[Endpoint], avoid: Iterable[Endpoint] = ()) -> Endpoint | None:
    """The endpoint that is up with the fewest calls under way; None when all are down."""
    tried = tuple(avoid)
    best: Endpoint | None = None
    for endpoint in endpoints:
        if endpoint.up and endpoint not in tried and (best is None or endpoint.in_flight < best.in_flight):
            best = endpoint
    return best
