"""`worth`: one expert, or a composition of several, whichever promises the highest quality for its price.

One decision space: `balanced`'s choice of a single expert; a vote of k where answers to the query can be compared; a
cascade from a cheaper expert where its judge of answers was fitted; a council where abilities to aggregate were
measured; the single choice with passages, where the route's gate was fitted (`retrieve`). Each has a predicted quality
(`router.worth`), predicted calls and cost, and is taken where the gain on the single choice exceeds `price` for every
further cost of the dearest allowed expert. What the request's budget has no room for in calls, tokens or USD is left
out; its time is kept while it is composed.
`consilium: {"compose": "auto"}` asks for this policy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from router.answers.auto import picked
from router.plan import Alternative, Estimates, Matrix
from router.policies import balanced
from router.policies._scores import allowed
from router.protocols import Choice, Passages, Situation
from router.voting import Floats, Ints, order
from router.worth import MOST, Composing, of_cascade, of_council, of_vote

RETRIEVE = "retrieve"
FEWEST = 3
"""Two that disagree settle nothing."""
AGGREGATING = 1.5
"""An aggregator reads all that the seats wrote: where tokens are not known, its call costs this many of its own."""


class Options(BaseModel):
    """`preset`, `lambda` and `caution` are `balanced`'s, for the single choice."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)
    price: float = Field(default=0.01, ge=0, description="Quality given up to save a call of the dearest expert.")
    most: int = Field(default=5, ge=1, le=MOST, description="Experts in one composition at most.")
    preset: balanced.Preset = "balanced"
    lambda_: float | None = Field(default=None, ge=0, alias="lambda")
    caution: float = Field(default=0.25, ge=0)
    spares: int = Field(default=3, ge=0)


class _Option(NamedTuple):
    """One composition for some rows. `seats` (m, k) columns; the others (m,); `tokens` NaN where nothing is known."""

    composer: str
    rows: Ints
    seats: Ints
    quality: Floats
    calls: Floats
    cost: Floats
    tokens: Floats


def build(options: Options) -> Worth:
    return Worth(options)


class Worth:
    def __init__(self, options: Options) -> None:
        self._options = options
        self._single = balanced.build(balanced.Options.model_validate({
            "preset": options.preset, "lambda": options.lambda_, "caution": options.caution, "spares": options.spares,
        }))  # fmt: skip

    def decide(self, estimates: Estimates, situation: Situation) -> list[Choice]:
        base = self._single.decide(estimates, situation)
        may = allowed(situation)
        several = np.array([bool(choice.seats) for choice in base], np.bool_) & (may.sum(1) > 1)
        rows = np.flatnonzero(several)
        if not len(rows):
            return [replace(choice, composer="single") for choice in base]
        first = np.array([choice.seats[0] for choice, use in zip(base, several, strict=True) if use], np.int64)
        quality, cost = estimates.quality.astype(np.float64), _costs(situation)
        price = self._options.price / np.maximum(np.where(may, cost, 0.0).max(1), 1e-12)
        alone, alone_cost = np.zeros(len(base)), np.zeros(len(base))
        alone[rows], alone_cost[rows] = quality[rows, first], cost[rows, first]
        weighed = several & (situation.passages is not None)
        best, chosen = np.zeros(len(base)), dict[int, tuple[_Option, int]]()
        shown: dict[int, list[Alternative]] = {row: [] for row in rows.tolist()}
        for option in self._options_of(estimates, situation, rows, first, quality, cost):
            gain = option.quality - alone[option.rows]
            worth = gain - price[option.rows] * (option.cost - alone_cost[option.rows])
            for place, row in enumerate(option.rows.tolist()):
                shown[row].append(self._shown(estimates, option, place, float(gain[place]), float(worth[place])))
                if worth[place] > best[row] + 1e-9:
                    best[row] = worth[place]
                    chosen[row] = (option, place)
        return [
            replace(
                self._composed(estimates, choice, chosen.get(row), alone[row], shown.get(row, [])),
                retrieve=chosen[row][0].composer == RETRIEVE if row in chosen else False if weighed[row] else None,
            )
            for row, choice in enumerate(base)
        ]

    def _options_of(
        self, estimates: Estimates, situation: Situation, rows: Ints, first: Ints, quality: Floats,
        cost: Floats,
    ) -> Iterator[_Option]:  # fmt: skip
        composing = situation.composing or Composing()
        kinds: dict[str, list[int]] = {}
        for row in rows.tolist() if situation.texts else ():
            text: str = situation.texts[int(row)]
            kinds.setdefault(picked(text), []).append(int(row))
        for kind in sorted(kinds.keys() - {""}):
            use = np.array(kinds[kind], np.int64)
            yield from self._votes(estimates.experts, situation, kind, use, quality, cost, composing)
        if composing.cascade is not None and (situation.allowance.calls or 2) >= 2:
            yield from _cascades(estimates.experts, situation, rows, first, quality, cost, composing)
        if any(composing.abilities.values()):
            yield from self._councils(estimates.experts, situation, rows, quality, cost, composing)
        if situation.passages is not None:
            yield _informed(situation, situation.passages, rows, first, quality, cost)

    def _votes(
        self, experts: Sequence[str], situation: Situation, kind: str, rows: Ints, quality: Floats, cost: Floats,
        composing: Composing,
    ) -> Iterator[_Option]:  # fmt: skip
        weighing = composing.voting.of(kind)
        may, q = allowed(situation)[rows], quality[rows]
        weights = weighing.weights(experts, q)
        turn = order(np.where(may, q, -1.0), weights)
        causes = composing.voting.loadings(experts)
        room, tokens = situation.allowance.calls or self._options.most, _tokens(situation)
        for k in range(FEWEST, min(self._options.most, len(experts), room) + 1):
            able = may.sum(1) >= k
            if not able.any():
                return
            at, seats = rows[able], turn[able, :k]
            own = np.take_along_axis(q[able], seats, 1)
            calls = np.full(len(at), max(weighing.share * k, 1.0))
            paid, said = (np.take_along_axis(each[at], seats, 1).sum(1) * calls / k for each in (cost, tokens))
            held = np.take_along_axis(weights[able], seats, 1)
            value = of_vote(own, held, causes[seats], composing.voting.collusion)
            yield _affordable(_Option("vote", at, seats, value, calls, paid, said), situation)

    def _councils(
        self, experts: Sequence[str], situation: Situation, rows: Ints, quality: Floats, cost: Floats,
        composing: Composing,
    ) -> Iterator[_Option]:  # fmt: skip
        may, tokens = allowed(situation), _tokens(situation)
        known = np.array([composing.abilities.get(name, 0.0) for name in experts])
        causes = composing.voting.loadings(experts)
        room = (situation.allowance.calls or self._options.most + 1) - 1
        for k in range(FEWEST, min(self._options.most, len(experts), room) + 1):
            at = rows[may[rows].sum(1) >= k]
            if not len(at):
                return
            seats = np.argsort(-np.where(may[at], quality[at], -1.0), axis=1, kind="stable")[:, :k]
            own = np.take_along_axis(quality[at], seats, 1)
            able = np.take_along_axis(np.broadcast_to(known, (len(at), len(known))), seats, 1).max(1)
            paid, said = (np.take_along_axis(each[at], seats, 1) for each in (cost, tokens))
            times = _aggregating(said, None if situation.prompt is None else situation.prompt[at])
            paid, said = (each.sum(1) + times * each.max(1) for each in (paid, said))
            value = able * of_council(own, 1.0, causes[seats])
            yield _affordable(_Option("council", at, seats, value, np.full(len(at), k + 1.0), paid, said), situation)

    def _shown(self, estimates: Estimates, option: _Option, place: int, gain: float, worth: float) -> Alternative:
        columns: list[int] = option.seats[place].tolist()
        return Alternative(
            option.composer, tuple(estimates.experts[column] for column in columns),
            round(float(option.quality[place]), 4), round(float(option.calls[place]), 2),
            round(float(option.cost[place]), 9), round(gain, 4), round(worth, 4),
        )  # fmt: skip

    def _composed(
        self, estimates: Estimates, base: Choice, chosen: tuple[_Option, int] | None, alone: float,
        shown: list[Alternative],
    ) -> Choice:  # fmt: skip
        alternatives = tuple(sorted(shown, key=lambda one: -one.worth))
        if chosen is None:
            told = f"; nothing composed is worth more than {alone:.2f}" if shown else ""
            return Choice(base.seats, base.spares, base.reason + told, base.score, "single", alternatives)
        option, place = chosen
        if option.composer == RETRIEVE:
            reason = (
                f"passages are expected to raise {estimates.experts[base.seats[0]]} from {alone:.2f} to "
                f"{option.quality[place]:.2f}"
            )
            return Choice(base.seats, base.spares, reason, base.score, "single", alternatives)
        seats = tuple(option.seats[place].tolist())
        others = tuple(column for column in (*base.seats, *base.spares) if column not in seats)
        reason = (
            f"a {option.composer} of {len(seats)} is expected at {option.quality[place]:.2f} with "
            f"{option.calls[place]:.1f} calls, against {alone:.2f} of {estimates.experts[base.seats[0]]} alone"
        )
        return Choice(seats, others[: self._options.spares], reason, base.score, option.composer, alternatives)


def _costs(situation: Situation) -> Floats:
    """What each call is expected to cost; 1 where no price is known, so that calls are counted."""
    cost = np.nan_to_num(situation.cost_usd.astype(np.float64))
    return cost if cost.max(initial=0.0) > 0 else np.ones_like(cost)


def _tokens(situation: Situation) -> Floats:
    """What each call is expected to take of prompt and answer; NaN where nothing is known."""
    if situation.tokens is None:
        return np.full(situation.cost_usd.shape, np.nan)
    return situation.tokens.astype(np.float64)


def _aggregating(said: Floats, prompt: Matrix | None) -> Floats:
    """How many of its own calls an aggregator's takes, which reads all answers; `said` (m, k) tokens of the seats."""
    if prompt is None or np.isnan(said).any():
        return np.full(len(said), AGGREGATING)
    return 1.0 + (said - prompt[:, None]).sum(1) / said.max(1)


def _cascades(
    experts: Sequence[str], situation: Situation, rows: Ints, first: Ints, quality: Floats, cost: Floats,
    composing: Composing,
) -> Iterator[_Option]:  # fmt: skip
    """From each row's cheapest expert to its single choice."""
    assert composing.cascade is not None
    may = allowed(situation)
    cheap = np.where(may[rows], cost[rows], np.inf).argmin(1)
    other = cheap != first
    rows, cheap, first = rows[other], cheap[other], first[other]
    if not len(rows):
        return
    seats = np.stack([cheap, first], 1)
    value, onward = of_cascade(
        np.take_along_axis(quality[rows], seats, 1), composing.voting.loadings(experts)[seats], composing.cascade
    )
    paid, said = (each[rows, cheap] + onward * each[rows, first] for each in (cost, _tokens(situation)))
    yield _affordable(_Option("cascade", rows, seats, value, 1 + onward, paid, said), situation)


def _informed(
    situation: Situation, passages: Passages, rows: Ints, first: Ints, quality: Floats, cost: Floats
) -> _Option:
    """Each row's single choice, with passages before the question."""
    more = passages.cost_usd[first] if situation.cost_usd.any() else np.zeros(len(rows))
    return _affordable(
        _Option(RETRIEVE, rows, first[:, None], np.clip(quality[rows, first] + passages.gain[rows], 0.0, 1.0),
                np.ones(len(rows)), cost[rows, first] + more, _tokens(situation)[rows, first] + passages.tokens),
        situation,
    )  # fmt: skip


def _affordable(option: _Option, situation: Situation) -> _Option:
    """The option for the rows whose money and tokens it fits; what is not known is taken to fit."""
    usd, tokens = situation.allowance.usd, situation.allowance.tokens
    fits = np.ones(len(option.rows), np.bool_)
    if usd is not None and situation.cost_usd.any():
        fits &= option.cost <= usd
    if tokens is not None:
        fits &= ~(option.tokens > tokens)
    return _Option(
        option.composer, option.rows[fits], option.seats[fits], option.quality[fits], option.calls[fits],
        option.cost[fits], option.tokens[fits],
    )  # fmt: skip
