"""What is kept of the gateway's work: one row a decision, one row a measured outcome. Plain JSON but for the vector."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeVar

import msgspec
import numpy as np

from experts.protocols import Vectors
from router.plan import Estimate

R = TypeVar("R", "Decision", "Measured")
Source = Literal["profile", "feedback", "aggregation"]


class Tried(NamedTuple):
    """One call to one expert, as a decision keeps it.

    `error` is the error's code, empty where it answered; `role` its part in the plan.
    """

    expert: str
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float
    took_ms: float
    error: str = ""
    role: str = "seat"


class Decision(msgspec.Struct, frozen=True, omit_defaults=True):
    """One decision and what came of it.

    `expert` is who was chosen, `answered` who answered (a spare, where the chosen one failed; empty where nobody did).
    `propensity` is the probability with which `expert` was chosen, exploration included: what off-policy evaluation
    divides by. `vector` holds float16 bytes, empty where the route needs none; `encoder` is its fingerprint.
    `text` is empty unless the gateway was told to keep texts. `time` is in seconds since 1970.
    """

    id: str
    time: float
    caller: str = ""
    model: str = ""
    route: str = ""
    expert: str = ""
    answered: str = ""
    propensity: float = 1.0
    text_hash: str = ""
    text: str = ""
    vector: bytes = b""
    encoder: str = ""
    composer: str = ""
    policy: str = ""
    reason: str = ""
    registry_version: str = ""
    estimates: tuple[Estimate, ...] = ()
    excluded: dict[str, str] = {}
    prompt_tokens: float = 0.0
    max_tokens: int | None = None
    tried: tuple[Tried, ...] = ()
    cached: bool = False
    decide_ms: float = 0.0
    ttft_ms: float | None = None
    took_ms: float = 0.0
    status: int = 0
    error: str = ""

    @property
    def cost_usd(self) -> float:
        return sum(one.cost_usd for one in self.tried)


class Measured(msgspec.Struct, frozen=True, omit_defaults=True):
    """One outcome that we measured ourselves: this expert got this score (0 to 1) on this query.

    `id` is a suite's sample, or a decision. Of source `aggregation` are scores of answers that an expert wrote on the
    grounds of others' answers. `skills`: the words for what the query takes, if anybody was asked for them.
    Of the rows with equal `source`, `id` and `expert` the last one counts.
    """

    id: str
    expert: str
    score: float
    source: Source
    time: float
    task: str = ""
    split: str = "train"
    text: str = ""
    text_hash: str = ""
    vector: bytes = b""
    encoder: str = ""
    tokens: float | None = None
    cost_usd: float | None = None
    latency_ms: float | None = None
    caller: str = ""
    comment: str = ""
    skills: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, str, str]:
        return self.source, self.id, self.expert


def packed(vector: Vectors | None) -> bytes:
    """A vector (d,) as float16 bytes: half the size, and far more exact than the int8 encoder that made it."""
    return b"" if vector is None else np.asarray(vector, np.float16).tobytes()


def unpacked(data: bytes) -> Vectors:
    """Shape (d,), float32, of unit length again."""
    vector = np.frombuffer(data, np.float16).astype(np.float32)
    return vector / max(float(np.linalg.norm(vector)), 1e-12)


def to_json(row: Decision | Measured) -> bytes:
    """Everything but the vector, which is stored beside it."""
    return msgspec.json.encode(msgspec.structs.replace(row, vector=b"") if row.vector else row)


def to_decision(body: bytes, vector: bytes) -> Decision:
    return _with(msgspec.json.decode(body, type=Decision), vector)


def to_measured(body: bytes, vector: bytes) -> Measured:
    return _with(msgspec.json.decode(body, type=Measured), vector)


def _with(row: R, vector: bytes) -> R:
    return msgspec.structs.replace(row, vector=vector) if vector else row
