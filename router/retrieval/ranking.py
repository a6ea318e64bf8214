"""Retrievers weighed for each query: a conditional logit over what they found in all corpora (McFadden 1974).

No corpus is chosen early: every passage found carries the belief in its corpus as one term among others, and the
lexical retrievers' weight moves with the query. A corpus that answers enough of the judged queries has terms of its own
beside those that all share: how telling its words and its vectors are differs from others'. One that is added later is
ranked by the shared ones alone.
"""

from __future__ import annotations

import tempfile
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from experts.errors import ConfigError

Floats = NDArray[np.float64]
FORMAT = 2
RIDGE = 1e-3
RIDGE_OWN = 1e-2
"""Of terms of a corpus's own: what corpora have in common is then learned by the terms that all share."""
BEST = 10
OWN = 50
"""Judged queries that a corpus must answer to have terms of its own."""


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What one query found. `scores`: (n, R), a column a retriever, NaN where it did not find the passage; `corpora`:
    (n,) positions of the passages' corpora; `beliefs`: (C,) log-probabilities of the corpora before searching; `names`:
    (C,) what they are called."""

    scores: Floats
    corpora: NDArray[np.int64]
    beliefs: Floats
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Ranker:
    """`weights`: one a feature. `retrievers`: the names of the columns that it was fitted on, in order; `corpora`:
    those that have terms of their own."""

    retrievers: tuple[str, ...]
    weights: Floats
    corpora: tuple[str, ...] = ()

    def scores(self, found: Found) -> Floats:
        """One score a passage, (n,): the higher, the more likely relevant."""
        if found.scores.shape[1] != len(self.retrievers):
            raise ConfigError(
                f"ranker: fitted on {len(self.retrievers)} retrievers ({', '.join(self.retrievers)}), got scores of "
                f"{found.scores.shape[1]}; fit it again"
            )
        return features(found, self.corpora) @ self.weights

    def save(self, path: Path) -> None:
        """One npz, written whole and renamed."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
            np.savez(
                file, format=np.array(FORMAT), retrievers=np.array(self.retrievers), weights=self.weights,
                corpora=np.array(self.corpora, np.str_),
            )  # fmt: skip
        Path(file.name).replace(path)


def load_ranker(path: Path) -> Ranker:
    """Raises ConfigError for a file that `Ranker.save` did not write."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
            if int(held["format"]) != FORMAT:
                raise ConfigError(
                    f"{path}: expected ranker format {FORMAT}, found {int(held['format'])}; "
                    "`consilium retriever fit` writes it anew"
                )
            names, corpora = (tuple(str(name) for name in held[key]) for key in ("retrievers", "corpora"))
            weights = np.asarray(held["weights"], np.float64)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as fault:
        raise ConfigError(f"{path}: expected a ranker written by this project, cannot be read: {fault}") from fault
    expected = width(len(names), len(corpora))
    if weights.shape != (expected,):
        raise ConfigError(f"{path}: expected {expected} weights, found shape {weights.shape}; fit it again")
    return Ranker(names, weights, corpora)


def width(retrievers: int, corpora: int = 0) -> int:
    """How many features `retrievers` give, and `corpora` with terms of their own."""
    return 7 * retrievers + 2 + corpora * (retrievers + 1)


def features(found: Found, corpora: Sequence[str] = ()) -> Floats:
    """(n, 7R + 2 + C (R + 1)): of each retriever the score, its share of the best one, that times how sharp and how
    large the best ones are, and its view of the passage's corpus by the best one and by the best ten; the belief; and
    the share of the best times the belief's entropy, once. Of each of the C `corpora`, whether the passage is its own,
    and where it is, each retriever's share of the best."""
    scores = filled(found.scores)
    if not len(scores):
        return np.zeros((0, width(scores.shape[1], len(corpora))))
    count = len(found.beliefs)
    entropy = -float(np.exp(found.beliefs) @ found.beliefs) / max(np.log(count), 1.0)
    columns: list[Floats] = []
    for column in scores.T:
        top = np.sort(column)[::-1][:BEST]
        share = column / max(float(top[0]), 1e-6)
        mine = [np.sort(column[found.corpora == corpus])[::-1] for corpus in range(count)]
        one = np.array([each[0] if len(each) else column.min() for each in mine])
        ten = np.array([each[:BEST].mean() if len(each) else column.min() for each in mine])
        columns += [
            column, share, share * (1 - float(top.mean()) / max(float(top[0]), 1e-6)), share * float(top[0]),
            (one - one.max())[found.corpora], (ten - ten.max())[found.corpora], share * entropy,
        ]  # fmt: skip
    belief = found.beliefs[found.corpora]
    columns += [belief, np.exp(belief)]
    shared = np.stack(columns, axis=1)
    if not corpora:
        return shared
    own = [corpora.index(name) if name in corpora else -1 for name in found.names]
    owner = np.array(own, np.int64)[found.corpora]
    mine = owner[:, None] == np.arange(len(corpora))
    told = np.concatenate([np.ones((len(scores), 1)), shared[:, 1 : 7 * scores.shape[1] : 7]], axis=1)
    return np.concatenate([shared, (mine[:, :, None] * told[:, None, :]).reshape(len(scores), -1)], axis=1)


def filled(scores: Floats) -> Floats:
    """What a retriever did not find counts as the least that it found; 0 where it found nothing."""
    least = np.where(np.isnan(scores), np.inf, scores).min(axis=0, initial=np.inf)
    return np.where(np.isnan(scores), np.where(np.isfinite(least), least, 0.0), scores)


def fit_ranker(
    retrievers: Sequence[str], found: Sequence[Found], relevant: Sequence[NDArray[np.bool_]], weights: Floats,
    corpora: Sequence[str] | None = None,
) -> Ranker:  # fmt: skip
    """Maximum likelihood of the relevant passages among those found, with an L2 penalty on standardised features.

    `relevant`: one flag a passage of each query; queries without any say nothing. `weights`: one a query; `corpora`:
    those that have terms of their own, by default as many as `answering` finds.
    Raises ConfigError where no query has a relevant passage among those found.
    """
    from scipy import optimize

    minimize: Any = cast(Any, optimize).minimize

    kept = [row for row, flags in enumerate(relevant) if flags.any()]
    if not kept:
        raise ConfigError("ranker: expected queries with relevant passages among those found, got none")
    own = tuple(answering(found, relevant) if corpora is None else corpora)
    table = np.concatenate([features(found[row], own) for row in kept])
    ridge = np.full(table.shape[1], RIDGE_OWN)
    ridge[: width(len(retrievers))] = RIDGE
    scale = table.std(axis=0) + 1e-6
    table = table / scale
    sizes = np.array([len(relevant[row]) for row in kept])
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    share = np.array([weights[row] for row in kept])
    each = np.repeat(share / share.sum(), sizes)
    target = np.concatenate([relevant[row] / relevant[row].sum() for row in kept]) * each

    def loss(theta: Floats) -> tuple[float, Floats]:
        logits = table @ theta
        exps = np.exp(logits - np.repeat(np.maximum.reduceat(logits, starts), sizes))
        chances = exps / np.repeat(np.add.reduceat(exps, starts), sizes)
        value = -float(target @ np.log(np.maximum(chances, 1e-12))) + float(ridge @ theta**2)
        return value, (each * chances - target) @ table + 2 * ridge * theta

    start = np.zeros(table.shape[1])
    theta: Any = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 100}).x
    return Ranker(tuple(retrievers), np.asarray(theta, np.float64) / scale, own)


def answering(found: Sequence[Found], relevant: Sequence[NDArray[np.bool_]]) -> tuple[str, ...]:
    """The corpora that have a relevant passage for `OWN` of the queries at least, in the order of their names; none
    where they are fewer than two, which have nothing to differ in."""
    counts = Counter(
        each.names[int(corpus)]
        for each, flags in zip(found, relevant, strict=True)
        for corpus in np.unique(each.corpora[flags])
    )  # fmt: skip
    enough = sorted(name for name, count in counts.items() if count >= OWN)
    return tuple(enough) if len(enough) > 1 else ()
