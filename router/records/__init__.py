"""What a gateway keeps of its work: the decision log and the outcome store, in SQLite or Redis."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from router.records.protocol import Records

if TYPE_CHECKING:
    from router.config import Config

KEEP = 200_000
FILE = "records.sqlite"


@dataclass(frozen=True, slots=True)
class Recording:
    """Where decisions and outcomes are kept: in `folder`, or in Redis where `redis_url` is given.

    `texts`: keep the queries' texts too, not only their hashes and vectors. `keep`: decisions kept, the newest ones.
    """

    folder: Path
    redis_url: str | None = None
    texts: bool = False
    keep: int = KEEP

    def open(self) -> Records:
        """Connects on first use. Raises ConfigError where the Redis URL cannot be read."""
        if self.redis_url is not None:
            from router.records.redis import RedisRecords

            return RedisRecords(self.redis_url, keep=self.keep)
        from router.records.sqlite import SqliteRecords

        return SqliteRecords(self.folder / FILE, keep=self.keep)


def recording(config: Config) -> Recording | None:
    """Where the settings have decisions and outcomes kept; None where no state folder is set."""
    if config.state is None:
        return None
    redis_url = config.redis_url.get_secret_value() if config.redis_url else None
    return Recording(config.state, redis_url, config.log_queries, config.keep_decisions)
