"""Health of endpoints: what probes find on real servers, and who is chosen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
from aiohttp import web

from experts.endpoints import COOLDOWN_MOST_S, FAILURES_BEFORE_COOLDOWN, Endpoint, Endpoints, least_loaded
from experts.transport import Transport


class Health:
    """A server of which only the health can be asked. `status` None: it has no /health, only /v1/models."""

    def __init__(self) -> None:
        self.status: int | None = 200
        self.models = 200
        self.asked: list[str] = []
        self.probed = asyncio.Event()
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/{path:.*}", self._answer)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}/v1"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        self.probed.set()
        if request.path == "/health":
            return web.Response(status=self.status or 404)
        return web.Response(status=self.models)


@pytest.fixture
async def server() -> AsyncIterator[Health]:
    started = Health()
    await started.start()
    yield started
    await started.stop()


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    opened = Transport()
    yield opened
    await opened.close()


@pytest.mark.parametrize(
    ("health", "models", "reachable"),
    [(200, 200, True), (503, 200, False), (None, 200, True), (None, 401, True), (None, 500, False), (401, 500, True)],
)
async def test_what_a_probe_finds(
    server: Health, transport: Transport, health: int | None, models: int, reachable: bool
):
    server.status, server.models = health, models
    endpoints = Endpoints(transport)
    (endpoint,) = endpoints.use([server.url])
    await endpoints.probe()
    assert endpoint.reachable == endpoint.up == reachable
    assert server.asked == (["/health"] if health else ["/health", "/v1/models"])


async def test_each_change_is_told_once_whoever_found_out(server: Health, transport: Transport):
    told: list[tuple[str, bool]] = []
    endpoints = Endpoints(transport, on_change=lambda endpoint: told.append((endpoint.url, endpoint.reachable)))
    (endpoint,) = endpoints.use([server.url])
    await endpoints.probe()
    assert told == []
    await server.stop()
    endpoint.unreachable("a call could not connect")
    await endpoints.probe()
    await endpoints.probe()
    assert told == [(server.url, False)]
    assert "health check" in endpoint.last_error
    url = server.url
    await server.start()
    endpoints.release([endpoint])
    (back,) = endpoints.use([url])
    assert back is not endpoint


async def test_a_server_that_comes_back_is_told(server: Health, transport: Transport):
    told: list[bool] = []
    endpoints = Endpoints(transport, on_change=lambda endpoint: told.append(endpoint.reachable))
    endpoints.use([server.url])
    for status in (503, 200, 200, 500, 200):
        server.status = status
        await endpoints.probe()
    assert told == [False, True, False, True]


async def test_the_prober_probes_by_itself_until_closed(server: Health, transport: Transport):
    endpoints = Endpoints(transport)
    endpoints.use([server.url])
    endpoints.start()
    endpoints.start()
    await asyncio.wait_for(server.probed.wait(), 10)
    await endpoints.close()
    await endpoints.close()
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "endpoint-prober"]


async def test_one_url_is_one_endpoint_until_its_last_user_is_gone(transport: Transport):
    endpoints = Endpoints(transport)
    (one,) = endpoints.use(["http://h:1/v1"])
    two = endpoints.use(["http://h:1/v1/", "http://h:1/v1", "http://h:2/v1"])
    assert two[0] is one
    assert len(two) == 2
    endpoints.release([one])
    assert one in list(endpoints.__iter__())
    endpoints.release(two)
    assert list(endpoints.__iter__()) == []


@pytest.mark.parametrize(
    ("url", "health", "models"),
    [
        ("http://h:8000/v1", "http://h:8000/health", "http://h:8000/v1/models"),
        ("https://h/serve/v1/", "https://h/serve/health", "https://h/serve/v1/models"),
        ("http://h:8000", "http://h:8000/health", "http://h:8000/models"),
    ],
)
def test_addresses(url: str, health: str, models: str):
    endpoint = Endpoint(url)
    assert tuple(map(str, endpoint.health_urls)) == (health, models)
    assert str(endpoint.paths["chat"]) == url.rstrip("/") + "/chat/completions"


def test_cool_downs_double_up_to_a_limit_and_end_with_a_success():
    endpoint = Endpoint("http://h/v1")
    for _ in range(FAILURES_BEFORE_COOLDOWN - 1):
        endpoint.failed("500")
    assert endpoint.up
    lengths: list[float] = []
    for _ in range(12):
        endpoint.failed("500")
        assert not endpoint.up
        lengths.append(endpoint.cool_until)
    steps = [later - earlier for earlier, later in pairwise(lengths)]
    assert steps[:3] == pytest.approx([1, 2, 4], abs=0.2)
    assert steps[-1] == pytest.approx(0, abs=0.2)
    assert max(lengths) - min(lengths) <= COOLDOWN_MOST_S
    endpoint.succeeded()
    assert endpoint.up
    assert endpoint.failures == 0


def test_the_least_loaded_that_is_up_and_not_tried():
    a, b, c = (Endpoint(f"http://h:{i}/v1") for i in range(3))
    a.in_flight, b.in_flight, c.in_flight = 3, 1, 2
    assert least_loaded([a, b, c]) is b
    assert least_loaded([a, b, c], [b]) is c
    b.unreachable("gone")
    assert least_loaded([a, b, c]) is c
    assert least_loaded([a, b, c], [a, c]) is None
    assert least_loaded([]) is None
