"""Fitting the weights of votes on recorded answers: a conditional logit over what was said, and "all are wrong".

The likelihood is that of McFadden's conditional logit (1974) with an outside option; the penalty draws every number
towards naive Bayes (`router.voting.PRIOR`), the experts' offsets and the pairs to nothing. Each question counts once
with all of its answers and once with a few of them left out, so that sums hold for part of the voices too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any, cast

import numpy as np

from router.voting import LEAST, PRIOR, Flags, Floats, Ints, Kind, Voting, agreeing, heads, in_sequence, log_odds

FEWEST = 40
SHRINK = 3.0
"""Penalty, in rows: this many rows' evidence weighs as much as the prior."""
MAY_LOSE = 0.003
"""Of the vote's quality, by asking in sequence."""
DOUBT = 0.05
APART = 20.0
"""Rows in which both of a pair are wrong that the correlation of all pairs counts as, beside the pair's own."""
DIAGONAL = 0.1
"""What an expert's own share of the causes counts beside a pair's: it is a guess, the pairs were measured."""
MOST_SHARED = 0.95
"""Of the variance of an expert's being right, by causes that it shares."""
FOLDS = 5
NEVER = 1.01
GRID = (0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.84, 0.87, 0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99)


def fit_kind(groups: Ints, quality: Floats, right: Flags, experts: Sequence[str], *, seed: int = 0) -> Kind:
    """Weights of one kind. `groups` (n, e) as in `tally`; `quality` (n, e): P(success) estimated without these very
    rows; `right` (n, e): what the voice said was right. Too few rows give the prior."""
    from scipy import optimize

    n, e = groups.shape
    if n < FEWEST:
        return PRIOR
    rng = np.random.default_rng(seed)
    kept = rng.random((n, e)) < rng.uniform(0.3, 0.9, (n, 1))
    told = np.concatenate([groups, np.where(kept, groups, -1)])
    odds, was = np.tile(log_odds(quality), (2, 1)), np.tile(right, (2, 1)) & (told >= 0)
    same = agreeing(told)
    first = heads(same)
    hit: Flags = np.any(same & was[:, None, :], axis=2) & first
    hit &= np.cumsum(hit, axis=1) == 1
    pairs = list(combinations(range(e), 2))
    twos = [-(same[:, :, i] & same[:, :, j]).astype(np.float64)[:, :, None] for i, j in pairs]
    members = same.astype(np.float64)
    counts: Floats = members.sum(axis=2, keepdims=True)
    leaning: Floats = (members * odds[:, None, :]).sum(axis=2, keepdims=True)
    features = np.concatenate([counts, leaning, members, *twos], axis=2)
    centre = np.array([PRIOR.level, PRIOR.slope, *[0.0] * e, *[0.0] * len(pairs), PRIOR.none])
    nobody: Flags = ~np.any(hit, axis=1)

    def loss(theta: Floats) -> tuple[float, Floats]:
        scores: Floats = np.where(first, features @ theta[:-1], -np.inf)
        top: Floats = np.maximum(scores.max(1), theta[-1])
        odd, outside = np.exp(scores - top[:, None]), np.exp(theta[-1] - top)
        total: Floats = np.sum(odd, axis=1) + outside
        chosen = np.where(nobody, outside, np.sum(odd * hit, axis=1)) / total
        gap: Floats = odd / total[:, None] - hit
        slope: Floats = np.append(np.einsum("ng,ngf->f", gap, features), np.sum(outside / total - nobody))
        away = theta - centre
        return (float(-np.log(np.maximum(chosen, 1e-300)).sum() / 2 + SHRINK * (away @ away)),
                slope / 2 + 2 * SHRINK * away)  # fmt: skip

    bounds: list[tuple[float | None, float | None]] = [(LEAST, 6.0), (0.0, 3.0), *[(-2.0, 2.0)] * e,
                                                       *[(0.0, 2.0)] * len(pairs), (-6.0, 6.0)]  # fmt: skip
    minimize: Any = cast(Any, optimize).minimize
    found = minimize(loss, centre, jac=True, method="L-BFGS-B", bounds=bounds)
    theta: list[float] = np.round(np.asarray(found.x, np.float64), 6).tolist()
    together = {
        (min(experts[i], experts[j]), max(experts[i], experts[j])): value
        for (i, j), value in zip(pairs, theta[2 + e : -1], strict=True) if value > 0
    }  # fmt: skip
    return Kind(theta[0], theta[1], theta[-1], dict(zip(experts, theta[2 : 2 + e], strict=True)), together,
                _spoken(groups, right, experts), rows=n)  # fmt: skip


def _spoken(groups: Ints, right: Flags, experts: Sequence[str]) -> dict[str, float]:
    """By expert: the share of its answers that are right themselves, of those that agree with one that is."""
    good: Flags = np.any(agreeing(groups) & right[:, None, :], axis=2)
    share: Floats = (np.sum(right & good, axis=0) + SHRINK) / (np.sum(good, axis=0) + SHRINK)
    return {name: round(float(value), 6) for name, value in zip(experts, share, strict=True)}


def fit(
    kinds: Sequence[str], groups: Ints, quality: Floats, scores: Floats, experts: Sequence[str],
    tasks: Sequence[str] = (), *, seed: int = 0,
) -> Voting:  # fmt: skip
    """Everything that votes need, from recorded answers. `kinds` (n,): the extractor's word for each question, empty
    where answers cannot be compared; `scores` (n, e), NaN where not measured, right from 0.5 up; `tasks` (n,), where
    known: stopping early must not be paid for by one of them."""
    known = np.isfinite(scores)
    told, right = np.where(known, groups, -1), known & (scores >= 0.5)
    names = np.asarray(kinds, dtype=object)
    fitted: dict[str, Kind] = {}
    for name in sorted(set(kinds) - {""}):
        rows = np.flatnonzero(names == name)
        fitted[name] = fit_kind(told[rows], quality[rows], right[rows], experts, seed=seed)
    use = np.flatnonzero(names != "")
    if not len(use):
        return Voting()
    seen, good = told[use] >= 0, right[use] & (told[use] >= 0)
    correlation, collusion = alike(told[use], good, quality[use])
    causes = causes_of(seen, good, quality[use], experts, correlation)
    for name, kind in fitted.items():
        rows = np.flatnonzero(names == name)
        labels = [tasks[int(row)] for row in rows] if tasks else []
        parts = [np.flatnonzero([each == label for each in labels]) for label in sorted(set(labels))]
        until = _threshold(kind, told[rows], quality[rows], scores[rows], experts, parts, seed)
        asked = in_sequence(told[rows], quality[rows], experts, kind, threshold=until, first=2).asked
        fitted[name] = replace(kind, threshold=until, share=round(float(asked.mean()), 4))
    return Voting(fitted, correlation, collusion, causes)


def _threshold(
    kind: Kind, groups: Ints, quality: Floats, scores: Floats, experts: Sequence[str], parts: Sequence[Ints], seed: int
) -> float:
    """The least posterior to stop at with which a vote is predicted to lose at most MAY_LOSE of the quality of asking
    all, over all questions and over those of each part.

    It is lost where the leading answer is wrong, and the others would have put it right. How often the first is so, the
    posterior says; of how many of those the second, is counted on rows that the weights were not fitted on, and taken
    at the upper end of its one-sided interval (Clopper, Pearson 1934), which is wide where it was seen seldom.
    """
    if len(groups) < FEWEST:
        return kind.threshold
    right: Flags = scores >= 0.5
    rows = np.arange(len(groups))
    fold = np.random.default_rng(seed).permutation(len(groups)) % FOLDS
    others = [fit_kind(groups[fold != one], quality[fold != one], right[fold != one], experts, seed=seed)
              for one in range(FOLDS)]  # fmt: skip

    def asked(threshold: float) -> tuple[Flags, Floats, Ints]:
        """Whether the answer given is right, how sure the vote was of it, and how many were asked."""
        good, sure, calls = np.zeros(len(groups), np.bool_), np.zeros(len(groups)), np.zeros(len(groups), np.int64)
        for one, fitted in enumerate(others):
            use = rows[fold == one]
            done = in_sequence(groups[use], quality[use], experts, fitted, threshold=threshold, first=2)
            good[use] = (done.winner >= 0) & right[use, done.winner]
            sure[use], calls[use] = done.sure, done.asked.sum(1)
        return good, sure, calls

    whole, _, most = asked(NEVER)
    for threshold in GRID:
        good, sure, calls = asked(threshold)
        early: Flags = calls < most
        wrong: Flags = early & ~good
        lost = np.where(early, 1 - sure, 0.0) * at_most(int((wrong & whole).sum()), int(wrong.sum()))
        if max(float(lost[part].mean()) for part in (rows, *parts) if len(part) >= FEWEST) <= MAY_LOSE:
            return threshold
    return NEVER


def at_most(hits: int, tries: int) -> float:
    """The share that so many hits leave possible, with a confidence of 1 - DOUBT."""
    from scipy.special import betaincinv

    return 1.0 if hits >= tries else float(betaincinv(hits + 1, tries - hits, 1 - DOUBT))


def alike(groups: Ints, right: Flags, quality: Floats) -> tuple[float, float]:
    """The share of a common cause in the experts' errors with which as many pairs are wrong together as were (see
    `router.worth`), and how often two that are both wrong say the same."""
    said = groups >= 0
    pairs = _pairs(said)
    if not pairs:
        return Voting().correlation, Voting().collusion
    same, wrong = 1.0, 3.0
    for i, j in pairs:
        neither = said[:, i] & said[:, j] & ~right[:, i] & ~right[:, j]
        wrong += neither.sum()
        same += (neither & (groups[:, i] == groups[:, j])).sum()
    return round(_correlation(said, right, quality, pairs), 4), round(float(same / wrong), 4)


def causes_of(
    said: Flags, right: Flags, quality: Floats, experts: Sequence[str], correlation: float
) -> dict[str, tuple[float, float]]:  # fmt: skip
    """By expert its loadings on two shared causes, the first of which is what they share on average: those whose
    products come nearest to each pair's own correlation, which is drawn to `correlation` of all pairs by as much as
    APART rows in which both are wrong would weigh."""
    from scipy import optimize

    pairs = _pairs(said)
    if len(pairs) < 2:
        return {}
    own = np.array([_correlation(said, right, quality, [pair]) for pair in pairs])
    count = np.array([float((said[:, i] & said[:, j] & ~right[:, i] & ~right[:, j]).sum()) for i, j in pairs])
    wanted = (own * count + correlation * APART) / (count + APART)
    one, other = np.array(pairs).T
    e = len(experts)

    table = np.full((e, e), correlation)
    table[one, other] = table[other, one] = wanted
    diagonal = np.where(np.eye(e, dtype=bool), -np.inf, table).max(1)  # how much an expert shares, at least
    np.fill_diagonal(table, diagonal)

    def loss(theta: Floats) -> tuple[float, Floats]:
        loads = theta.reshape(e, 2)
        gap, over = (loads[one] * loads[other]).sum(1) - wanted, np.square(loads).sum(1) - diagonal
        slope = 4 * DIAGONAL * over[:, None] * loads
        np.add.at(slope, one, 2 * gap[:, None] * loads[other])
        np.add.at(slope, other, 2 * gap[:, None] * loads[one])
        return float(gap @ gap + DIAGONAL * over @ over), slope.ravel()

    values, axes = np.linalg.eigh(table)  # principal axes, from which the descent begins
    start = (axes[:, :-3:-1] * np.sqrt(np.maximum(values[:-3:-1], 1e-4))).ravel()
    minimize: Any = cast(Any, optimize).minimize
    loads = np.asarray(minimize(loss, start, jac=True, method="L-BFGS-B").x, np.float64).reshape(e, 2)
    length = np.linalg.norm(loads, axis=1, keepdims=True)
    loads *= np.minimum(1.0, MOST_SHARED**0.5 / np.maximum(length, 1e-9))
    measured = sorted({place for pair in pairs for place in pair})
    along, across = loads[measured].mean(0) / max(float(np.linalg.norm(loads[measured].mean(0))), 1e-9)
    loads = loads @ np.array([[along, -across], [across, along]])  # the first cause is what all share: a new one has it
    rows: list[list[float]] = loads.round(4).tolist()
    return {experts[place]: (rows[place][0], rows[place][1]) for place in measured}


def _pairs(said: Flags) -> list[tuple[int, int]]:
    """The experts that both answered often enough."""
    return [(i, j) for i, j in combinations(range(said.shape[1]), 2) if (said[:, i] & said[:, j]).sum() >= FEWEST]


def _correlation(said: Flags, right: Flags, quality: Floats, pairs: Sequence[tuple[int, int]]) -> float:
    """The share of one common cause with which as many of these pairs are wrong together as were."""
    from router.worth import patterns

    both = [np.flatnonzero(said[:, i] & said[:, j]) for i, j in pairs]
    observed = sum(int((~right[rows][:, pair]).all(1).sum()) for rows, pair in zip(both, map(list, pairs), strict=True))
    chances = [quality[rows][:, pair] for rows, pair in zip(both, map(list, pairs), strict=True)]

    def expected(correlation: float) -> float:
        shared = np.array([[correlation**0.5, 0.0]] * 2)
        return sum(float(patterns(each, shared)[1][:, 0].sum()) for each in chances)

    low, high = 0.0, MOST_SHARED
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if expected(middle) < observed else (low, middle)
    return low
