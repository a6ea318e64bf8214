"""How much of a draft should be judged at a time: as much as pays on these servers."""

from __future__ import annotations

from math import inf

LEAST = 2
FIRST = 8
_NEW = 0.3
"""Weight of a new figure in the mean."""
_FADES = 0.98
"""What is left of a figure each time it speaks against a length, so that the length is tried again."""


class Pace:
    """Seconds that a token of the answer took, by how many were judged at a time: a moving mean.

    Lengths are powers of two, and at most `most`. Judging a draft costs a server more the longer it is, by how much
    depends on the server, and what is not kept was in vain; so what counts is what was measured. Kept from one
    answer of the same experts to the next.
    """

    def __init__(self, most: int) -> None:
        self._most = 1 << (most.bit_length() - 1)
        self._seconds: dict[int, float] = {}

    def first(self) -> int:
        """Tokens to judge first of an answer."""
        return self._worth(FIRST)

    def following(self, length: int, drafted: int, kept: int) -> int:
        """Tokens to judge next: twice as many where all were kept, else about as many as were; fewer where half as many
        have been faster."""
        return self._worth(2 * length if kept == drafted else 1 << kept.bit_length())

    def took(self, length: int, seconds: float, tokens: int) -> None:
        """So many tokens that were drafted and judged gave the answer `tokens`."""
        each = seconds / max(tokens, 1)
        known = self._seconds.get(length)
        self._seconds[length] = each if known is None else known + _NEW * (each - known)

    def _worth(self, length: int) -> int:
        length = max(min(length, self._most), LEAST)
        while length > LEAST and self._seconds.get(length, 0.0) > self._seconds.get(length // 2, inf):
            self._seconds[length] *= _FADES
            length //= 2
        return length
