"""Texts embedded as the searches of a route embed them: by the encoder of the retriever that is best for each text, and
under its adapter where it has one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from experts.protocols import Adapting
from router.embedding import MOST_AT_ONCE, Vector
from router.passages import Lookup
from router.retrieval.choosing import Searchable, choose


async def embedded(lookup: Lookup, texts: Sequence[str]) -> tuple[list[Vector], list[dict[str, Any]]]:
    """Each text's vector (d,), and which retriever it comes from, why. Vectors of several encoders do not compare, and
    may differ in length.

    At least one source must search by vectors. Raises what embedding raises.
    """
    vectors, told = list[Vector](), list[dict[str, Any]]()
    for start in range(0, len(texts), MOST_AT_ONCE):  # a batch at a time: choosing holds the event loop up
        found = await asyncio.gather(*(_embedded(lookup, text) for text in texts[start : start + MOST_AT_ONCE]))
        vectors += [vector for vector, _ in found]
        told += [why for _, why in found]
    return vectors, told


async def _embedded(lookup: Lookup, text: str) -> tuple[Vector, dict[str, Any]]:
    """By the best of those that a search of the route would ask and that take vectors; of all that do, where none of
    them does. The best has the highest expected quality, or else the likeliest corpus, or else comes first."""
    choice = await choose(lookup.sources, text, lookup.choosing)
    reason = choice.reason

    def score(source: Searchable) -> float:
        return (
            choice.expected.get(source.retriever.name, -1.0) if choice.expected
            else choice.beliefs.get(source.retriever.corpus, -1.0)
        )  # fmt: skip

    able = [(source, source.embedding) for source in choice.sources if source.embedding is not None]
    if not able:
        able = [(source, source.embedding) for source in lookup.sources if source.embedding is not None]
        reason = f"the best that searches by vectors, which none of the chosen does: {reason}"
    best, embedding = max(able, key=lambda one: score(one[0]))
    vector, retriever = await embedding.embed([text], [1.0]), best.retriever
    if isinstance(retriever, Adapting):
        vector = retriever.adapted(vector)
    encoder = retriever.encoder or embedding.encoder.fingerprint
    return vector, {"retriever": retriever.name, "encoder": encoder, "reason": reason}
