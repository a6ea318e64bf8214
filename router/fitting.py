"""Fitting the routes of a registry on everything measured: outcome files, profiles, feedback.

Rows of the split `test` are never fitted on. What an artifact says about itself is measured on them, or, where there
are fewer than FEWEST, on a fifth of the other rows, chosen by a hash of their text and left out of a first fit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from experts.errors import ConfigError
from experts.language import Card
from experts.protocols import Encoder
from experts.retrieval.encoders import open_encoder
from registry.load import Registry
from registry.route import RouteManifest
from router.artifact import Artifact, Fit, FittedRoute, current, point, read, write
from router.composing_fit import cross_fitted, fit_composing
from router.estimators import open_estimator
from router.outcomes import CHARS_PER_TOKEN, Outcomes, read_outcomes
from router.plan import Estimates, Queries
from router.policies import open_policy
from router.protocols import Estimator, Parts, Situation
from router.recorded import flaws, recorded_texts
from router.recorded import read as read_recorded
from router.records.rows import Measured
from router.records.table import joined, table
from router.situation import situation
from router.skills import abilities
from router.stability import PROBES, Incumbent, Steady, drift
from router.vectors import VectorCache
from router.worth import Composing

FEWEST = 30
HELD_OUT = 0.2

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything to fit on: outcome files by their paths, and rows of an outcome store."""

    files: Mapping[Path, Outcomes]
    measured: Sequence[Measured] = ()

    @staticmethod
    def of(paths: Sequence[Path], measured: Sequence[Measured] = ()) -> Evidence:
        """Raises ConfigError where a file is not there or holds something else."""
        return Evidence({path: read_outcomes(path) for path in paths}, measured)

    def sources(self) -> list[dict[str, Any]]:
        files: list[dict[str, Any]] = [{"kind": "file", "path": str(p), "rows": len(o)} for p, o in self.files.items()]
        for kind in ("profile", "feedback", "aggregation"):
            rows = sum(one.source == kind for one in self.measured)
            if rows:
                files.append({"kind": kind, "rows": rows})
        return files

    def table(self, encoder: Encoder | None, vectors: VectorCache) -> Outcomes:
        own = table(self.measured, encoder, vectors).outcomes
        read = self.files.values()
        return joined([*(vectors.embedded(one, encoder) if encoder else one for one in read), own])


def fit(
    registry: Registry, evidence: Evidence, root: Path, *, threads: int = 1, vectors: VectorCache | None = None,
    say: Say | None = None,
) -> Artifact:  # fmt: skip
    """Fits every route that has a choice, writes a new version under `root` and puts it in force.

    Raises ConfigError where no route of the registry has any outcome of its experts.
    """
    cards = {name: registry.card(name) for name in registry.experts}
    fitted: dict[str, Fit] = {}
    before = _in_force(root)
    for name, manifest in registry.routes.items():
        own = [cards[expert] for expert in manifest.experts.of(registry.experts)]
        if len(own) > 1:
            (say or _silent)(f"fitting route {name} ({manifest.estimator.name}, {len(own)} experts)")
            found = _route(registry, manifest, own, evidence, threads, vectors or VectorCache(), before, say or _silent)
            if found is not None:
                fitted[name] = found
    if not fitted:
        known = sorted({name for one in evidence.files.values() for name in one.experts}
                       | {one.expert for one in evidence.measured})  # fmt: skip
        raise ConfigError(
            f"nothing to fit on: no outcome is of an expert of a route with two experts or more "
            f"(outcomes are of: {', '.join(known) or 'nobody'}); measure some with `consilium profile`"
        )
    artifact = write(root, fitted, registry_version=registry.version, sources=evidence.sources())
    point(root, artifact.version)
    return artifact


def _silent(_: str) -> None:
    """Nobody watches."""


def _route(
    registry: Registry, manifest: RouteManifest, cards: Sequence[Card], evidence: Evidence, threads: int,
    vectors: VectorCache, before: Artifact | None, say: Say,
) -> Fit | None:  # fmt: skip
    name, options = manifest.estimator.name, manifest.estimator.options
    encoder = None
    if open_estimator(name, options, Parts()).uses_vectors:
        declared = registry.encoders[manifest.encoder]
        encoder = open_encoder(declared.model, declared.runtime, threads=threads)
    names = [card.name for card in cards]
    rows = evidence.table(encoder, vectors).measured_for(names)
    if not len(rows):
        return None

    def fitted(on: Outcomes) -> Estimator:
        estimator = open_estimator(name, options, Parts(encoder))
        estimator.fit(cards, on)
        return estimator

    held = np.array([split == "test" for split in rows.splits])
    judged_on = "test"
    if held.sum() < FEWEST:
        judged_on, left_out = "held out", held | np.array([_share(key) < HELD_OUT for key in rows.keys])
    else:
        left_out = held
    rest = rows.take(np.flatnonzero(~left_out))
    metrics: dict[str, Any] = {}
    if left_out.any() and len(rest):
        metrics = judge(fitted(rest), manifest, cards, rest, rows.take(np.flatnonzero(left_out)))
        metrics["judged_on"] = judged_on
    if held.all():
        raise ConfigError(
            f"route {manifest.name}: all {len(rows):,} outcomes are of the split test, and none of these is fitted on; "
            "measure others, or give them another split"
        )
    kept = rows.take(np.flatnonzero(~held))
    counts = np.isfinite(kept.scores).sum(0)
    means = {name: round(float(np.nanmean(kept.scores[:, i])), 4) for i, name in enumerate(names) if counts[i]}
    able = abilities(evidence.measured)
    composing = _composing(cards, kept, evidence, encoder, vectors, fitted, say)
    estimator = fitted(kept)
    held_to, steadiness = _held(before, manifest, cards, encoder, estimator, rows)
    metrics |= steadiness
    made = FittedRoute(
        name, dict(options), names, encoder.fingerprint if encoder else "", means,
        dict(zip(names, counts.tolist(), strict=True)), len(kept), metrics,
        list(held_to.experts) if held_to else [], {name: able[name] for name in names if name in able},
        None if composing is None else composing.as_json(),
    )  # fmt: skip
    return Fit(made, estimator, held_to)


def _in_force(root: Path) -> Artifact | None:
    """The version in force; None where there is none, or it is broken, so that nothing is to be held to."""
    try:
        version = current(root)
        return read(root, version) if version else None
    except ConfigError:
        return None


def _held(
    before: Artifact | None, manifest: RouteManifest, cards: Sequence[Card], encoder: Encoder | None,
    estimator: Estimator, rows: Outcomes,
) -> tuple[Incumbent | None, dict[str, Any]]:  # fmt: skip
    """What a fit is held to, None where it needs no bound; and how far it changes the choices in force, on frozen
    probes: the PROBES rows of the lowest hashes. Nothing where nothing comparable is in force, or the policy knows no
    bound."""
    policy = open_policy(manifest.policy.name, manifest.policy.options)
    names = [card.name for card in cards]
    try:
        incumbent = before.in_force(manifest.name, encoder) if before is not None else None
    except ConfigError:
        incumbent = None  # of a form that is no longer read
    if before is None or incumbent is None or not isinstance(policy, Steady) or not set(incumbent.experts) & {*names}:
        return None, {}
    probes = rows.take(sorted(range(len(rows)), key=[_share(key) for key in rows.keys].__getitem__)[:PROBES])
    queries = Queries(probes.texts, probes.vectors)
    found = estimator.estimate(queries)
    state = _quiet(cards, found, probes.texts, np.ones(found.quality.shape, np.bool_))
    default = names.index(manifest.default) if manifest.default else -1
    seen = drift(incumbent, found, queries, policy, state, default)
    bound = seen.without_gain > policy.stability
    told = {
        "against": before.version, "probes": seen.probes, "limit": policy.stability, "bound": bound,
        "changed": round(seen.changed, 4), "without_gain": round(seen.without_gain, 4),
        "left": round(seen.held if bound else seen.without_gain, 4),
    }  # fmt: skip
    return (replace(incumbent, before=None) if bound else None), {"stability": told}


def _quiet(cards: Sequence[Card], found: Estimates, texts: Sequence[str], allowed: Any) -> Situation:
    """Nobody is busy, and no answer is cut short."""
    return situation(
        cards, found, prompt=np.array([len(text) / CHARS_PER_TOKEN for text in texts], np.float32),
        limit=np.full(len(texts), np.nan, np.float32), load=np.zeros(len(cards), np.float32), allowed=allowed,
    )  # fmt: skip


def _composing(
    cards: Sequence[Card], kept: Outcomes, evidence: Evidence, encoder: Encoder | None, vectors: VectorCache,
    fitted: Callable[[Outcomes], Estimator], say: Say,
) -> Composing | None:  # fmt: skip
    """What compositions need, from files beside which answers were recorded; None where none was. Only rows that the
    route's estimator is fitted on are read."""
    names, texts, files = [card.name for card in cards], dict[tuple[str, str], str](), list[Outcomes]()
    for path, outcomes in evidence.files.items():
        if path.exists() and (found := recorded_texts(path)):
            texts |= found
            files.append(vectors.embedded(outcomes, encoder) if encoder else outcomes)
    if not files:
        return None
    known = set(kept.texts)
    rows = joined(files).measured_for(names)
    rows = rows.take([row for row, text in enumerate(rows.texts) if text in known and rows.splits[row] != "test"])
    if len(rows) < FEWEST:
        return None
    say("reading recorded answers")
    recorded = read_recorded(
        rows, texts, progress=lambda done, of: say(f"reading recorded answers: {done:,} of {of:,}")
    )
    return fit_composing(cards, rows, recorded, cross_fitted(rows, fitted), flaws(rows, texts))


def judge(
    estimator: Estimator, manifest: RouteManifest, cards: Sequence[Card], fit_on: Outcomes, rows: Outcomes
) -> dict[str, Any]:
    """How an estimator does on rows it was not fitted on.

    `brier`: mean squared error over every measured score; `calibration_gap`: expected calibration error over ten bins
    (Naeini 2015). On the rows in which the best single expert (of `fit_on`) and another were measured, the choice being
    among those measured: `routed`, `best_single` and `oracle` scores.
    """
    found = estimator.estimate(Queries(rows.texts, rows.vectors))
    seen = np.isfinite(rows.scores)
    said, was = found.quality[seen], rows.scores[seen]
    metrics: dict[str, Any] = {
        "rows": len(rows), "scores": int(seen.sum()), "brier": round(float(np.mean((said - was) ** 2)), 4),
        "calibration_gap": round(_calibration_gap(said, was), 4),
    }  # fmt: skip
    counts = np.isfinite(fit_on.scores).sum(0)
    if not counts.any():
        return metrics
    mean = np.where(counts > 0, np.nansum(fit_on.scores, 0) / np.maximum(counts, 1), -1.0)
    best = int(np.argmax(mean))
    use = np.flatnonzero(seen[:, best] & (seen.sum(1) > 1))
    if not len(use):
        return metrics
    part = _rows_of(found, use)
    if manifest.default:
        part = replace(part, default=[card.name for card in cards].index(manifest.default), margins=())
    state = _quiet(cards, part, [rows.texts[int(i)] for i in use], seen[use])
    choices = open_policy(manifest.policy.name, manifest.policy.options).decide(part, state)
    scores = rows.scores[use]
    routed = [scores[i, choice.seats[0]] for i, choice in enumerate(choices)]
    return metrics | {
        "choices": len(use), "routed": round(float(np.mean(routed)), 4), "best_single_expert": cards[best].name,
        "best_single": round(float(scores[:, best].mean()), 4),
        "oracle": round(float(np.nanmax(scores, 1).mean()), 4),
    }  # fmt: skip


def _rows_of(found: Estimates, use: Any) -> Estimates:
    return replace(
        found, quality=found.quality[use], uncertainty=found.uncertainty[use], tokens=found.tokens[use],
        latency_ms=found.latency_ms[use], suitability=None,
    )  # fmt: skip


def _calibration_gap(said: Any, was: Any) -> float:
    bins = np.clip((said * 10).astype(int), 0, 9)
    return float(sum(abs(said[bins == b].mean() - was[bins == b].mean()) * np.mean(bins == b) for b in np.unique(bins)))  # pyright: ignore[reportUnknownArgumentType]


def _share(key: str) -> float:
    """Evenly from 0 to 1: rows of equal text stay together."""
    return int.from_bytes(blake2b(key.encode(errors="surrogatepass"), digest_size=8).digest()) / 2**64
