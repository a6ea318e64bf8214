"""What is expected, and what will be done: estimates in, a plan out.

Estimates are batched (one row a query, one column an expert) because the gateway decides for micro-batches and the
evaluation harness for whole data sets, through the same code. A plan is for one query and keeps every number that
led to it, so that a decision can be explained without being made again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from experts.protocols import Vectors

Matrix = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Queries:
    """A batch of queries as an estimator sees them: never their task labels.

    `vectors` has shape (n, d), unit rows; None where no estimator of the route needs them.
    """

    texts: Sequence[str]
    vectors: Vectors | None = None

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True, slots=True)
class Estimates:
    """What is expected of every expert on every query of a batch.

    All arrays have shape (n, e), columns in the order of `experts`. `quality` is the expected score, 0 to 1 (the
    probability of success for right-or-wrong tasks); `uncertainty` its standard deviation; `tokens` the expected
    completion tokens, NaN where nothing is known; `latency_ms` likewise.
    `default` is the expert to fall back on (the best single one on the evidence), -1 where there is no evidence.
    `margins` (e,): the lead on the default from which asking that expert instead has paid on rows that were held out;
    empty where that is not known. A lead below it is not to be counted.
    `incumbents` (n,): the column that the estimator in force before the last fit leads to, -1 for none; None where a
    fit does not hold to what was before.
    `suitability` (n, e), at least 0: for recruiting several, how much each is wanted by the skills that a query takes;
    `skills` are these words, of the only query. None and empty where the estimator knows of no skills.
    """

    experts: tuple[str, ...]
    quality: Matrix
    uncertainty: Matrix
    tokens: Matrix
    latency_ms: Matrix
    default: int = -1
    notes: tuple[str, ...] = ()
    margins: tuple[float, ...] = ()
    incumbents: NDArray[np.int64] | None = None
    suitability: Matrix | None = None
    skills: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        shape = (self.quality.shape[0], len(self.experts))
        for name in ("quality", "uncertainty", "tokens", "latency_ms", "suitability"):
            table = getattr(self, name)
            found = shape if table is None else table.shape
            if found != shape:
                raise ValueError(f"Estimates.{name}: expected shape {shape}, got {found}")


class Estimate(NamedTuple):
    """One expert's row in an explanation. `uncertainty` is one standard deviation; NaN-free: None where unknown.

    `suitability`: how much it is wanted for the skills of the query, where these are known.
    """

    expert: str
    quality: float
    uncertainty: float
    cost_usd: float | None
    latency_ms: float | None
    score: float
    suitability: float | None = None


class Alternative(NamedTuple):
    """A composition that was weighed against a single expert: the `quality`, calls and cost expected of it, its
    `gain` in quality, and what the gain is `worth` after its price."""

    composer: str
    seats: tuple[str, ...]
    quality: float
    calls: float
    cost: float
    gain: float
    worth: float


class Seat(NamedTuple):
    """One expert's place in a plan, with its share of the request's budget."""

    expert: str
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Retrieval:
    """The retrieval part of a plan: none, or which retrievers and how many passages; and why.

    `without` and `using` are the expected scores without and with passages (None: not known), `price` the gain that
    they must bring, `costs` what never, always and this gate are expected to cost.
    """

    retrieve: bool
    retrievers: tuple[str, ...]
    passages: int
    reason: str
    without: float | None = None
    using: float | None = None
    price: float = 0.0
    costs: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be done with one query, and why.

    `spares` are tried in order, until the first delta has been emitted, when a seat fails. `confidence` is the
    chosen expert's estimated quality (None where nothing was estimated: an expert named directly).
    `excluded` maps each expert that a hard constraint ruled out to the constraint. `propensity` is the probability
    with which this plan was chosen: below 1 where a share of the traffic explores. `skills` are the words that spoke.
    `retrieve`: whether passages are looked up, where that was weighed with the compositions (`retrieval` tells all).
    """

    route: str
    composer: str
    seats: tuple[Seat, ...]
    spares: tuple[str, ...] = ()
    policy: str = ""
    reason: str = ""
    confidence: float | None = None
    estimates: tuple[Estimate, ...] = ()
    excluded: dict[str, str] = field(default_factory=dict[str, str])
    registry_version: str = ""
    propensity: float = 1.0
    skills: tuple[str, ...] = ()
    alternatives: tuple[Alternative, ...] = ()
    retrieval: Retrieval | None = None
    retrieve: bool | None = None

    @property
    def expert(self) -> str:
        """The first seat's expert: the one whose name the answer carries."""
        return self.seats[0].expert
