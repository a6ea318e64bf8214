"""From measured rows to the table that estimators are fitted on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from experts.protocols import Encoder
from router.outcomes import Outcomes, rows_to_outcomes
from router.plan import Matrix
from router.records.rows import Measured, unpacked
from router.vectors import VectorCache


@dataclass(frozen=True, slots=True)
class Table:
    """Outcomes ready to fit on; `unusable` counts queries of which neither a text nor a vector was kept."""

    outcomes: Outcomes
    unusable: int = 0


def table(measured: Sequence[Measured], encoder: Encoder | None, vectors: VectorCache) -> Table:
    """One row a query (source and id), one column an expert; with vectors where `encoder` is given.

    A vector that this very encoder made when the query was decided is taken as it is: it is what the router sees of
    a conversation. Other queries are embedded from their texts. A query whose text was not kept has an empty one, and
    the text's hash as its digest, so that equal queries can still be told to be equal.
    """
    queries: dict[tuple[str, str], list[Measured]] = {}
    for one in measured:
        if one.source == "aggregation":  # how well it aggregates says nothing of how well it answers
            continue
        queries.setdefault((one.source, one.id), []).append(one)
    kept: list[list[Measured]] = []
    stored: list[bytes] = []
    for rows in queries.values():
        own = [one.vector for one in rows if encoder and one.vector and one.encoder == encoder.fingerprint]
        vector = own[0] if own else b""
        if encoder is None or vector or rows[0].text:
            kept.append(rows)
            stored.append(vector)
    outcomes = rows_to_outcomes(
        {
            "id": rows[0].id, "task": rows[0].task, "split": rows[0].split,
            "prompt": rows[0].text, "digest": "" if rows[0].text else rows[0].text_hash,
            "scores": {one.expert: one.score for one in rows}, "tokens": {one.expert: one.tokens for one in rows},
            "cost_usd": {one.expert: one.cost_usd for one in rows},
            "latency_ms": {one.expert: one.latency_ms for one in rows}, "skills": rows[0].skills,
        }
        for rows in kept
    )  # fmt: skip
    if encoder is not None:
        outcomes = _embedded(outcomes, stored, encoder, vectors)
    return Table(outcomes, len(queries) - len(kept))


def _embedded(outcomes: Outcomes, stored: Sequence[bytes], encoder: Encoder, cache: VectorCache) -> Outcomes:
    vectors = np.zeros((len(outcomes), encoder.dimensions), np.float32)
    missing = [row for row, data in enumerate(stored) if not data]
    for row, data in enumerate(stored):
        if data:
            vectors[row] = unpacked(data)
    if missing:
        made = cache.embedded(replace(outcomes.take(missing), vectors=None), encoder).vectors
        assert made is not None
        vectors[missing] = made
    return replace(outcomes, vectors=vectors)


def joined(tables: Sequence[Outcomes]) -> Outcomes:
    """All rows under all experts, in order of first appearance. Vectors are kept where every table has them."""
    experts = tuple(dict.fromkeys(name for one in tables for name in one.experts))
    wide = [one.for_experts(experts) for one in tables if len(one)]
    if not wide:
        return Outcomes.empty(experts)

    def rows(name: str) -> Matrix:
        return np.concatenate([getattr(one, name) for one in wide])

    def labels(name: str) -> tuple[Any, ...]:
        return tuple(value for one in wide for value in getattr(one, name))

    whole = all(one.vectors is not None for one in wide)
    return Outcomes(
        labels("ids"), labels("tasks"), labels("splits"), labels("texts"), experts, rows("scores"), rows("tokens"),
        rows("cost_usd"), rows("latency_ms"), rows("vectors") if whole else None, labels("digests"),
        labels("words") if any(one.skills for one in wide) else (),
    )  # fmt: skip
