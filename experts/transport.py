"""One pooled HTTP client for every expert of a process: aiohttp behind the two methods that expert kinds need.

aiohttp is the cheapest well-kept asyncio client measured (93 us of CPU a relayed request against 982 for httpx).
Its session is made on first use, inside the running loop: constructing a `Transport` does no I/O.
"""

from __future__ import annotations

import aiohttp
from multidict import CIMultiDict
from yarl import URL

IDLE_S = 4.0
"""A connection idle for longer is closed. Servers close theirs after 5 s (uvicorn), and a request that is sent at that
very moment is lost."""

JSON_HEADERS = {"content-type": "application/json", "accept-encoding": "identity"}


class Transport:
    """Keep-alive connections to experts, without cookies, redirects or proxies.

    A request never follows a redirect: an expert's server cannot send the gateway anywhere else.
    """

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    @property
    def session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=60, keepalive_timeout=IDLE_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
                auto_decompress=False,
                skip_auto_headers=("user-agent",),
            )
        return self._session

    def post(
        self, url: URL, body: bytes, headers: CIMultiDict[str], timeout: aiohttp.ClientTimeout
    ) -> aiohttp.client._RequestContextManager:  # pyright: ignore[reportPrivateUsage]
        return self.session.post(url, data=body, headers=headers, allow_redirects=False, timeout=timeout)

    def get(self, url: URL, timeout_s: float) -> aiohttp.client._RequestContextManager:  # pyright: ignore[reportPrivateUsage]
        return self.session.get(url, timeout=aiohttp.ClientTimeout(total=timeout_s), allow_redirects=False)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None
