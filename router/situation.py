"""What a policy may know beside the estimates: who can be asked at all, what a call would cost, how busy they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from experts.language import Card, Load, Query
from router.outcomes import CHARS_PER_TOKEN
from router.plan import Estimates, Matrix
from router.protocols import Situation

TOKENS_WHEN_UNKNOWN = 256.0
CALLS_A_REPLICA = 32


def prompt_tokens(query: Query) -> float:
    """A rough count: four characters a token, 800 tokens an image (no tokenizer is asked before the decision)."""
    images = sum("image" in message.modalities for message in query.messages)
    return query.prompt_chars() / CHARS_PER_TOKEN + 800 * images


def constraint(card: Card, query: Query, tokens: float) -> str:
    """The hard constraint that rules this expert out for this query; empty when none does."""
    needs = query.needs
    if missing := needs.modalities - card.modalities:
        return f"does not take {', '.join(sorted(missing))}"
    if needs.tools and not card.tools:
        return "does not call tools"
    if needs.structured and not card.structured:
        return "does not give structured output"
    if card.context is not None and tokens + (query.max_tokens or 0) > card.context:
        return f"context of {card.context} tokens is too short for about {tokens + (query.max_tokens or 0):.0f}"
    return ""


def expected_output(estimates: Estimates, limit: Matrix) -> Matrix:
    """Shape (n, e), tokens that each would say. `limit` (n,) the query's max_tokens, NaN where there is none."""
    output = np.where(np.isnan(estimates.tokens), TOKENS_WHEN_UNKNOWN, estimates.tokens)
    return np.where(np.isnan(limit)[:, None], output, np.minimum(output, limit[:, None])).astype(np.float32)


def expected_cost(cards: Sequence[Card], prompt: Matrix, output: Matrix) -> Matrix:
    """Shape (n, e), USD. `prompt` (n,) tokens of each query; `output` (n, e) those of each answer."""
    price_in = np.array([card.price.input for card in cards], np.float32)
    price_out = np.array([card.price.output for card in cards], np.float32)
    return ((prompt[:, None] * price_in + output * price_out) / 1e6).astype(np.float32)


def busy(loads: Sequence[Load], limits: Sequence[int | None]) -> Matrix:
    """Shape (e,): calls under way over the calls that would fill the expert."""
    full = [limit or CALLS_A_REPLICA * max(load.up, 1) for load, limit in zip(loads, limits, strict=True)]
    return np.array([load.in_flight / most for load, most in zip(loads, full, strict=True)], np.float32)


def situation(
    cards: Sequence[Card], estimates: Estimates, *, prompt: Matrix, limit: Matrix, load: Matrix,
    allowed: NDArray[np.bool_],
) -> Situation:  # fmt: skip
    """Shapes: `prompt` and `limit` (n,), `load` (e,), `allowed` (n, e)."""
    output = expected_output(estimates, limit)
    return Situation(expected_cost(cards, prompt, output), load, allowed, tokens=prompt[:, None] + output,
                     prompt=prompt)  # fmt: skip
