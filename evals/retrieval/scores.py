"""nDCG@10, recall@10 and MRR by pytrec_eval (Van Gysel, de Rijke 2018), intervals by scipy's bootstrap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
DEPTH = 10
RESAMPLES = 1000


class Scores(NamedTuple):
    """One value a query, in the order of the queries."""

    ndcg10: Floats
    recall10: Floats
    mrr10: Floats


def score(relevant: Sequence[Mapping[str, int]], found: Sequence[Sequence[str]]) -> Scores:
    """`relevant`: document id -> gain of each query; `found`: the ids that a system returned, best first."""
    import pytrec_eval  # pyright: ignore[reportMissingTypeStubs]

    names = [str(row) for row in range(len(found))]
    judge = pytrec_eval.RelevanceEvaluator(  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        {name: dict(gains) for name, gains in zip(names, relevant, strict=True)},
        {f"ndcg_cut.{DEPTH}", f"recall.{DEPTH}", "recip_rank"},
    )
    run = {name: {doc: float(DEPTH - rank) for rank, doc in enumerate(ids[:DEPTH])}
           for name, ids in zip(names, found, strict=True)}  # fmt: skip
    judged = judge.evaluate(run)
    rows = [judged.get(name, {}) for name in names]  # a query that found nothing is not in the answer
    columns = (f"ndcg_cut_{DEPTH}", f"recall_{DEPTH}", "recip_rank")
    return Scores(*(np.array([row.get(column, 0.0) for row in rows]) for column in columns))


def interval(values: Sequence[Floats], *, seed: int = 0, resamples: int = RESAMPLES) -> tuple[float, float]:
    """95 % percentile interval of the mean over domains of each domain's mean, queries resampled within domains."""
    from scipy.stats import bootstrap  # pyright: ignore[reportUnknownVariableType]

    def mean(*domains: Floats, axis: int) -> Floats:
        return np.mean([domain.mean(axis=axis) for domain in domains], axis=0)

    if not values or min(map(len, values)) < 2:
        return float("nan"), float("nan")
    found: Any = bootstrap(
        tuple(values), mean, n_resamples=resamples, method="percentile", vectorized=True, paired=False, batch=100,
        rng=np.random.default_rng(seed),
    )  # fmt: skip
    return float(found.confidence_interval.low), float(found.confidence_interval.high)
