"""`provider: remote`: a search endpoint over HTTP, such as another gateway's `/v1/retrieve`.

It is sent `{"query", "top_k"}`, and answers with `passages`, `results` or `data`: a list, best first, of objects with
`text` (or `content`) and, where it has them, `id`, `title`, `score` and `metadata`.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import aiohttp
import numpy as np
import orjson
from multidict import CIMultiDict
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, SecretStr
from yarl import URL

from experts.errors import ExpertBroke, ExpertDown, ExpertTimeout
from experts.language import Passage
from experts.retrieval.kinds import RetrieverParts
from experts.transport import JSON_HEADERS

MOST_BYTES = 16 * 2**20


class Options(BaseModel):
    """Keys of a retriever's manifest that only this provider has."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field(pattern=r"^https?://", description="The endpoint that is posted to.")
    api_key: SecretStr | None = Field(default=None, description="Sent as a bearer token, such as ${SEARCH_KEY}.")
    fields: dict[str, str | int | float | bool] = Field(
        default_factory=dict, description="More fields of the body, such as another gateway's `retriever`."
    )


def build(name: str, options: Options, parts: RetrieverParts) -> Remote:
    return Remote(name, options, parts)


class Remote:
    encoder: str | None = None
    size: int = 0

    def __init__(self, name: str, options: Options, parts: RetrieverParts) -> None:
        self.name = name
        self.corpus = name
        self._options = options
        self._parts = parts
        self._url = URL(options.url)
        self._headers: CIMultiDict[str] = CIMultiDict(JSON_HEADERS)
        if options.api_key is not None:
            self._headers["authorization"] = f"Bearer {options.api_key.get_secret_value()}"

    async def search(self, text: str, vector: NDArray[np.float32] | None, k: int) -> list[Passage]:
        body = orjson.dumps({**self._options.fields, "query": text, "top_k": k})
        limit = aiohttp.ClientTimeout(total=self._parts.timeout_s)
        try:
            async with self._parts.transport.post(self._url, body, self._headers, limit) as reply:
                said = await reply.content.read(MOST_BYTES)
                if reply.status != 200:
                    raise ExpertBroke(f"retriever {self.name}: its endpoint answered {reply.status}", expert=self.name)
        except TimeoutError as fault:
            raise ExpertTimeout(f"retriever {self.name} said nothing in {self._parts.timeout_s:g} s",
                                expert=self.name) from fault  # fmt: skip
        except aiohttp.ClientError as fault:
            raise ExpertDown(f"retriever {self.name} cannot be reached: {fault}", expert=self.name) from fault
        return _passages(self.name, said)[:k]

    async def close(self) -> None:
        await asyncio.sleep(0)


def _passages(name: str, said: bytes) -> list[Passage]:
    try:
        whole = orjson.loads(said)
        rows = cast(list[dict[str, Any]], whole.get("passages") or whole.get("results") or whole.get("data") or [])
        return [
            Passage(str(row.get("id", number)), str(row.get("text") or row.get("content") or ""),
                    str(row.get("title") or ""), float(row.get("score") or 0.0), name, name,
                    row.get("metadata") or {})
            for number, row in enumerate(rows)
        ]  # fmt: skip
    except (orjson.JSONDecodeError, AttributeError, TypeError, ValueError) as fault:
        raise ExpertBroke(f"retriever {name}: expected a JSON list of passages, got something else ({fault})",
                          expert=name) from fault  # fmt: skip
