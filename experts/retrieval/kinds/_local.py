"""What the retrievers over a corpus on this machine share: its path, one thread, and errors in the tree's words."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import BeforeValidator, ValidationInfo

from experts.errors import ConfigError, ExpertBroke, ExpertDown
from experts.language import Passage
from experts.protocols import Vectors
from experts.retrieval.corpus import Corpus, open_corpus
from experts.retrieval.pilots import Pilots

Rows = list[tuple[int, float]]


class Hits(NamedTuple):
    """Rows of a corpus with their scores, best first; and of each row what every way of searching says."""

    rows: Rows
    ways: Mapping[int, Mapping[str, float]]

    @classmethod
    def of(cls, way: str, rows: Rows) -> Hits:
        return cls(rows, {row: {way: score} for row, score in rows})


def _from_the_manifest(value: object, info: ValidationInfo) -> object:
    if not isinstance(value, str):
        return value
    context: Mapping[str, Path] = info.context or {}
    return str((context.get("folder", Path()) / Path(value).expanduser()).resolve())


Folder = Annotated[str, BeforeValidator(_from_the_manifest)]
"""A path; a relative one starts at the manifest's file."""


class Searched:
    """A corpus and the one thread that searches it: SQLite and faiss hold no event loop up."""

    def __init__(self, name: str, folder: str, *, piloted: bool = True) -> None:
        self.name = name
        self.corpus: Corpus = open_corpus(Path(folder))
        self._pilots = Pilots(self.corpus) if piloted else None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"retriever-{name}")
        self._closed = False

    @property
    def pilots(self) -> Vectors | None:
        """(p, d) unit rows; None for a corpus without vectors."""
        return self._pilots.vectors if self._pilots else None

    def look_again(self) -> None:
        """Has the pilots made again where the corpus changed, in the thread; nobody waits for it."""
        if self._pilots and not self._closed:
            self._thread.submit(self._pilots.refresh)

    async def passages(self, find: Callable[[], Hits]) -> list[Passage]:
        """The passages of the rows that `find`, called in the thread, gives. Raises ExpertError kinds."""
        if self._closed:
            raise ExpertDown(f"retriever {self.name} is closed", expert=self.name)

        def searched() -> list[Passage]:
            hits = find()
            if self._pilots:
                self._pilots.refresh()
            return self.corpus.passages(hits.rows, self.name, hits.ways) if hits.rows else []

        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, searched)
        except (sqlite3.Error, OSError, ConfigError) as fault:
            raise ExpertBroke(
                f"retriever {self.name}: its corpus cannot be searched: {fault}", expert=self.name
            ) from fault

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await asyncio.to_thread(self._thread.shutdown, wait=True, cancel_futures=True)
            self.corpus.close()


def check_encoder(name: str, corpus: Corpus, encoder: str) -> str:
    """The fingerprint that queries must come under. Raises ConfigError where the manifest's encoder is another."""
    found = corpus.embedded
    if found is None:
        raise ConfigError(
            f"retriever {name}: {corpus.folder} has no vectors; build it with an encoder, or search it by words "
            "(`provider: lexical`)"
        )
    if encoder != found.fingerprint:
        raise ConfigError(
            f"retriever {name}: {corpus.folder} was embedded by {found.fingerprint}, the manifest's encoder is "
            f"{encoder or 'none'}; name that encoder (model {found.model}, runtime {found.runtime}), or build again"
        )
    return found.fingerprint
