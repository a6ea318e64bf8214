"""A decision in JSON: what `POST /v1/route`, `consilium route` and the `consilium` object of an answer show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from router.passages import citations
from router.plan import Plan, Retrieval
from router.run import Run

if TYPE_CHECKING:
    from router.snapshot import Snapshot


def plan_json(plan: Plan) -> dict[str, Any]:
    """The plan, the estimates best first, and why: enough to see what would have changed the choice."""
    return {
        "route": plan.route,
        "plan": {
            "composer": plan.composer,
            "seats": [{"expert": seat.expert, "share": seat.share} for seat in plan.seats],
            "spares": list(plan.spares),
        },
        "estimates": [
            {
                "expert": row.expert, "quality": row.quality, "uncertainty": row.uncertainty,
                "cost_usd": row.cost_usd, "latency_ms": row.latency_ms, "score": row.score,
                **({} if row.suitability is None else {"suitability": row.suitability}),
            }
            for row in plan.estimates
        ],
        **({"alternatives": [one._asdict() for one in plan.alternatives]} if plan.alternatives else {}),
        **({"skills": list(plan.skills)} if plan.skills else {}),
        "policy": plan.policy,
        "confidence": None if plan.confidence is None else round(plan.confidence, 4),
        "propensity": round(plan.propensity, 6),
        "reason": plan.reason,
        "excluded": plan.excluded,
        "registry_version": plan.registry_version,
        **({"retrieval": _retrieval(plan.retrieval)} if plan.retrieval else {}),
    }  # fmt: skip


def _retrieval(part: Retrieval) -> dict[str, Any]:
    return {
        "retrieve": part.retrieve, "retrievers": list(part.retrievers), "passages": part.passages,
        "reason": part.reason, "quality": {"without": part.without, "with": part.using},
        "price": round(part.price, 6), "expected": dict(part.costs),
    }  # fmt: skip


def learned(snapshot: Snapshot, plan: Plan) -> dict[str, str]:
    """Where the estimates come from; nothing, where none were made."""
    route = snapshot.routes.get(plan.route)
    return {"learned": str(route.learned)} if route is not None and route.estimator is not None else {}


def before(run: Run) -> dict[str, Any]:
    """What is known before anybody is asked: the request's budget, and why it is not composed where it was to be."""
    budget = run.budget.allowance.as_json() if run.budget else {}
    return {**({"budget": {"limits": budget}} if budget else {}), **({"compose": run.notes} if run.notes else {})}


def sources(run: Run) -> list[dict[str, Any]]:
    """The passages of an answer, numbered as in its prompt, and which it cites."""
    return citations(run.passages, run.answer.text if run.answer else "")


def explanation(run: Run) -> dict[str, Any]:
    """The `consilium` object of an answer: the decision, every attempt, and the bill."""
    usage = run.usage
    return {
        "decision_id": run.id,
        "expert": run.answer.expert if run.answer else run.speaking,
        **(plan_json(run.plan) if run.plan else {}),
        **({"citations": sources(run)} if run.passages else {}),
        **({"looked_up": run.retrieval} if run.retrieval else {}),
        "cached_decision": run.cached,
        **({"compose": run.notes} if run.notes else {}),
        **({"budget": run.budget.as_json()} if run.budget and run.budget.limited else {}),
        "voices": [
            {
                "expert": attempt.expert, "role": attempt.role, "prompt_tokens": attempt.usage.prompt_tokens,
                "completion_tokens": attempt.usage.completion_tokens, "cost_usd": round(attempt.cost_usd, 9),
                "took_ms": round(attempt.took_s * 1e3, 2), "error": attempt.error.message if attempt.error else None,
            }
            for attempt in run.attempts
        ],
        **({"spans": run.spans.as_json()} if run.tells_spans else {}),
        "usage": {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens,
                  "total_tokens": usage.total_tokens},
        "cost_usd": round(run.cost_usd, 9),
    }  # fmt: skip
