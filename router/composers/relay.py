"""`relay`: experts on separate, ordinary servers write one answer token by token. Three modes.

`span` (default): the first seat speaks, and hands over for a stretch where it is not sure (`router.relay.span`).
`verify`: every token is one that the fused rule picks, drafted, and judged while the draft goes on
(`router.relay.together`). `token`: the same in lock-step, as the reference. The rule is a product of experts over their
likeliest tokens (`router.relay.rule`): FusionRoute's own needs the router's hidden state, which no server gives away.

`n` > 1, log-probabilities, penalties, `logit_bias`, images and tool calls fall to `single`, and so do requests
for which fewer than two seats can be asked by token or the budget has fewer than two calls. Structured output: the
first seat's whole answer, checked, repaired once. `stop` and `max_tokens` count on the answer as a whole. `temperature`
and `seed` hold in every mode; top_p, top_k and min_p in `span` only: the others leave them to `single`.

Different tokenizers: `span` hands over where a word ends and says so; `verify` and `token` refuse. Budget: a seat is
one call, however many round trips it takes, and every token that it reads or says counts once, kept or not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from math import inf
from time import perf_counter
from typing import Annotated, Any, Literal
from zlib import crc32

import orjson
from pydantic import BaseModel, ConfigDict, Field

from experts.errors import BadRequest, BudgetSpent, ConfigError, ExpertError
from experts.language import Answer, Card, Query
from experts.protocols import Emit
from router.composers import _seats
from router.composers.single import Single
from router.parts import Part
from router.plan import Plan
from router.protocols import Call, Heard, Voices
from router.relay.desk import Desk
from router.relay.pace import Pace
from router.relay.rule import Draw, shares
from router.relay.span import Handing, Terms
from router.relay.together import Together

_SHAPED = ("logit_bias", "presence_penalty", "frequency_penalty", "repetition_penalty")
_CUT = ("top_p", "top_k", "min_p")
_SAMPLING = ("temperature", "seed", *_CUT, "ignore_eos")


class Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Literal["span", "verify", "token"] = Field(default="span", description="How the seats share the answer.")
    k: int = Field(default=2, ge=2, le=8, description="Seats, where the policy chose no more than one.")
    threshold: float = Field(
        default=0.5, ge=0, le=1,
        description="span: the least confidence of a token; fit it with `python -m router.relay.threshold`.",
    )  # fmt: skip
    measure: Literal["top1", "entropy"] = Field(
        default="top1", description="span: the likeliest token's probability, or exp(-entropy) of the likeliest `top`."
    )
    stretch: int = Field(default=32, ge=1, le=4096, description="span: tokens of a hand-over.")
    hand_overs: int = Field(default=8, ge=0, le=256, description="span: hand-overs at most.")
    top: int = Field(default=20, ge=1, le=1000, description="Likeliest tokens of each expert that the rule sees.")
    draft: int = Field(default=32, ge=2, le=256, description="verify: tokens that are judged at a time, at most.")
    weights: Literal["quality", "equal"] | dict[str, Annotated[float, Field(gt=0)]] = Field(
        default="quality", description="verify, token: by expected quality, all the same, or a weight an expert."
    )


def build(options: Options) -> Relay:
    return Relay(options)


class Relay:
    def __init__(self, options: Options) -> None:
        self._options = options
        self._paces: dict[tuple[str, ...], Pace] = {}

    def check(self, cards: Sequence[Card]) -> None:
        """`verify` and `token` need one tokenizer. Raises ConfigError naming the first two that differ."""
        if self._options.mode == "span":
            return
        known = [(card.name, card.tokenizer) for card in cards if card.tokenizer]
        for name, tokenizer in known[1:]:
            if tokenizer != known[0][1]:
                raise ConfigError(_differ(self._options.mode, known[0][0], name))

    def seated(self, plan: Plan) -> Plan:
        return _seats.recruited(plan, self._options.k, repeat=False)

    async def compose(self, query: Query, voices: Voices, emit: Emit) -> Answer:
        seats = list(dict.fromkeys(seat.expert for seat in voices.plan.seats))
        able: list[str] = [name for name in seats if voices.speaks_tokens(name)]
        if query.needs.structured:
            return await self._structured(query, voices, [*seats, *voices.plan.spares], emit)
        if why := self._unfit(query, voices, able):
            voices.note(single_because=why)
            return await Single().compose(query, voices, emit)
        failed: list[Heard] = []
        while able:
            async with AsyncExitStack() as stack:
                try:
                    primary = await self._joined(stack, able[0], query, voices, len(able), "primary")
                except ExpertError as fault:
                    failed.append(Heard(Call(able.pop(0), query), error=fault))
                    continue
                desk = Desk(query, voices, emit, primary.expert)
                try:
                    await self._written(desk, query, voices, primary, able[1:], stack)
                except ExpertError as fault:
                    if voices.committed or desk.text:
                        raise
                    able.remove(primary.expert)
                    failed.append(Heard(Call(primary.expert, query), error=fault))
                    continue
                return await desk.close()
        for name in voices.plan.spares:
            try:
                return await voices.ask(name, query, emit, role="spare")
            except ExpertError as fault:
                if voices.committed:
                    raise
                failed.append(Heard(Call(name, query), error=fault))
        raise _seats.nobody(failed)

    async def _written(
        self, desk: Desk, query: Query, voices: Voices, primary: Part, others: Sequence[str], stack: AsyncExitStack
    ) -> None:
        """Write the answer, until it ends or time is up."""
        until = voices.budget.until
        clock = asyncio.timeout(None if until == inf else max(until - perf_counter(), 0))
        try:
            async with clock:
                if self._options.mode == "span":
                    await self._span(desk, query, voices, primary, others, stack)
                else:
                    await self._together(desk, query, voices, primary, others, stack)
        except TimeoutError:
            if not clock.expired():
                raise
            voices.budget.cut("ms")
            if not desk.text:
                raise BudgetSpent("no expert said anything within the request's time", limit="ms") from None
            desk.end("length")
        if desk.finish == "length" and desk.room(1) > 0 and voices.budget.limited:
            voices.budget.cut("tokens")

    async def _span(
        self, desk: Desk, query: Query, voices: Voices, primary: Part, others: Sequence[str], stack: AsyncExitStack
    ) -> None:
        options = self._options
        sampling = {name: _given(query, name) for name in _SAMPLING if name in query.fields}
        terms = Terms(options.threshold, options.measure, options.top if options.measure == "entropy" else 1,
                      options.stretch, options.hand_overs, sampling)  # fmt: skip
        handing = Handing(desk, voices, terms, primary)
        handing.alike = not _declared_unlike(voices, [primary.expert, *others])

        async def join() -> list[Part]:
            parts = await self._joined_all(stack, others, query, voices)
            if handing.alike:
                handing.alike = not await _unlike(voices, [primary.expert, *(part.expert for part in parts)])
            return parts

        try:
            await handing.run(bool(others), join)
        finally:
            voices.note(mode="span", hand_overs=handing.hand_overs, doubts=handing.doubts,
                        least_confidence=round(handing.least, 4))  # fmt: skip
            if not handing.alike:
                voices.note(boundaries="text: the experts' tokenizers differ")

    async def _together(
        self, desk: Desk, query: Query, voices: Voices, primary: Part, others: Sequence[str], stack: AsyncExitStack
    ) -> None:
        options = self._options
        parts = [primary, *await self._joined_all(stack, others, query, voices)]
        names = [part.expert for part in parts]
        if unlike := _declared_unlike(voices, names) or await _unlike(voices, names):
            raise BadRequest(_differ(options.mode, *unlike), param="consilium.compose")
        weights = self._weights(voices, names)
        together = Together(desk, voices, parts, weights, options.top, _draw(query))
        if options.mode == "token":
            await together.token()
        else:
            await together.verify(self._paces.setdefault(tuple(names), Pace(options.draft)))
        told: dict[str, Any] = {"mode": options.mode, "rounds": together.rounds}
        if options.mode == "verify" and together.drafted:
            told["accepted"] = round(together.accepted / together.drafted, 4)
        voices.note(**told, weights={name: round(w, 4) for name, w in zip(names, weights, strict=True)})

    def _weights(self, voices: Voices, names: Sequence[str]) -> list[float]:
        given, rows = self._options.weights, voices.estimates
        if given == "quality" and all(name in rows for name in names):
            return shares([rows[name].quality for name in names])
        return shares([given.get(name, 1.0) if isinstance(given, dict) else 1.0 for name in names])

    def _unfit(self, query: Query, voices: Voices, able: Sequence[str]) -> str:
        """Why one expert must answer alone; empty where several may."""
        fields = _SHAPED if self._options.mode == "span" else (*_SHAPED, *_CUT)
        for name in fields:
            if _given(query, name) not in (None, 0, 1 if name in ("repetition_penalty", "top_p") else 0, {}):
                return f"{name} is not kept from one expert to the next"
        if _given(query, "logprobs"):
            return "log-probabilities are one expert's"
        if query.api != "chat" or query.needs.tools or query.needs.modalities or (_given(query, "n") or 1) > 1:
            return "only one answer of text, without tools, is written by several"
        if len(able) < 2:
            return "fewer than two of the seats can be asked token by token"
        if voices.budget.calls_left < 2:
            return "the budget has no room for a second expert"
        return ""

    async def _structured(self, query: Query, voices: Voices, names: Sequence[str], emit: Emit) -> Answer:
        """One expert's whole answer, checked, and repaired once."""
        voices.note(single_because="structured output is one expert's")
        failed: list[Heard] = []
        for name in names:
            try:
                heard = await voices.hear(name, query)
            except ExpertError as fault:
                failed.append(Heard(Call(name, query), error=fault))
                continue
            return await _seats.settled(query, voices, heard, emit)
        raise _seats.nobody(failed)

    async def _joined(
        self, stack: AsyncExitStack, name: str, query: Query, voices: Voices, seats: int, role: str
    ) -> Part:
        room = voices.budget.rooms(seats) if voices.budget.limited else None
        return await stack.enter_async_context(voices.join(name, query, role=role, room=room))

    async def _joined_all(
        self, stack: AsyncExitStack, names: Sequence[str], query: Query, voices: Voices
    ) -> list[Part]:
        """Those of these experts that can join; an expert or a budget that refuses is noted."""
        parts: list[Part] = []
        for place, name in enumerate(names):
            try:
                parts.append(await self._joined(stack, name, query, voices, len(names) - place, "seat"))
            except (ExpertError, BudgetSpent) as fault:
                voices.note(left=f"{name}: {fault.message}")
        return parts


def _given(query: Query, name: str) -> Any:
    return orjson.loads(bytes(query.fields[name])) if name in query.fields else None


def _draw(query: Query) -> Draw:
    """A request without a seed has one of its own: its id."""
    warm, seed = _given(query, "temperature"), _given(query, "seed")
    return Draw(1.0 if warm is None else float(warm), crc32(query.id.encode()) if seed is None else int(seed))


def _declared_unlike(voices: Voices, names: Sequence[str]) -> tuple[str, str] | None:
    """Two experts whose cards name different tokenizers."""
    known = [(name, card.tokenizer) for name in names if (card := voices.cards.get(name)) and card.tokenizer]
    return next(((known[0][0], name) for name, tokenizer in known[1:] if tokenizer != known[0][1]), None)


async def _unlike(voices: Voices, names: Sequence[str]) -> tuple[str, str] | None:
    """Two experts whose servers cut a text differently. Raises ExpertError."""
    found: list[tuple[str, str]] = []
    for name in names:
        expert = voices.speaks_tokens(name)
        if expert is not None:
            found.append((name, await expert.tokenizer()))
    return next(((found[0][0], name) for name, tokenizer in found[1:] if tokenizer != found[0][1]), None)


def _differ(mode: str, one: str, other: str) -> str:
    return (f"composer relay, mode {mode}: the experts {one} and {other} have different tokenizers; "
            f"leave one out, or use `mode: span`, which hands over where a word ends")  # fmt: skip
