"""State shared between gateway processes: one interface, in memory or on Redis."""

from __future__ import annotations

from router.store.memory import MemoryStore
from router.store.protocol import Store


def open_store(redis_url: str | None) -> Store:
    """The store at this URL (`redis://…`, `rediss://…`, `unix://…`), in memory where there is none.

    Connects to nothing yet. Raises ConfigError where the URL is not one of Redis.
    """
    if not redis_url:
        return MemoryStore()
    from router.store.redis import RedisStore

    return RedisStore(redis_url)
