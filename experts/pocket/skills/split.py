"""Which values belong to training, to validation and to the test: decided by a hash of the value, once for all."""

from collections.abc import Callable
from random import Random
from typing import Literal, TypeVar
from zlib import crc32

Value = TypeVar("Value")
Split = Literal["train", "validation", "test"]


def part(key: str) -> Split:
    """The split of a value: 10 % test, 10 % validation, the rest train."""
    lot = crc32(key.encode()) % 10
    return "test" if lot == 0 else "validation" if lot == 1 else "train"


def drawn(rng: Random, split: Split, draw: Callable[[Random], Value], key: Callable[[Value], str]) -> Value:
    """Draw until the value falls into the split."""
    while True:
        value = draw(rng)
        if part(key(value)) == split:
            return value
