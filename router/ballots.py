"""One question's votes as they come in: what `router.voting` does for many questions at once, without arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import exp, inf

import numpy as np

from router.voting import AGAIN, SLACK, Kind


@dataclass(frozen=True, slots=True)
class Count:
    """One vote counted: `winner`, the place of the voice that is given (-1: nobody settled on anything); `sure` and
    `lead` as in `Tally`."""

    winner: int = -1
    sure: float = 0.0
    lead: float = -inf


class Ballots:
    """One question's votes as they come in, by who may cast them: `tally` for one row, and without arrays, which for
    so few numbers take ten times as long (a property test holds the two to the same results).

    `quality`: P(success) by expert. Raises KeyError for an expert without.
    """

    def __init__(self, kind: Kind, quality: Mapping[str, float]) -> None:
        names = list(quality)
        rated = np.array([quality[name] for name in names])
        self._kind, self._quality = kind, quality
        self._weights: dict[str, float] = dict(zip(names, kind.weights(names, rated).tolist(), strict=True))
        self._prefer: dict[str, float] = dict(zip(names, kind.prefer(names, rated).tolist(), strict=True))

    def order(self, experts: Sequence[str]) -> list[str]:
        """Whom to ask first, as `router.voting.order` has it, whatever an expert costs."""
        return sorted(experts, key=lambda name: -self._quality[name] * self._weights[name])

    def weight(self, experts: Sequence[str]) -> float:
        """What these experts' votes weigh in all."""
        return sum(self._weights[name] for name in experts)

    def count(self, experts: Sequence[str], groups: Sequence[int], favour: Sequence[float] = ()) -> Count:
        """The votes of these seats. `groups` as a row of `tally`'s; `favour`: added to whose text is preferred."""
        members: dict[int, list[int]] = {}
        for place, group in enumerate(groups):
            if group >= 0:
                members.setdefault(group, []).append(place)
        if not members:
            return Count()
        scores = {group: self._score([experts[place] for place in places]) for group, places in members.items()}
        best = max(scores.values())
        tied = sorted(place for group, score in scores.items() if score >= best - SLACK for place in members[group])
        extra = favour or [0.0] * len(experts)
        winner = max(tied, key=lambda place: self._prefer[experts[place]] + extra[place])
        other = max((score for group, score in scores.items() if group != groups[winner]), default=0.0)
        none = self._kind.none
        top = max(best, none)
        whole = exp(none - top) + sum(exp(score - top) for score in scores.values())
        return Count(winner, exp(scores[groups[winner]] - top) / whole, best - max(other, 0.0))

    def needed(self, experts: Sequence[str], groups: Sequence[int], waiting: Sequence[str], threshold: float) -> int:
        """How many of those who wait, from the first on, must speak before it can be settled: 0 where it is.

        At the soonest it is where all of them say one thing, one that was said or a new one.
        """
        sayings = {group for group in groups if group >= 0} | {max(groups, default=-1) + 1}
        for more in range(len(waiting)):
            left = self.weight(waiting[more:])
            for saying in sayings if more else [-1]:
                count = self.count([*experts, *waiting[:more]], [*groups, *[saying] * more])
                if count.lead > left + SLACK or count.sure >= threshold:
                    return more
        return len(waiting)

    def _score(self, who: Sequence[str]) -> float:
        weights = [self._weights[name] for name in who]
        lost = sum(self._kind.pair(one, other) for one, other in combinations(who, 2) if one != other)
        again = sum(AGAIN * self._weights[name] for place, name in enumerate(who) if name in who[:place])
        return max(sum(weights) - lost - again, *weights)
