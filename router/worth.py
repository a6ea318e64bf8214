"""Is it worth asking more than one? What a vote, a cascade or a council of these experts would make of a query.

Experts fail together: right or wrong is a normal variable with one part in common (a Gaussian copula, one factor; Li
2000), whose share is fitted on outcomes. Two experts that fail together are worth one. Everything here is predicted
from estimates, before anybody is asked; shapes (n, k): a row a query, a column an expert that would be asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from router.voting import Flags, Floats, Voting

MOST = 8
"""Experts at most in one composition that is predicted: the work doubles with each."""
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(9)


@dataclass(frozen=True, slots=True)
class Scorer:
    """A cascade's judge of answers (`router.confidence.score`), and how good it is on held-out outcomes: the share of
    right answers that it keeps, and of wrong ones."""

    weights: Mapping[str, float]
    threshold: float
    keeps_right: float
    keeps_wrong: float


@dataclass(frozen=True, slots=True)
class Composing:
    """What was fitted for composing. `cascade` None: nothing was. `abilities` to aggregate, by expert, as measured."""

    voting: Voting = field(default_factory=Voting)
    cascade: Scorer | None = None
    abilities: Mapping[str, float] = field(default_factory=dict[str, float])

    def as_json(self) -> dict[str, Any]:
        """Without abilities, which are kept elsewhere."""
        one = self.cascade
        scorer = None if one is None else {
            "weights": dict(one.weights), "threshold": one.threshold, "keeps_right": one.keeps_right,
            "keeps_wrong": one.keeps_wrong,
        }  # fmt: skip
        return {"voting": self.voting.as_json(), "cascade": scorer}

    @staticmethod
    def from_json(found: Mapping[str, Any], abilities: Mapping[str, float] | None = None) -> Composing:
        """Raises KeyError, TypeError, ValueError for anything else than `as_json` gave."""
        one = found["cascade"]
        scorer = one and Scorer(dict(one["weights"]), float(one["threshold"]), float(one["keeps_right"]),
                                float(one["keeps_wrong"]))  # fmt: skip
        return Composing(Voting.from_json(found["voting"]), scorer, abilities or {})

    def with_abilities(self, abilities: Mapping[str, float]) -> Composing:
        return replace(self, abilities=abilities)


def patterns(quality: Floats, correlation: float) -> tuple[Flags, Floats]:
    """Who is right: every pattern (2^k, k), and the probability of each for each row, (n, 2^k)."""
    from scipy.special import ndtr, ndtri

    n, k = quality.shape
    rights = np.array([[bool(row >> column & 1) for column in range(k)] for row in range(2**k)], np.bool_)
    level = ndtri(np.clip(quality, 0.005, 0.995))[:, None, :]
    chance = ndtr((level + np.sqrt(correlation) * NODES[None, :, None]) / np.sqrt(1 - correlation))
    out = np.zeros((n, 2**k))
    for row in range(2**k):
        right: Flags = rights[row]
        out[:, row] = np.where(right, chance, 1 - chance).prod(2) @ (WEIGHTS / WEIGHTS.sum())
    return rights, out


def of_vote(quality: Floats, weights: Floats, voting: Voting) -> Floats:
    """P(a vote of all k gives a right answer), (n,). Those who are wrong say the same with the chance `collusion`, all
    of them at once: the worst that they can do."""
    rights, chance = patterns(quality, voting.correlation)
    out = np.zeros(len(quality))
    for row, right in enumerate(rights):
        if not right.any():
            continue
        good, bad = weights[:, right].sum(1), weights[:, ~right]
        apart = _beats(good, bad.max(1, initial=0.0))
        together = _beats(good, bad.sum(1))
        out += chance[:, row] * ((1 - voting.collusion) * apart + voting.collusion * together)
    return out


def of_cascade(cheap: Floats, dear: Floats, scorer: Scorer, correlation: float) -> tuple[Floats, Floats]:
    """P(a cascade from a cheap expert to a dear one is right), and P(the dear one is asked); all shapes (n,)."""
    _, chance = patterns(np.stack([cheap, dear], 1), correlation)
    only_dear, both = chance[:, 2], chance[:, 3]
    keep, slip = scorer.keeps_right, scorer.keeps_wrong
    right = cheap * keep + (1 - keep) * both + (1 - slip) * only_dear
    return right, cheap * (1 - keep) + (1 - cheap) * (1 - slip)


def of_council(quality: Floats, ability: float, correlation: float) -> Floats:
    """P(an aggregator writes a right answer), (n,): somebody is right, and it sees who."""
    _, chance = patterns(quality, correlation)
    return ability * (1 - chance[:, 0])


def _beats(one: Floats, other: Floats) -> Floats:
    return np.where(one > other + 1e-9, 1.0, np.where(one < other - 1e-9, 0.0, 0.5))


NOTHING_FITTED = Composing()
