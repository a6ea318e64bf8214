"""Everything in force at one time. It never changes; a request keeps the snapshot it started with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from experts.language import Card
from experts.protocols import Expert
from registry.load import Registry
from registry.schema import Limits
from router.decide import Route
from router.embedding import Embedding
from router.plan import Plan, Seat
from router.protocols import Composer
from router.retrieval.choosing import Searchable
from router.worth import NOTHING_FITTED, Composing


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`direct` holds the plan of each expert that is named as the model;
    `composers` each composer as it is without options, where it needs none.
    """

    registry: Registry
    version: str
    experts: Mapping[str, Expert]
    cards: Mapping[str, Card]
    limits: Mapping[str, Limits]
    routes: Mapping[str, Route]
    embeddings: Mapping[str, Embedding]
    direct: Mapping[str, Plan]
    composers: Mapping[str, Composer]
    retrievers: Mapping[str, Searchable] = field(default_factory=dict[str, Searchable])

    def composers_of(self, route: str) -> Mapping[str, Composer]:
        """By name, with the route's own options for its own; of no route where `route` is empty."""
        return self.routes[route].composers if route else self.composers

    def abilities_of(self, route: str) -> Mapping[str, float]:
        """How well the route's experts aggregate, of those that were measured; empty of no route."""
        return self.routes[route].abilities if route else {}

    def composing_of(self, route: str) -> Composing:
        """What was fitted for the route's compositions."""
        return self.routes[route].composing if route else NOTHING_FITTED


def direct(name: str, version: str) -> Plan:
    """The plan of an expert that is named as the model."""
    return Plan("", "single", (Seat(name),), policy="direct", reason="named as the model", registry_version=version)
