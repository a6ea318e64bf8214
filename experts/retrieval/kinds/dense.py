"""`provider: dense`: the nearest vectors of the query's, by cosine (see `experts.retrieval.nearest`).

With an `adapter`, the query's vector goes through it first; the documents' stay as they are.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from experts.errors import ExpertBroke
from experts.language import Passage
from experts.protocols import Vectors
from experts.retrieval.adapter import Adapter, load_adapter
from experts.retrieval.kinds import RetrieverParts
from experts.retrieval.kinds._local import Folder, Hits, Searched, check_encoder
from experts.retrieval.nearest import Nearest

USES_VECTORS = True


class Options(BaseModel):
    """Keys of a retriever's manifest that only this provider has."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    index: Folder = Field(description="The folder that `consilium index build` made; relative to the manifest's file.")
    adapter: Folder | None = Field(
        default=None, description="A query-side adapter, trained for the same encoder; relative to the manifest's file."
    )


def build(name: str, options: Options, parts: RetrieverParts) -> Dense:
    searched = Searched(name, options.index)
    encoder = check_encoder(name, searched.corpus, parts.encoder)
    adapter = load_adapter(Path(options.adapter), encoder) if options.adapter else None
    return Dense(name, searched, Nearest(searched.corpus), encoder, adapter)


class Dense:
    def __init__(self, name: str, searched: Searched, nearest: Nearest, encoder: str, adapter: Adapter | None) -> None:
        self.name = name
        self.encoder: str | None = encoder
        self._searched = searched
        self.nearest = nearest
        self._adapter = adapter

    @property
    def way(self) -> str:
        """What its cosines are called: those of another encoder, or under an adapter, do not compare."""
        return f"dense {self.encoder}" if self._adapter is None else f"adapted {self.name}"

    @property
    def corpus(self) -> str:
        return self._searched.corpus.name

    @property
    def size(self) -> int:
        return self.nearest.size

    @property
    def pilots(self) -> Vectors | None:
        return self._searched.pilots

    def look_again(self) -> None:
        self._searched.look_again()

    async def search(self, text: str, vector: NDArray[np.float32] | None, k: int) -> list[Passage]:
        asked = self.adapted(vector)
        return await self._searched.passages(lambda: Hits.of(self.way, self.nearest.search(asked, k)))

    @property
    def ways(self) -> tuple[str, ...]:
        return (self.way,)

    def adapted(self, vector: NDArray[np.float32] | None) -> NDArray[np.float32]:
        if vector is None:
            raise ExpertBroke(
                f"retriever {self.name}: expected the query's vector under {self.encoder}", expert=self.name
            )
        return vector if self._adapter is None else self._adapter(vector[None, :])[0]

    async def close(self) -> None:
        await self._searched.close()
