"""BM25 (Robertson and Walker 1994) over all documents, one sparse matrix; identifiers are split."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

K1, B = 1.2, 0.75
_WORD = re.compile(r"\w+")
_PART = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+")
_COMMON = frozenset(
    re.findall(
        r"\w+",
        """a an and are as at be but by for if in into is it no not of on or such that the their then there these they
        this to was will with what how do does did can i my me you your which who when where why from has have had its
        we our""",
    )
)


def words(text: str) -> list[str]:
    """Lower-case words; those made of several parts (`readFile2`) also part by part; a plural's s is dropped."""
    found: list[str] = []
    for whole in _WORD.findall(text):
        parts = _PART.findall(whole)
        found += [each.lower() for each in ([whole, *parts] if len(parts) > 1 else [whole])]
    return [_singular(word) for word in found if len(word) > 1 and word not in _COMMON]


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


class Bm25:
    """One document frequency over all corpora, so that scores of several corpora can be merged."""

    def __init__(self, texts: Sequence[str]) -> None:
        import scipy.sparse as sparse  # pyright: ignore[reportMissingTypeStubs]

        self._sparse: Any = sparse
        self._column: dict[str, int] = {}
        entries: tuple[list[int], list[int], list[int]] = ([], [], [])
        lengths = np.zeros(len(texts))
        for row, text in enumerate(texts):
            found = words(text)
            lengths[row] = len(found)
            for word, count in Counter(found).items():
                entries[0].append(row)
                entries[1].append(self._column.setdefault(word, len(self._column)))
                entries[2].append(count)
        rows, columns, counts = (np.array(each, np.int64) for each in entries)
        held = np.bincount(columns, minlength=len(self._column))
        rarity = np.log1p((len(texts) - held + 0.5) / (held + 0.5))
        norm = K1 * (1 - B + B * lengths[rows] / max(float(lengths.mean()), 1e-9))
        values = (counts * (K1 + 1) / (counts + norm) * rarity[columns]).astype(np.float32)
        self._shape = (len(self._column), len(texts))
        self._matrix: Any = sparse.csr_matrix((values, (columns, rows)), shape=self._shape)

    def scores(self, queries: Sequence[str]) -> NDArray[np.float32]:
        """(n, documents), 0 where no word is shared."""
        rows: list[int] = []
        columns: list[int] = []
        for row, text in enumerate(queries):
            known = [self._column[word] for word in words(text) if word in self._column]
            rows += [row] * len(known)
            columns += known
        asked = self._sparse.csr_matrix(
            (np.ones(len(rows), np.float32), (rows, columns)), shape=(len(queries), self._shape[0])
        )
        return np.asarray((asked @ self._matrix).toarray(), np.float32)
