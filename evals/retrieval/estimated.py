"""Retrievers chosen for each query by the estimators that choose experts: the same code, the same contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from evals.retrieval.scores import Scores
from evals.retrieval.searching import Asked
from experts.language import Card
from experts.protocols import Vectors
from router.estimators import open_estimator
from router.outcomes import Outcomes
from router.plan import Queries
from router.protocols import Parts

ESTIMATORS = ("clusters", "ridge", "blend", "pilots")


def chosen_by(
    estimator: str, training: Sequence[Asked], measured: Mapping[str, Scores], test: Sequence[Asked],
    found: Mapping[str, Scores], seed: int,
) -> Scores:  # fmt: skip
    """What each test query finds with the retriever of the highest estimated nDCG@10.

    `measured`, `found`: by retriever, the scores of training and of test queries, in their order.
    """
    names = tuple(measured)
    scores = np.stack([measured[name].ndcg10 for name in names], axis=1).astype(np.float32)
    unknown = np.full(scores.shape, np.nan, np.float32)
    texts, vectors = _queries(training)
    label = ("retrieval",) * len(texts)
    outcomes = Outcomes(
        tuple(map(str, range(len(texts)))), label, ("train",) * len(texts), texts, names, scores, unknown, unknown,
        unknown, vectors,
    )  # fmt: skip
    opened = open_estimator(estimator, {}, Parts(None, seed))
    opened.fit([Card(name) for name in names], outcomes)
    quality = opened.estimate(Queries(*_queries(test))).quality
    best, at = quality.argmax(axis=1), np.arange(len(test))
    return Scores(*(np.stack([found[name][column] for name in names])[best, at] for column in range(3)))


def _queries(asked: Sequence[Asked]) -> tuple[tuple[str, ...], Vectors]:
    return tuple(one.query.text for one in asked), np.stack([one.vector for one in asked])
