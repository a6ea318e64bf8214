"""Voting on extracted answers: what each voice weighs, how sure the leading answer is, when nobody else need be asked.

Answers are given as groups: voices of one group said the same thing (`router.answers`). A group's score is the sum of
its voices' weights, less what is taken off for each two of them that tend to be wrong together; and

    P(group g is right | what was said) = exp(score(g)) / (exp(none) + sum over groups exp(score)).

With weights `log(q / (1 - q)) + level`, `level` being the log of how many wrong answers there are to hit upon, this is
naive Bayes (Dawid, Skene 1979, with one coin an expert): `prior` is just that. `router.voting_fit` fits level, slope,
experts and pairs on outcomes, drawn towards the prior where there is little evidence. Equal weights: plain majority.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

LEVEL = float(np.log(4.0))
"""A wrong answer is one of about four that a question suggests."""
LEAST = 0.05
"""A vote never counts against what it is for."""
AGAIN = 0.5
"""What a further sample of the same expert loses of its weight, where nothing is known of its errors."""
THRESHOLD = 0.95
SLACK = 1e-9
"""Scores no farther apart than this are equal."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What votes weigh on questions of one kind. `offsets` by expert; `together` by pair of names, sorted, at least 0.

    `threshold`: the posterior from which nobody else is asked. `spoken` by expert: how often its own text counts as
    right where what it said is right (an answer can be right, and badly put). `share`: how many of the seats were
    asked, on the mean, until it was settled.
    """

    level: float = LEVEL
    slope: float = 1.0
    none: float = 0.0
    offsets: Mapping[str, float] = field(default_factory=dict[str, float])
    together: Mapping[tuple[str, str], float] = field(default_factory=dict[tuple[str, str], float])
    spoken: Mapping[str, float] = field(default_factory=dict[str, float])
    threshold: float = THRESHOLD
    share: float = 1.0
    rows: int = 0

    def weights(self, experts: Sequence[str], quality: Floats) -> Floats:
        """Weights (…, e), at least LEAST, from P(success) of the same shape; columns follow `experts`."""
        offset = np.array([self.offsets.get(name, 0.0) for name in experts])
        return np.maximum(self.level + self.slope * log_odds(quality) + offset, LEAST)

    def prefer(self, experts: Sequence[str], quality: Floats) -> Floats:
        """Whose text is given among those who agree: the one who puts it best, then the one expected to be right."""
        return np.array([self.spoken.get(name, 1.0) for name in experts]) + 1e-3 * quality

    def shared(self, experts: Sequence[str]) -> Floats:
        """What is taken off for each two that agree, (e, e), symmetric; NaN for two seats of one expert."""
        out = np.zeros((len(experts), len(experts)))
        for i, one in enumerate(experts):
            for j in range(i):
                out[i, j] = out[j, i] = np.nan if one == experts[j] else self.pair(one, experts[j])
        return out

    def pair(self, one: str, other: str) -> float:
        """What is taken off where these two, who are not the same, agree."""
        return self.together.get((min(one, other), max(one, other)), 0.0)


@dataclass(frozen=True, slots=True)
class Voting:
    """All that was fitted for votes, by kind of question. `correlation` of the experts' errors over all pairs,
    `causes`: by expert, its loadings on two shared causes, which tell the pairs apart, and `collusion`: how often two
    that are both wrong say the same (for `router.worth`)."""

    kinds: Mapping[str, Kind] = field(default_factory=dict[str, Kind])
    correlation: float = 0.3
    collusion: float = 0.3
    causes: Mapping[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])

    def of(self, kind: str) -> Kind:
        return self.kinds.get(kind) or self.kinds.get("") or PRIOR

    def as_json(self) -> dict[str, Any]:
        return {
            "correlation": self.correlation, "collusion": self.collusion,
            "causes": {name: list(pair) for name, pair in sorted(self.causes.items())},
            "kinds": {
                name: {"level": kind.level, "slope": kind.slope, "none": kind.none, "rows": kind.rows,
                       "threshold": kind.threshold, "share": kind.share, "offsets": dict(kind.offsets),
                       "spoken": dict(kind.spoken),
                       "together": [[*pair, value] for pair, value in sorted(kind.together.items())]}
                for name, kind in sorted(self.kinds.items())
            },
        }  # fmt: skip

    @staticmethod
    def from_json(found: Mapping[str, Any]) -> Voting:
        """Raises KeyError, TypeError, ValueError for anything else than `as_json` gave."""
        kinds = {
            name: Kind(float(row["level"]), float(row["slope"]), float(row["none"]), dict(row["offsets"]),
                       {(one, other): float(value) for one, other, value in row["together"]}, dict(row["spoken"]),
                       float(row["threshold"]), float(row["share"]), int(row["rows"]))
            for name, row in found["kinds"].items()
        }  # fmt: skip
        causes = {name: (float(one), float(other)) for name, (one, other) in found.get("causes", {}).items()}
        return Voting(kinds, float(found["correlation"]), float(found["collusion"]), causes)

    def loadings(self, experts: Sequence[str]) -> Floats:
        """(e, 2), for `router.worth.patterns`; of an expert that was not measured, the first cause's alone."""
        usual = (self.correlation**0.5, 0.0)
        return np.array([self.causes.get(name, usual) for name in experts], np.float64).reshape(len(experts), 2)


PRIOR = Kind()


@dataclass(frozen=True, slots=True)
class Tally:
    """Votes counted, a row a question. `scores` and `posterior` (n, e) of the group of each voice, -inf and 0 where it
    has none; `winner` (n,) the voice that is given, -1 where nobody settled on anything; `lead` (n,) of the winning
    group's score on the next one's (on 0 where there is no other)."""

    scores: Floats
    posterior: Floats
    winner: Ints
    lead: Floats

    @property
    def sure(self) -> Floats:
        """P(the winner is right), (n,); 0 where there is none."""
        rows = np.arange(len(self.winner))
        return np.where(self.winner >= 0, self.posterior[rows, self.winner], 0.0)


def log_odds(quality: Floats) -> Floats:
    clipped = np.clip(quality, 0.02, 0.98)
    return np.log(clipped) - np.log1p(-clipped)


def agreeing(groups: Ints) -> Flags:
    """Which two voices said the same, (n, e, e); True on the diagonal for everyone who said something."""
    said: Flags = groups >= 0
    same: Flags = groups[:, :, None] == groups[:, None, :]
    return same & said[:, :, None] & said[:, None, :]


def heads(same: Flags) -> Flags:
    """The first voice of every group, (n, e), from `agreeing`."""
    earlier = np.tri(same.shape[1], k=-1, dtype=np.bool_)
    doubled: Flags = np.any(same & earlier[None, :, :], axis=2)
    return np.diagonal(same, axis1=1, axis2=2) & ~doubled


def tally(groups: Ints, weights: Floats, prefer: Floats, shared: Floats | None = None, none: float = 0.0) -> Tally:
    """Count votes. `groups` (n, e): voices of equal number said the same, -1: nothing (or not asked). `weights` (n, e);
    `prefer` (n, e): whose text is given among those who agree, and who wins among equals. `shared` (e, e): see Kind."""
    n = len(groups)
    said: Flags = groups >= 0
    same = agreeing(groups)
    scores = (same * weights[:, None, :]).sum(2)
    if shared is not None:
        scores = np.maximum(scores - _taken_off(same, weights, shared), np.where(same, weights[:, None, :], 0).max(2))
    scores = np.where(said, scores, -np.inf)
    top = np.maximum(np.where(said, scores, -np.inf).max(1, initial=none), none)
    odds = np.where(said, np.exp(scores - top[:, None]), 0.0)
    whole: Floats = np.sum(odds * heads(same), axis=1) + np.exp(none - top)
    posterior = odds / whole[:, None]
    best = scores.max(1, initial=-np.inf)
    tied: Flags = said & (scores >= best[:, None] - SLACK)
    winner = np.where(said.any(1), np.where(tied, prefer, -np.inf).argmax(1), -1)
    with_winner: Flags = same[np.arange(n), winner]
    other = np.where(said & ~with_winner, scores, 0.0).max(1, initial=0.0)
    return Tally(scores, posterior, winner, np.where(winner >= 0, best - other, -np.inf))


def _taken_off(same: Flags, weights: Floats, shared: Floats) -> Floats:
    """For each voice what its group loses, (n, e): for each two of it, and once for each further seat of an expert."""
    n, e = weights.shape
    out = np.zeros((n, e))
    for i in range(e):
        further = np.zeros(n, np.bool_)
        for j in range(i):
            lost, both = shared[i, j], same[:, i, j]
            if np.isnan(lost):
                lost, both = AGAIN * weights[:, i], both & ~further
                further |= both
            if both.any():
                out += np.where(same[:, :, i] & both[:, None], np.broadcast_to(lost, n)[:, None], 0.0)
    return out


def settled(counted: Tally, left: Floats, threshold: float) -> Flags:
    """Whether nobody else need be asked: the votes that are `left` (n,) (sum of their weights) cannot change the
    result, or the leading answer is right with a probability of `threshold` at least."""
    return (counted.lead > left + SLACK) | (counted.sure >= threshold)


def order(quality: Floats, weights: Floats, cost: Floats | None = None, *, price: float = 0.0) -> Ints:
    """Whom to ask first, (n, e) columns: the most information a call, per cost to the power of `price`.

    A vote's information is its weight times the chance that it is right. Equals stay in their order.
    """
    worth = quality * weights
    if cost is not None and price > 0:
        worth = worth / np.maximum(cost, 1e-12) ** price
    return np.argsort(-worth, axis=1, kind="stable").astype(np.int64)


@dataclass(frozen=True, slots=True)
class Asked:
    """A vote on recorded answers: `winner` (n,) voice, `asked` (n, e) whose answer was needed, `sure` (n,)."""

    winner: Ints
    asked: Flags
    sure: Floats


def in_sequence(
    groups: Ints, quality: Floats, experts: Sequence[str], kind: Kind, *, threshold: float | None = None,
    first: int = 1, seats: Flags | None = None, sequence: Ints | None = None,
) -> Asked:  # fmt: skip
    """Ask one voice after another, `first` of them at once, until it is settled: what `composers/vote` does, batched.

    `quality` (n, e): P(success); `seats` (n, e): who may be asked at all; `sequence` (n, e): columns in their order;
    `threshold`: the kind's own by default.
    """
    until = kind.threshold if threshold is None else threshold
    prefer = kind.prefer(experts, quality)
    weights, shared = kind.weights(experts, quality), kind.shared(experts)
    n, e = groups.shape
    may = np.ones((n, e), np.bool_) if seats is None else seats
    turn = order(quality, weights) if sequence is None else sequence
    asked, done = np.zeros((n, e), np.bool_), np.zeros(n, np.bool_)
    rows = np.arange(len(groups), dtype=np.int64)
    counted = tally(np.where(asked, groups, -1), weights, prefer, shared, kind.none)
    for place in range(e):
        column = turn[:, place]
        asked[rows, column] |= ~done & may[rows, column]
        counted = tally(np.where(asked, groups, -1), weights, prefer, shared, kind.none)
        left = np.where(may & ~asked, weights, 0).sum(1)
        done |= settled(counted, left, until) & (asked.sum(1) >= np.minimum(first, may.sum(1)))
    return Asked(counted.winner, asked, counted.sure)
