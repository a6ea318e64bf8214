"""Is it worth asking more than one? What a vote, a cascade or a council of these experts would make of a query.

Experts fail together: right or wrong is a normal variable of which two causes are shared (a Gaussian copula with two
factors; Li 2000, Krupskii and Joe 2013), with loadings by expert that are fitted on outcomes, pair by pair. Two experts
that fail together are worth one. Everything here is predicted from estimates, before anybody is asked; shapes (n, k): a
row a query, a column an expert that would be asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from router.voting import Flags, Floats, Voting

MOST = 8
"""Experts at most in one composition that is predicted: the work doubles with each."""
AT_ONCE = 2**22
"""Numbers that are worked on at once, about: more queries go in several turns."""
_POINTS, _SHARES = np.polynomial.hermite_e.hermegauss(9)
ONE: tuple[Floats, Floats] = np.stack([_POINTS, np.zeros(9)], 1), _SHARES / _SHARES.sum()
"""Values of the two causes, (9, 2), and their probabilities, (9,), where only the first one counts."""
BOTH: tuple[Floats, Floats] = (
    np.stack([each.ravel() for each in np.meshgrid(_POINTS, _POINTS, indexing="ij")], 1),
    np.outer(_SHARES, _SHARES).ravel() / _SHARES.sum() ** 2,
)
"""The same, (81, 2) and (81,), where both do."""


@dataclass(frozen=True, slots=True)
class Scorer:
    """A cascade's judge of answers (`router.confidence.score`), and how good it is on held-out outcomes: the share of
    right answers that it keeps, and of wrong ones. `curve`: other thresholds, with what the cascade then costs, of what
    the best single expert does, and its quality."""

    weights: Mapping[str, float]
    threshold: float
    keeps_right: float
    keeps_wrong: float
    curve: tuple[tuple[float, float, float], ...] = ()

    def at_cost(self, share: float) -> float:
        """The threshold of the highest quality that costs at most this share; where none does, the cheapest one."""
        if not self.curve:
            return self.threshold
        kept = [point for point in self.curve if point[1] <= share]
        return max(kept, key=lambda one: one[2])[0] if kept else min(self.curve, key=lambda one: one[1])[0]


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
            "keeps_wrong": one.keeps_wrong, "curve": [list(point) for point in one.curve],
        }  # fmt: skip
        return {"voting": self.voting.as_json(), "cascade": scorer}

    @staticmethod
    def from_json(found: Mapping[str, Any], abilities: Mapping[str, float] | None = None) -> Composing:
        """Raises KeyError, TypeError, ValueError for anything else than `as_json` gave."""
        one = found["cascade"]
        scorer = one and Scorer(dict(one["weights"]), float(one["threshold"]), float(one["keeps_right"]),
                                float(one["keeps_wrong"]),
                                tuple((float(a), float(b), float(c)) for a, b, c in one.get("curve", ())))  # fmt: skip
        return Composing(Voting.from_json(found["voting"]), scorer, abilities or {})

    def with_abilities(self, abilities: Mapping[str, float]) -> Composing:
        return replace(self, abilities=abilities)


def patterns(quality: Floats, causes: Floats) -> tuple[Flags, Floats]:
    """Who is right: every pattern (2^k, k), and the probability of each for each row, (n, 2^k).

    `causes`: (k, 2) or (n, k, 2), what the two shared causes add to each expert's variable of unit variance."""
    from scipy.special import ndtr, ndtri

    n, k = quality.shape
    rights = np.array([[bool(row >> column & 1) for column in range(k)] for row in range(2**k)], np.bool_)
    level = ndtri(np.clip(quality, 0.005, 0.995))[:, None, :]
    values, share = BOTH if causes[..., 1].any() else ONE
    block = max(AT_ONCE // (len(share) * 2**k), 1)
    if n > block:
        spread = np.broadcast_to(causes, (n, k, 2))
        parts = [patterns(quality[at : at + block], spread[at : at + block])[1] for at in range(0, n, block)]
        return rights, np.concatenate(parts)
    shared = np.einsum("pf,nkf->npk", values, np.broadcast_to(causes, (n, k, 2)))
    own = np.sqrt(1 - np.square(causes).sum(-1))
    chance = ndtr((level + shared) / (own if own.ndim == 1 else own[:, None, :]))
    held = np.broadcast_to(share[None, :, None], (n, len(share), 1))
    for column in range(k):
        right = chance[:, :, column, None]
        held = np.concatenate([held * (1 - right), held * right], 2)
    return rights, held.sum(1)


def of_vote(quality: Floats, weights: Floats, causes: Floats, collusion: float) -> Floats:
    """P(a vote of all k gives a right answer), (n,). Those who are wrong say the same with the chance `collusion`, all
    of them at once: the worst that they can do."""
    rights, chance = patterns(quality, causes)
    out = np.zeros(len(quality))
    for row, right in enumerate(rights):
        if not right.any():
            continue
        good, bad = weights[:, right].sum(1), weights[:, ~right]
        apart = _beats(good, bad.max(1, initial=0.0))
        together = _beats(good, bad.sum(1))
        out += chance[:, row] * ((1 - collusion) * apart + collusion * together)
    return out


def of_cascade(quality: Floats, causes: Floats, scorer: Scorer) -> tuple[Floats, Floats]:
    """P(a cascade from a cheap expert to a dear one is right), and P(the dear one is asked), (n,) both; `quality` (n,
    2), the cheap one first."""
    _, chance = patterns(quality, causes)
    cheap, only_dear, both = quality[:, 0], chance[:, 2], chance[:, 3]
    keep, slip = scorer.keeps_right, scorer.keeps_wrong
    right = cheap * keep + (1 - keep) * both + (1 - slip) * only_dear
    return right, cheap * (1 - keep) + (1 - cheap) * (1 - slip)


def of_council(quality: Floats, ability: float, causes: Floats) -> Floats:
    """P(an aggregator writes a right answer), (n,): somebody is right, and it sees who."""
    _, chance = patterns(quality, causes)
    return ability * (1 - chance[:, 0])


def _beats(one: Floats, other: Floats) -> Floats:
    return np.where(one > other + 1e-9, 1.0, np.where(one < other - 1e-9, 0.0, 0.5))


NOTHING_FITTED = Composing()
