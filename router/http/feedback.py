"""`POST /v1/feedback`: how good was the answer of a decision. It becomes an outcome that routers are fitted on."""

from __future__ import annotations

import asyncio
from time import time
from typing import TYPE_CHECKING, Any, cast

from experts.errors import BadRequest, Forbidden, NotReady
from router.http.exchange import Receive, Scope, Send, json_object, reply_json
from router.records.log import FLUSH_S, DecisionLog
from router.records.rows import Decision, Measured

if TYPE_CHECKING:
    from router.http.app import Caller, Gateway

FIELDS = frozenset({"decision_id", "score", "rating", "thumbs", "expert", "comment"})
MOST_COMMENT = 4_000
MOST_BODY = 64 * 1024
THUMBS = ("down", "up")


class UnknownDecision(BadRequest):
    """No decision of this id is kept: it never was, or it is older than the log keeps."""

    status = 404
    code = "decision_not_found"


async def feedback(gateway: Gateway, caller: Caller, scope: Scope, receive: Receive, send: Send) -> None:
    """`{decision_id, score: 0..1 | rating: 1..5 | thumbs: up|down, expert?, comment?}`.

    The last word on a decision's expert counts. A key rates its own decisions; the admin key rates all.
    """
    log = gateway.router.log
    if log is None:
        raise NotReady("this gateway keeps no decisions, so none can be rated: start it with --state FOLDER")
    said = await json_object(receive, caller.content_length, min(MOST_BODY, gateway.max_body_bytes))
    await gateway.admit(caller.key)
    try:
        score, comment = _score(said), _text(said, "comment")[:MOST_COMMENT]
        decision = await find(log, _text(said, "decision_id", needed=True))
        if decision.caller != caller.key.name and not caller.admin:
            raise Forbidden(f"decision {decision.id} was made for another key, which alone may rate it")
        row = outcome(decision, score, _expert(decision, _text(said, "expert")), caller.key.name, comment)
        await asyncio.to_thread(log.records.measure, [row])
    finally:
        await gateway.ledger.release(caller.key.name)
    await reply_json(send, {"decision_id": row.id, "expert": row.expert, "score": row.score})


async def find(log: DecisionLog, decision_id: str) -> Decision:
    """A decision that may still be on its way to the store, from here or from another gateway's log.

    Raises UnknownDecision.
    """
    await asyncio.to_thread(log.flush)
    found = await asyncio.to_thread(log.records.decision, decision_id)
    if found is None and decision_id.startswith("dec-"):
        await asyncio.sleep(2 * FLUSH_S)
        found = await asyncio.to_thread(log.records.decision, decision_id)
    if found is None:
        raise UnknownDecision(f"decision_id {decision_id!r}: no such decision is kept here", param="decision_id")
    return found


def outcome(decision: Decision, score: float, expert: str, caller: str, comment: str = "") -> Measured:
    """The outcome of one expert on a decision's query: what it was asked, by hash and vector (text where kept)."""
    calls = [one for one in decision.tried if one.expert == expert and not one.error]
    return Measured(
        id=decision.id, expert=expert, score=score, source="feedback", time=time(), task=decision.route,
        text=decision.text, text_hash=decision.text_hash, vector=decision.vector, encoder=decision.encoder,
        tokens=float(calls[-1].completion_tokens) if calls else None, cost_usd=calls[-1].cost_usd if calls else None,
        latency_ms=calls[-1].took_ms if calls else None, caller=caller, comment=comment,
    )  # fmt: skip


def _score(said: dict[str, Any]) -> float:
    if unknown := sorted(said.keys() - FIELDS):
        raise BadRequest(f"{unknown[0]}: no such field; feedback has {', '.join(sorted(FIELDS))}", param=unknown[0])
    given = [name for name in ("score", "rating", "thumbs") if said.get(name) is not None]
    if len(given) != 1:
        found = ", ".join(given) or "none"
        raise BadRequest(f"expected one of score (0 to 1), rating (1 to 5) and thumbs (up or down), got {found}")
    match given[0], said[given[0]]:
        case "thumbs", "up" | "down" as thumb:
            return float(THUMBS.index(thumb))
        case "score", bool() | str():
            pass
        case "score", int() | float() as score if 0 <= score <= 1:
            return float(score)
        case "rating", bool():
            pass
        case "rating", int() | float() as rating if 1 <= rating <= 5:
            return (rating - 1) / 4
        case _:
            pass
    wanted = {"score": "a number from 0 to 1", "rating": "a number from 1 to 5", "thumbs": "up or down"}[given[0]]
    raise BadRequest(f"{given[0]}: expected {wanted}, got {said[given[0]]!r}", param=given[0])


def _text(said: dict[str, Any], name: str, *, needed: bool = False) -> str:
    value = said.get(name)
    if value is None and not needed:
        return ""
    if not isinstance(value, str) or (needed and not value):
        raise BadRequest(f"{name}: expected a text, got {cast(object, value)!r}", param=name)
    return value


def _expert(decision: Decision, named: str) -> str:
    answered = list(dict.fromkeys(one.expert for one in decision.tried if not one.error))
    if named and named in answered:
        return named
    if named:
        spoke = ", ".join(answered) or "nobody"
        raise BadRequest(f"expert: {named!r} did not answer in decision {decision.id}; {spoke} did", param="expert")
    if not decision.answered:
        raise BadRequest(f"decision {decision.id}: nobody answered, so there is nothing to rate", param="decision_id")
    return decision.answered
