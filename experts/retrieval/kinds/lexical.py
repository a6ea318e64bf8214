"""`provider: lexical`: the words of the query, ranked by BM25 (Robertson and Walker 1994) in SQLite's FTS5.

The word index lives in the corpus's own file and follows every change in the same transaction.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from experts.language import Passage
from experts.retrieval.corpus import Corpus
from experts.retrieval.kinds import RetrieverParts
from experts.retrieval.kinds._local import Folder, Hits, Rows, Searched

MOST_WORDS = 64
_WORD = re.compile(r"\w+")
_COMMON = frozenset(
    [
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "by",
        "can",
        "could",
        "did",
        "do",
        "does",
        "for",
        "from",
        "had",
        "has",
        "have",
        "how",
        "i",
        "if",
        "in",
        "into",
        "is",
        "it",
        "its",
        "me",
        "my",
        "of",
        "on",
        "or",
        "our",
        "should",
        "that",
        "the",
        "their",
        "them",
        "there",
        "these",
        "they",
        "this",
        "to",
        "us",
        "was",
        "we",
        "were",
        "what",
        "when",
        "where",
        "which",
        "who",
        "whom",
        "why",
        "will",
        "with",
        "would",
        "you",
        "your",
    ]
)


class Options(BaseModel):
    """Keys of a retriever's manifest that only this provider has."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    index: Folder = Field(description="The folder that `consilium index build` made; relative to the manifest's file.")


def build(name: str, options: Options, parts: RetrieverParts) -> Lexical:
    return Lexical(name, Searched(name, options.index, piloted=False))


class Lexical:
    encoder: str | None = None
    ways = ("lexical",)

    def __init__(self, name: str, searched: Searched) -> None:
        self.name = name
        self._searched = searched

    @property
    def corpus(self) -> str:
        return self._searched.corpus.name

    @property
    def size(self) -> int:
        return self._searched.corpus.size()

    async def search(self, text: str, vector: NDArray[np.float32] | None, k: int) -> list[Passage]:
        return await self._searched.passages(lambda: Hits.of("lexical", by_words(self._searched.corpus, text, k)))

    async def close(self) -> None:
        await self._searched.close()


def by_words(corpus: Corpus, text: str, k: int) -> Rows:
    """Rows by BM25, best first: those with any of the text's words. The common ones count only where no other is."""
    query = _any_of(text)
    return corpus.match(query, k) if query else []


def words_of(corpus: Corpus, text: str, rows: Sequence[int]) -> dict[int, float]:
    """BM25 of these rows, 0 where none of the text's words is."""
    query = _any_of(text)
    found = corpus.match_in(query, rows) if query and rows else {}
    return {row: found.get(row, 0.0) for row in rows}


def _any_of(text: str) -> str:
    words = list(dict.fromkeys(_WORD.findall(text.lower())))
    telling = [word for word in words if word not in _COMMON] or words
    return " OR ".join(f'"{word}"' for word in telling[:MOST_WORDS])
