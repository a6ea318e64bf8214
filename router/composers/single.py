"""One expert answers; spares stand in until the first delta has left. The hot path: adds no wrapper to the stream."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from experts.errors import AllFailed, BudgetSpent, ExpertError
from experts.language import Answer, Query
from experts.protocols import Emit
from router.plan import Plan
from router.protocols import Voices


class Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def build(options: Options) -> Single:
    return Single()


class Single:
    """Asks the first seat, then each spare. `n`, `logprobs`, tools and structured output pass through untouched."""

    def seated(self, plan: Plan) -> Plan:
        return plan

    async def compose(self, query: Query, voices: Voices, emit: Emit) -> Answer:
        return await first_of((voices.plan.expert, *voices.plan.spares), query, voices, emit)


async def first_of(experts: Sequence[str], query: Query, voices: Voices, emit: Emit) -> Answer:
    """The first of these to answer; the next one is asked only where nothing has been said yet."""
    causes: list[ExpertError] = []
    for expert in experts:
        try:
            return await voices.ask(expert, query, emit)
        except ExpertError as fault:
            if voices.committed or not fault.retryable:
                raise
            causes.append(fault)
        except BudgetSpent:
            if not causes:
                raise
            break  # who failed before is why there is no answer
    if len(causes) == 1:
        raise causes[0]
    tried = "; ".join(f"{cause.expert}: {cause.message}" for cause in causes)
    raise AllFailed(f"all {len(causes)} experts that were tried failed: {tried}", causes=causes)
