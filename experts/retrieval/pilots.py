"""Pilot embeddings of a corpus (RouterRetriever, arXiv 2409.02685), made of its documents alone: their centroids."""

from __future__ import annotations

import numpy as np

from experts.protocols import Vectors
from experts.retrieval.corpus import Corpus

PILOTS = 16
ROUNDS = 10
SAMPLED = 4000
"""Passages that a corpus's pilots are made of, about."""


def centroids(vectors: Vectors, count: int, rounds: int, rng: np.random.Generator) -> Vectors:
    """Spherical k-means: up to `count` unit rows."""
    centres = vectors[rng.choice(len(vectors), min(count, len(vectors)), replace=False)]
    for _ in range(rounds):
        owner = (vectors @ centres.T).argmax(axis=1)
        sums = np.zeros_like(centres)
        np.add.at(sums, owner, vectors)
        length = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(length > 1e-6, sums / np.maximum(length, 1e-6), centres).astype(np.float32)
    return centres


class Pilots:
    """The pilots of one corpus, made again when a fifth of its passages came or went. Not for several threads."""

    def __init__(self, corpus: Corpus) -> None:
        self.vectors: Vectors | None = None
        self._corpus = corpus
        self._version, self._size, self._until, self._gone = -1, 0, 0, 0
        self.refresh()

    def refresh(self) -> None:
        """Nothing is read where nobody has written."""
        corpus = self._corpus
        version = corpus.version()
        if corpus.embedded is None or version == self._version:
            return
        self._version = version
        if corpus.counted_since(self._until, self._gone) * 5 <= self._size:
            return
        self._size, self._until, self._gone = corpus.size(), corpus.last_row(), corpus.gone_until()
        sample = corpus.sampled(SAMPLED)
        self.vectors = centroids(sample, PILOTS, ROUNDS, np.random.default_rng(0)) if len(sample) else None
