"""What experts on separate servers say together: a product of experts over the likeliest tokens of each.

    score(y) = sum_i w_i log p_i(y)          over the y that at least one expert lists among its k likeliest

An expert that does not list y is taken to give it the log-probability of its k-th: the most it can have. So a larger k
only takes away from what experts agree on less. Weights add up to one (a logarithmic opinion pool; Genest & Zidek 1986,
product of experts: Hinton 2002). Greedy decoding takes the highest score, ties the lower id. At a temperature T the
token is drawn from softmax(score / T) by the Gumbel trick with noise that depends on the seed, the place and the token
alone, so that a draft is judged exactly as if each token had been drawn in turn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from math import exp, log
from typing import NamedTuple

from experts.protocols import Top


class Draw(NamedTuple):
    """How tokens are drawn. `temperature` 0 is greedy."""

    temperature: float = 0.0
    seed: int = 0


GREEDY = Draw()


class Pick(NamedTuple):
    """The token of a place, and the index of the expert that likes it best (ties: the first)."""

    token: int
    voice: int


def pick(rows: Sequence[Top], weights: Sequence[float], place: int, draw: Draw = GREEDY) -> Pick:
    """The fused token of one place. `rows`: an expert's likeliest tokens each, none empty; `weights`: as many."""
    floors = [min(row.values()) for row in rows]
    best, found = 0, None
    for token in sorted({token for row in rows for token in row}):
        score = sum(w * row.get(token, floor) for w, row, floor in zip(weights, rows, floors, strict=True))
        if draw.temperature > 0:
            score = score / draw.temperature + _gumbel(draw.seed, place, token)
        if found is None or score > found:
            best, found = token, score
    likes = [row.get(best, floor) for row, floor in zip(rows, floors, strict=True)]
    return Pick(best, likes.index(max(likes)))


def shares(qualities: Sequence[float]) -> list[float]:
    """Weights that add up to one, in proportion to expected quality."""
    kept = [max(quality, 1e-3) for quality in qualities]
    return [quality / sum(kept) for quality in kept]


def top1(row: Top) -> float:
    """The probability of the likeliest token."""
    return exp(min(max(row.values()), 0.0))


def evenness(row: Top) -> float:
    """exp(-entropy), 0 to 1, of the listed tokens and one more that has all the rest: 1 where all is certain."""
    listed = [exp(value) for value in row.values()]
    rest = max(1.0 - sum(listed), 0.0)
    return exp(sum(p * log(p) for p in (*listed, rest) if p > 0))


def _gumbel(seed: int, place: int, token: int) -> float:
    digest = hashlib.blake2b(f"{seed}:{place}:{token}".encode(), digest_size=8).digest()
    return -log(-log((int.from_bytes(digest) + 0.5) / 2**64))
