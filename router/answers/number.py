"""`number`: the last number of the final answer. Currency, thousands commas, fractions and percent signs go."""

from __future__ import annotations

from fractions import Fraction

from pydantic import BaseModel, ConfigDict

from router.answers._reading import Reading
from router.answers._texts import final, numbers

MOST_DIGITS = 400


class Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Number:
    def kind(self, question: str) -> str:
        return "number"

    async def read(self, question: str, text: str) -> Reading | None:
        value = stated(text)
        return None if value is None else Reading(key_of(value), shown(value))

    async def same(self, one: str, other: str) -> bool:
        return False

    async def close(self) -> None:
        return None


def stated(text: str) -> Fraction | None:
    """The last number of the final answer; where it has none, the last of the text."""
    found = numbers(final(text)) or numbers(text)
    return found[-1] if found else None


def key_of(value: Fraction) -> str:
    """Equal for values that agree to nine digits: `0.333333333333` is a third."""
    near = value.limit_denominator(10**6)
    if value == near or abs(value - near) <= abs(value) * Fraction(1, 10**9):
        value = near
    return str(value) if value.numerator.bit_length() < MOST_DIGITS * 4 else f"{float_of(value)}"


def shown(value: Fraction) -> str:
    return str(value.numerator) if value.denominator == 1 else f"{float_of(value):g}"


def float_of(value: Fraction) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def build(options: Options) -> Number:
    return Number()
