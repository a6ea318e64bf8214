"""What a live evaluation is made of: samples that are asked, and scores of what was said."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol, runtime_checkable

Turn = Mapping[str, Any]
"""One message as OpenAI writes it: `{"role": "user", "content": "…"}`."""

Ask = Callable[[Sequence[Turn]], Awaitable[str]]
"""Asks a judge: a conversation in, its text out. Raises ConsiliumError."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One thing to ask and how to judge the answer.

    `turns` are sent; each of `follow_ups` is then asked in the same conversation, and the last answer is judged
    (unless the scorer looks at `Said.earlier`). `scorer` names a scorer, `options` are its own; `reference` is what
    it compares with, in the shape that it wants.
    """

    id: str
    turns: tuple[Turn, ...]
    scorer: str
    reference: Any = None
    task: str = ""
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    follow_ups: tuple[str, ...] = ()
    split: str = ""

    @property
    def prompt(self) -> str:
        """The user's text, all turns."""
        own = [str(turn.get("content") or "") for turn in self.turns if turn.get("role") == "user"]
        return "\n".join([*own, *self.follow_ups])


def ask(text: str, system: str = "") -> tuple[Turn, ...]:
    """A conversation of one user turn."""
    head = ({"role": "system", "content": system},) if system else ()
    return (*head, {"role": "user", "content": text})


def split_of(sample_id: str) -> str:
    """train, validation or test (60, 20, 20 %), by a hash of the id: the same on every machine."""
    share = int.from_bytes(blake2b(sample_id.encode(), digest_size=8).digest()) / 2**64
    return "train" if share < 0.6 else "validation" if share < 0.8 else "test"


class Score(NamedTuple):
    """`value` from 0 to 1; `note` says why, for a person."""

    value: float
    note: str = ""


class Said(NamedTuple):
    """What was answered: the last answer's text, and those of the turns before it."""

    text: str
    earlier: tuple[str, ...] = ()


class Scorer(Protocol):
    """Judges an answer. Raises ValueError where a sample's reference is not in the shape it wants."""

    async def score(self, sample: Sample, said: Said) -> Score: ...


@runtime_checkable
class Checks(Protocol):
    """A scorer that can tell, before anybody is asked, that a sample's reference is not what it wants."""

    def check(self, sample: Sample) -> None:
        """Raises ValueError."""
        ...


@dataclass(frozen=True, slots=True)
class ScorerParts:
    """What a scorer may be built from. `ask` is None where no judge was named."""

    ask: Ask | None = None


class Suite(Protocol):
    """A named set of samples. `samples` reads files, and raises ConfigError where they are not there."""

    def samples(self) -> Sequence[Sample]: ...
