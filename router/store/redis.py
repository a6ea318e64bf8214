"""The store of gateways that share one Redis: two Lua scripts, each one round trip and atomic.

**When Redis is away** no request is refused for it and none waits for it: the first failed call opens a circuit (one
warning in the log), limits are then kept by each gateway on its own (so `most` and the rates hold per process), values
read as absent, and a background task pings until Redis is back, when the slots held meanwhile are written to it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, cast
from uuid import uuid4

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from experts.errors import ConfigError
from router.store.memory import MemoryStore
from router.store.protocol import check_rate

log = logging.getLogger(__name__)

CALL_S = 1.0
PING_EVERY_S = 0.5
CONNECTIONS = 32

# The generic cell rate algorithm (ITU-T I.371) on Redis's own clock, in microseconds: one key holds the time at which
# the bucket is full. KEYS: bucket. ARGV: microseconds a token, capacity, n. Returns the microseconds to wait.
TAKE = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local each, capacity, n = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local full_at = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now) + n * each
local wait = full_at - capacity * each - now
if wait >= 1 then return math.ceil(wait) end
redis.call('SET', KEYS[1], string.format('%.0f', full_at), 'PX', math.ceil((full_at - now) / 1000) + 1)
return 0
"""

# Slots: one hash a key, one field a worker: `held:turn:expiry`. A worker writes how many it holds in all, with a turn
# that only grows, so that calls overtaking each other on two connections cannot leave an old number behind. A worker
# that holds none keeps its field, and with it its turn, until that expires.
# KEYS: hash. ARGV: worker, held, turn, most (-1: no limit, only tell), milliseconds to live. Returns {granted, total}.
HOLD = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local worker, held, turn = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local most, ttl = tonumber(ARGV[4]), tonumber(ARGV[5])
local total, last = held, -1
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local count, told, expiry = string.match(all[i + 1], '(%d+):(%d+):(%d+)')
  if all[i] == worker then last = tonumber(told)
  elseif tonumber(expiry) <= now then redis.call('HDEL', KEYS[1], all[i])
  else total = total + tonumber(count) end
end
if most >= 0 and total > most then return {0, total} end
if turn > last then
  redis.call('HSET', KEYS[1], worker, string.format('%d:%d:%.0f', held, turn, now + ttl))
  if redis.call('PTTL', KEYS[1]) < ttl then redis.call('PEXPIRE', KEYS[1], ttl) end
end
return {1, total}
"""


class RedisStore:
    """One per process. `prefix` begins every key, so that installations can share a Redis.

    Raises ConfigError where `url` is not a Redis URL. Connects on the first call.
    """

    def __init__(self, url: str, *, prefix: str = "consilium:", call_s: float = CALL_S) -> None:
        try:
            pool = cast(Any, BlockingConnectionPool).from_url(
                url, max_connections=CONNECTIONS, timeout=call_s, socket_timeout=call_s, socket_connect_timeout=call_s,
                # One more try, at once and only for a connection that turned out stale: Redis may have restarted.
                retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
            )  # fmt: skip
        except ValueError as fault:
            expected = "redis://[user:password@]host:port[/database], rediss://… or unix:///path"
            raise ConfigError(f"the Redis URL cannot be read: expected {expected}") from fault
        self._redis: Any = Redis.from_pool(pool)
        self._take: Callable[..., Awaitable[Any]] = self._redis.register_script(TAKE)
        self._hold: Callable[..., Awaitable[Any]] = self._redis.register_script(HOLD)
        self._prefix = prefix
        self._worker = uuid4().hex[:12]
        self._alone = MemoryStore()
        self._held: dict[str, tuple[int, float]] = {}  # slots this worker holds, and their seconds to live
        self._untold: set[str] = set()  # keys of which Redis may know an old number
        self._turn = 0
        self._heart: asyncio.Task[None] | None = None
        self._away = False
        self._pinger: asyncio.Task[None] | None = None

    @property
    def up(self) -> bool:
        """False from a failed call until a ping succeeds."""
        return not self._away

    async def take(self, key: str, *, capacity: float, per_s: float, n: float = 1.0) -> float:
        check_rate(capacity, per_s, n)
        wait: int | None = await self._call(
            lambda: self._take(keys=[f"{self._prefix}rate:{key}"], args=[1e6 / per_s, capacity, n])
        )
        return await self._alone.take(key, capacity=capacity, per_s=per_s, n=n) if wait is None else wait / 1e6

    async def enter(self, key: str, *, most: int, ttl_s: float) -> bool:
        held = self._held.get(key, (0, ttl_s))[0] + 1
        if held > most:
            return False
        self._held[key] = held, ttl_s  # before the answer, so that calls beside this one count it
        if self._heart is None:
            self._heart = asyncio.create_task(self._beat(), name="slots-heartbeat")
        granted = False
        turn = self._turn + 1
        try:
            reply = await self._tell(key, held, ttl_s, most)
            granted = reply is None or bool(reply[0])
        finally:
            if not granted:
                self._drop(key)
        if not granted and self._turn > turn:  # a call beside this one has counted it, and may have said so
            await self._tell(key, self._held.get(key, (0, ttl_s))[0], ttl_s)
        return granted

    async def leave(self, key: str) -> None:
        if key in self._held:
            ttl_s = self._drop(key)
            await self._tell(key, self._held.get(key, (0, ttl_s))[0], ttl_s)

    async def count(self, key: str) -> int:
        held, ttl_s = self._held.get(key, (0, 1.0))
        reply = await self._tell(key, held, ttl_s)
        return held if reply is None else int(reply[1])

    async def get(self, key: str) -> bytes | None:
        return await self._call(lambda: self._redis.get(f"{self._prefix}value:{key}"))

    async def put(self, key: str, value: bytes, ttl_s: float) -> None:
        await self._call(lambda: self._redis.set(f"{self._prefix}value:{key}", value, px=max(1, int(ttl_s * 1000))))

    async def close(self) -> None:
        for task in (self._heart, self._pinger):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        if self.up:
            for key, (_, ttl_s) in tuple(self._held.items()):
                await self._tell(key, 0, ttl_s)
        self._held.clear()
        await self._redis.aclose()
        await self._redis.connection_pool.disconnect()

    def _drop(self, key: str) -> float:
        """One slot fewer on this side; returns its seconds to live."""
        held, ttl_s = self._held[key]
        if held > 1:
            self._held[key] = held - 1, ttl_s
        else:
            del self._held[key]
        self._untold.add(key)
        return ttl_s

    async def _tell(self, key: str, held: int, ttl_s: float, most: int = -1) -> list[int] | None:
        """Say how many slots this worker holds. Returns [granted, total of all workers], None when Redis is away."""
        self._turn += 1
        args = [self._worker, held, self._turn, most, max(1, int(ttl_s * 1000))]
        reply: list[int] | None = await self._call(lambda: self._hold(keys=[f"{self._prefix}slots:{key}"], args=args))
        if reply is None:
            self._untold.add(key)
        elif reply[0]:
            self._untold.discard(key)
        return reply

    async def _retell(self) -> None:
        """Refresh every slot held, and correct what Redis was not told."""
        for key in tuple(self._held.keys() | self._untold):
            held, ttl_s = self._held.get(key, (0, 1.0))
            if await self._tell(key, held, ttl_s) is None:
                return

    async def _beat(self) -> None:
        """While slots are held: refresh them three times in their time to live."""
        while self._held or self._untold:
            await asyncio.sleep(min((ttl_s for _, ttl_s in self._held.values()), default=1.0) / 3)
            await self._retell()
        self._heart = None

    async def _call(self, command: Callable[[], Awaitable[Any]]) -> Any:
        """The command's reply; None when Redis is away, at no cost while the circuit is open."""
        if self._away:
            return None
        try:
            return await command()
        except (RedisError, OSError) as fault:
            if not self._away:  # else a call beside this one has said so already
                self._away = True
                log.warning(
                    "redis cannot be used (%s: %s): each gateway keeps its limits by itself until it is back",
                    type(fault).__name__, fault,
                )  # fmt: skip
                self._pinger = asyncio.create_task(self._ping(), name="redis-pinger")
            return None

    async def _ping(self) -> None:
        while True:
            await asyncio.sleep(PING_EVERY_S)
            try:
                await cast(Awaitable[Any], self._redis.ping())
            except (RedisError, OSError):
                continue
            break
        self._away = False
        log.info("redis is back: limits are shared again")
        await self._retell()
