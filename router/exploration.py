"""Exploration: a share of a route's traffic asks another expert than the best one, with a known probability.

Without it nothing is ever learnt of the experts that are not chosen, and no other policy can be judged from the
decision log. With it every expert that may be asked has a probability of being asked above zero, the propensity, which
the log keeps: inverse propensity estimates are then unbiased (Horvitz and Thompson 1952; `evals.ope`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b

from router.plan import Plan, Seat


def explored(plan: Plan, experts: Sequence[str], share: float, decision_id: str) -> Plan:
    """The plan with its propensity; with probability `share`, a plan that asks an expert drawn evenly instead.

    Drawn from those that no constraint rules out, the planned one among them. The draw depends on the decision id
    alone, which is random, so the same decision is explored the same way wherever it is made again. Plans of several
    seats are left as they are: what one expert of them would have earned is not seen.
    """
    usable = [name for name in experts if name not in plan.excluded]
    if share <= 0 or plan.composer != "single" or len(plan.seats) != 1 or len(usable) < 2:
        return plan
    each = share / len(usable)
    draw = _uniform(decision_id)
    if draw >= share:
        return replace(plan, propensity=1 - share + each)
    drawn = usable[min(int(draw / each), len(usable) - 1)]
    if drawn == plan.expert:
        return replace(plan, propensity=1 - share + each)
    spares = (plan.expert, *(name for name in plan.spares if name not in (drawn, plan.expert)))[: len(plan.spares)]
    return replace(
        plan, seats=(Seat(drawn),), spares=spares, propensity=each,
        reason=f"exploration asks {drawn} ({share:.1%} of the traffic is explored); {plan.reason}",
        confidence=next((row.quality for row in plan.estimates if row.expert == drawn), None),
    )  # fmt: skip


def _uniform(text: str) -> float:
    """A number from 0 to 1, evenly spread over texts."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest()) / 2**64
