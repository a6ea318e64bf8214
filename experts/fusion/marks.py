"""Who spoke each token, told through the log-probabilities of three reserved token ids.

A fused model has three ids more than its tokenizer knows. Their logits are no words but notes about the row they stand
in: which expert was picked, which token that expert alone would have said, and how far the router moved it. They are
so low that they are never sampled (exp(-1024) is 0 in float32), and whoever asks for the log-probabilities of these
ids reads them (`logprob_token_ids`; the trick is Co-LLM's, arXiv 2403.03870). So the notes travel with their row
through batching, chunked prefill, preemption and several workers: there is no side channel to keep in step.

No torch here: the gateway reads marks.
"""

from __future__ import annotations

from typing import NamedTuple

FLOOR = 1024.0
"""Marks are below minus this. vLLM cuts log-probabilities at -9999 when it writes them, so all must be above that."""

STEP = 1 / 128
"""One unit of a note: a power of two, and wide enough for float32 at 9216 to keep units apart after a softmax."""

MARKS = 3
"""Reserved ids: expert, own, shift; in this order, after the last id that can be spoken."""

SHIFTS = 1000
"""Units of the whole range of `shift`."""

LARGEST = int((9216 - FLOOR) / STEP)
"""The largest number that a mark holds: over a million, more than any vocabulary."""


class Mark(NamedTuple):
    """`expert`: its index; `own`: the token id that it alone likes best; `shift`: from 0, nothing changed, to 1."""

    expert: int
    own: int
    shift: float


def note(number: int) -> float:
    """The logit that says a number."""
    return -(FLOOR + number * STEP)


def number(logprob: float) -> int | None:
    """The number that a reserved id's log-probability says; None where it says none."""
    found = round((-logprob - FLOOR) / STEP)
    return found if 0 <= found <= LARGEST else None


def read(expert: float, own: float, shift: float) -> Mark | None:
    """The mark in the log-probabilities of the three reserved ids; None where they hold none."""
    numbers = number(expert), number(own), number(shift)
    if numbers[0] is None or numbers[1] is None or numbers[2] is None:
        return None
    return Mark(numbers[0], numbers[1], min(numbers[2] / SHIFTS, 1.0))
