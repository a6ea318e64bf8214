"""What of a query is embedded: for the gateway that serves, and for the outcomes that it is fitted on, alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from experts.language import Query
from experts.protocols import Encoder, Vectors

LAST_TURN_WEIGHT = 0.7
EARLIER_DECAY = 0.5
MOST_EARLIER_TURNS = 8
MOST_CHARS = 4_000
TAIL_CHARS = 1_000

Vector = NDArray[np.float32]


def routing_texts(query: Query) -> tuple[list[str], list[float]]:
    """The texts of a query that are embedded, and their weights: those of its user's turns."""
    return weighted_texts(query.user_texts())


def weighted_texts(said: Sequence[str]) -> tuple[list[str], list[float]]:
    """What of these turns is embedded, and with what weights, which sum to 1. The last text is of the last turn.

    A single turn is exactly that turn. Of a conversation, the last turn weighs LAST_TURN_WEIGHT, and each turn before
    it EARLIER_DECAY of its successor. Turns stay apart, instead of being joined, so that each is found in the cache
    from when it was the last. A turn beyond MOST_CHARS becomes its head and its tail, where tasks are stated, with
    equal weights: encoders read a few hundred words, so one text would lose its tail.
    """
    turns = [text for text in said if text and not text.isspace()] or [""]
    if len(turns) == 1 and len(turns[0]) <= MOST_CHARS:
        return turns, [1.0]
    earlier = turns[-1 - MOST_EARLIER_TURNS : -1]
    shares = [EARLIER_DECAY**age for age in range(len(earlier), 0, -1)]
    scale = (1.0 - LAST_TURN_WEIGHT) / sum(shares) if shares else 0.0
    weighted = [(turn, share * scale) for turn, share in zip(earlier, shares, strict=True)]
    weighted.append((turns[-1], LAST_TURN_WEIGHT if earlier else 1.0))
    pieces = [(piece, weight / count) for turn, weight in weighted for piece, count in _pieces(turn)]
    return [piece for piece, _ in pieces], [weight for _, weight in pieces]


def mean_vector(vectors: Sequence[Vector], weights: Sequence[float]) -> Vector:
    """Shape (d,), float32, unit length, read-only: the weighted mean of unit vectors, one a text.

    One vector is given back as it is. Vectors that cancel out give the last one.
    """
    if len(vectors) == 1:
        return vectors[0]
    mean = np.asarray(weights, np.float32) @ np.stack(vectors)
    length = float(np.linalg.norm(mean))
    if length < 1e-6:
        return vectors[-1]
    mean /= length
    mean.flags.writeable = False
    return mean


def encode_prompts(encoder: Encoder, prompts: Sequence[Sequence[str]]) -> Vectors:
    """Shape (len(prompts), d), float32, unit rows: the vectors that a gateway gives to queries of these turns."""
    seen = [weighted_texts(turns) for turns in prompts]
    found = encoder.encode([text for texts, _ in seen for text in texts])
    if len(found) == len(seen):
        return found
    rows = np.empty((len(seen), found.shape[1]), np.float32)
    start = 0
    for row, (texts, weights) in enumerate(seen):
        rows[row] = mean_vector(list(found[start : start + len(texts)]), weights)
        start += len(texts)
    return rows


def _pieces(turn: str) -> list[tuple[str, int]]:
    """The text as it is, or its tail and then its head; each with how many there are."""
    if len(turn) <= MOST_CHARS:
        return [(turn, 1)]
    return [(turn[-TAIL_CHARS:], 2), (turn[: MOST_CHARS - TAIL_CHARS], 2)]
