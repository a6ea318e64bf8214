"""Systems that answer the same queries from the same searches, and their figures: baselines, oracles and the router."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evals.retrieval.estimated import ESTIMATORS, chosen_by
from evals.retrieval.scores import DEPTH, Scores, interval, score
from evals.retrieval.searching import RETRIEVERS, Asked, World
from router.retrieval.ranking import Found, Ranker, fit_ranker

Floats = NDArray[np.float64]
Score = Callable[[Found], Floats]
Row = Callable[[str, Scores], dict[str, Any]]
WEIGHTS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8)
HYBRID = 0.2
HALF = 0.5


def mixed(weight: float) -> Score:
    """Dense, and `weight` times BM25 as a share of its best."""
    return lambda found: found.scores[:, 0] + weight * found.scores[:, 1] / max(float(found.scores[:, 1].max()), 1e-6)


def single(column: int) -> Score:
    return lambda found: found.scores[:, column]


def judged(world: World, queries: Sequence[Asked], by: Score, told: bool = False) -> Scores:
    """`told`: only the query's own corpus counts."""
    found: list[list[str]] = []
    for asked in queries:
        values = by(asked.found)
        if told:
            values = np.where(asked.found.corpora == asked.domain, values, -np.inf)
        found.append(_best(world, asked, values))
    return score([world.relevant(asked) for asked in queries], found)


def fitted(queries: Sequence[Asked]) -> Ranker:
    """The router's weights from judged queries; domains count by the root of how many queries they have."""
    counts = np.bincount([asked.domain for asked in queries])
    more = queries[0].found.scores.shape[1] - len(RETRIEVERS)
    names = (*RETRIEVERS, *(f"adapted {number}" for number in range(1, 1 + more)))
    return fit_ranker(
        names, [asked.found for asked in queries], [asked.relevant for asked in queries],
        np.array([counts[asked.domain] ** -0.5 for asked in queries]),
    )  # fmt: skip


def narrowed(world: World, queries: Sequence[Asked], mass: float) -> tuple[list[Asked], float]:
    """The queries with only what the corpora that hold `mass` of the belief found; and the share searched."""
    kept = world.pilots.searched(np.stack([asked.found.beliefs for asked in queries]), mass)
    made: list[Asked] = []
    for asked, corpora in zip(queries, kept, strict=True):
        inside = corpora[asked.found.corpora]
        found = replace(asked.found, scores=asked.found.scores[inside], corpora=asked.found.corpora[inside])
        made.append(replace(asked, rows=asked.rows[inside], found=found, relevant=asked.relevant[inside]))
    return made, world.pilots.share(kept)


def rows(
    world: World, *, resamples: int, seed: int, leave_one_out: bool = False, routed_on: World | None = None
) -> list[dict[str, Any]]:
    """The report's rows; nothing is chosen on test queries but by the oracles, which say so. `routed_on`: the same
    world with more that the router may look at."""
    wider = routed_on or world
    both = sum(world.search_ms.values())
    singles = {name: judged(world, world.test, single(place)) for place, name in enumerate(RETRIEVERS)}
    hybrid = judged(world, world.test, mixed(HYBRID))
    measured = {f"hybrid {each:g}": judged(world, world.training, mixed(each)) for each in WEIGHTS}
    weight = max(WEIGHTS, key=lambda each: mean(world.training, measured[f"hybrid {each:g}"].ndcg10))
    measured |= {"bm25": judged(world, world.training, single(RETRIEVERS.index("bm25")))}
    tested = {f"hybrid {each:g}": judged(world, world.test, mixed(each)) for each in WEIGHTS}
    tested |= {"bm25": singles["bm25"]}
    best_fixed = tested[f"hybrid {weight:g}"]
    pool = [*singles.values(), hybrid, best_fixed]
    ranker = fitted(wider.training)
    routed = judged(wider, wider.test, ranker.scores)
    routing_ms = _routing_ms(ranker, wider.test)
    half, share, mass = half_searched(wider)
    half_ranker = fitted(narrowed(wider, wider.training, mass)[0])
    halved = judged(wider, half, half_ranker.scores)

    def row(system: str, found: Scores, ms: float, searched: float = 1.0, **more: Any) -> dict[str, Any]:
        return figures(world, system, found, ms, searched, resamples=resamples, seed=seed, **more)

    made = [row(name, found, world.search_ms[name]) for name, found in singles.items()]
    made.append(row("hybrid", hybrid, both, weight=HYBRID))
    for name, by, ms in (
        *((each, single(place), world.search_ms[each]) for place, each in enumerate(RETRIEVERS)),
        ("hybrid", mixed(HYBRID), both),
    ):
        made.append(row(f"{name}, told the corpus", judged(world, world.test, by, told=True), ms, _told_share(world)))
    made.append(row("best-fixed", best_fixed, both, weight=weight))
    made.append(row("dataset oracle", _dataset_oracle(world, pool), both))
    made.append(row("instance oracle", _best_of(pool), both))
    for name in ESTIMATORS:
        chosen = chosen_by(name, world.training, measured, world.test, tested, seed)
        made.append(row(f"chosen by {name}", chosen, both))
    made.append(row("routed", routed, both + routing_ms, routing_ms=routing_ms))
    made.append(row("routed, half searched", halved, both * share + routing_ms, share, routing_ms=routing_ms))
    if leave_one_out:
        for place, name in enumerate(world.names):
            others = fitted([asked for asked in world.training if asked.domain != place])
            made.append(row(f"routed, {name} by documents alone", judged(world, world.test, others.scores), both))
            absent = [_without(asked, place) for asked in world.test]
            made.append(row(f"routed, without {name}", judged(world, absent, others.scores), both))
    return made


def half_searched(world: World) -> tuple[list[Asked], float, float]:
    """The test queries at the mass of belief that searches half of the documents on training queries."""
    beliefs = np.stack([asked.found.beliefs for asked in world.training])
    mass = world.pilots.mass_for(beliefs, HALF)
    queries, share = narrowed(world, world.test, mass)
    return queries, share, mass


def _without(asked: Asked, corpus: int) -> Asked:
    inside = asked.found.corpora != corpus
    found = replace(asked.found, scores=asked.found.scores[inside], corpora=asked.found.corpora[inside])
    return replace(asked, rows=asked.rows[inside], found=found, relevant=asked.relevant[inside])


def _best(world: World, asked: Asked, values: Floats) -> list[str]:
    order = np.argsort(-values, kind="stable")[:DEPTH]
    return [world.ids[asked.rows[place]] for place in order if np.isfinite(values[place])]


def _routing_ms(ranker: Ranker, queries: Sequence[Asked]) -> float:
    spent: list[float] = []
    for asked in queries[:300]:
        start = perf_counter()
        ranker.scores(asked.found)
        spent.append(1000 * (perf_counter() - start))
    return float(np.median(spent))


def _told_share(world: World) -> float:
    sizes = np.array(world.pilots.sizes, np.float64)
    return float(np.mean([sizes[asked.domain] for asked in world.test]) / sizes.sum())


def _by_domain(queries: Sequence[Asked], values: Floats) -> dict[int, Floats]:
    domains = np.array([asked.domain for asked in queries])
    return {int(each): values[domains == each] for each in np.unique(domains)}


def mean(queries: Sequence[Asked], values: Floats) -> float:
    """Over the domains, of the mean over each domain's queries."""
    return float(np.mean([each.mean() for each in _by_domain(queries, values).values()]))


def figures(
    world: World,
    system: str,
    found: Scores,
    ms: float,
    searched: float = 1.0,
    *,
    resamples: int,
    seed: int,
    **more: Any,
) -> dict[str, Any]:
    """One row."""
    columns = [_by_domain(world.test, values) for values in found]
    low, high = interval(list(columns[0].values()), seed=seed, resamples=resamples)
    return {
        "mean_ndcg10": mean(world.test, found.ndcg10), "low": low, "high": high,
        "mean_recall10": float(np.mean([values.mean() for values in columns[1].values()])),
        "mean_mrr10": float(np.mean([values.mean() for values in columns[2].values()])),
        "datasets": {
            world.names[each]: {"ndcg10": float(columns[0][each].mean()), "recall10": float(columns[1][each].mean()),
                                "mrr10": float(columns[2][each].mean()), "queries": len(columns[0][each])}
            for each in columns[0]
        },
        "system": system, "p50_ms": ms, "searched_share": searched, **more,
    }  # fmt: skip


def _best_of(pool: Sequence[Scores]) -> Scores:
    """Of each query the system with the best nDCG@10."""
    chosen = np.stack([each.ndcg10 for each in pool]).argmax(axis=0)
    return _taken(pool, chosen)


def _dataset_oracle(world: World, pool: Sequence[Scores]) -> Scores:
    domains = np.array([asked.domain for asked in world.test])
    chosen = np.zeros(len(domains), np.int64)
    for each in np.unique(domains):
        chosen[domains == each] = int(np.argmax([found.ndcg10[domains == each].mean() for found in pool]))
    return _taken(pool, chosen)


def _taken(pool: Sequence[Scores], chosen: NDArray[np.int64]) -> Scores:
    at = np.arange(len(chosen))
    return Scores(*(np.stack([each[column] for each in pool])[chosen, at] for column in range(3)))
