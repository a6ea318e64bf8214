"""Which corpora are worth searching: pilot embeddings (RouterRetriever, arXiv 2409.02685), made of documents alone.

A corpus is its pilots, the centroids of its documents; belief in it is a softmax over the nearest pilot of each.
Adding a corpus adds its pilots, and nothing is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from experts.protocols import Vectors
from experts.retrieval.pilots import PILOTS, ROUNDS, centroids

Floats = NDArray[np.float64]
SHARPNESS = 20.0


@dataclass(frozen=True, slots=True, eq=False)
class Pilots:
    """`vectors`: (p, d) unit rows of each corpus; `sizes`: documents of each corpus."""

    vectors: tuple[Vectors, ...]
    sizes: tuple[int, ...]

    def beliefs(self, queries: Vectors) -> Floats:
        """(n, C) log-probabilities of the corpora."""
        near = np.stack([(queries @ each.T).max(axis=1) for each in self.vectors], axis=1).astype(np.float64)
        logits = SHARPNESS * (near - near.max(axis=1, keepdims=True))
        return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))

    def searched(self, beliefs: Floats, mass: float) -> NDArray[np.bool_]:
        """(n, C): the fewest corpora, the likeliest first, that hold `mass` of the belief; at least one."""
        order = np.argsort(-beliefs, axis=1, kind="stable")
        chances = np.take_along_axis(np.exp(beliefs), order, axis=1)
        before = np.cumsum(chances, axis=1) - chances
        kept = np.zeros(beliefs.shape, bool)
        np.put_along_axis(kept, order, before < mass, axis=1)
        kept[np.arange(len(kept)), order[:, 0]] = True
        return kept

    def share(self, searched: NDArray[np.bool_]) -> float:
        """The share of all documents that is searched, on average over the queries."""
        sizes = np.array(self.sizes, np.float64)
        return float((searched @ sizes).mean() / sizes.sum())

    def mass_for(self, beliefs: Floats, share: float) -> float:
        """The largest mass whose searches touch at most `share` of the documents, over these queries."""
        steps = np.linspace(0.995, 0.05, 190)
        fits = (mass for mass in steps if self.share(self.searched(beliefs, float(mass))) <= share)
        return float(next(fits, steps[-1]))


def pilots_of(corpora: Sequence[Vectors], *, pilots: int = PILOTS, seed: int = 0, rounds: int = ROUNDS) -> Pilots:
    """Spherical k-means in each corpus: up to `pilots` centroids of its documents' vectors."""
    rng = np.random.default_rng(seed)
    return Pilots(tuple(centroids(each, pilots, rounds, rng) for each in corpora), tuple(map(len, corpora)))
