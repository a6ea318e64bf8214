"""From a registry to something that can answer: experts built, routes fitted, swapped in whole.

A reload makes the next one beside it and swaps. Whatever a change does not touch is
carried over: connections, health, encoders, fitted estimators.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from experts.endpoints import Endpoints
from experts.errors import ConfigError, Problem, RegistryError
from experts.kinds import module as kind_module
from experts.language import Card
from experts.protocols import Encoder, Expert, Parts, Timeouts
from experts.retrieval.encoders import open_encoder
from experts.transport import Transport
from registry.load import Registry
from registry.schema import EncoderManifest, ExpertManifest, RouteManifest
from router.artifact import Artifact
from router.budget import allowance_of
from router.composers import names as composer_names
from router.composers import open_composer
from router.decide import WORTH, Learned, Route
from router.embedding import Embedding
from router.estimators import open_estimator
from router.outcomes import Outcomes
from router.plan import Estimates
from router.policies import open_policy
from router.protocols import Composer, Estimator, Picky, Policy, Situation
from router.protocols import Parts as EstimatorParts
from router.retrieval.choosing import Searchable
from router.retrievers import FromFiles, Searched, build_lookup, build_retrievers, close_others
from router.snapshot import Snapshot, direct
from router.stability import Incumbent
from router.vectors import VectorCache
from router.worth import NOTHING_FITTED

PRESETS = ("cheap", "balanced", "best")


def default_composers() -> dict[str, Composer]:
    """Each composer as it is without options; those that need some are left out."""
    found: dict[str, Composer] = {}
    for name in composer_names():
        with suppress(ConfigError):
            found[name] = open_composer(name, {})
    return found


@dataclass(slots=True)
class _Fitted:
    """A fitted estimator and everything it was fitted on."""

    options: tuple[str, Mapping[str, Any]]
    cards: tuple[Card, ...]
    outcomes: Outcomes | None
    fingerprint: str
    artifact: Artifact | None
    estimator: Estimator
    learned: Learned
    incumbent: Incumbent | None


@dataclass(slots=True)
class _Built:
    manifest: ExpertManifest
    expert: Expert


@dataclass(slots=True)
class Assembly:
    """Builds snapshots, carrying over what did not change.

    Estimators come from `artifact` where it has the route, and else are fitted on `outcomes`. `refused` is told why an
    artifact cannot serve a route of a registry that is built.
    """

    transport: Transport
    endpoints: Endpoints
    outcomes: Outcomes | None = None
    encoder_threads: int = 1
    embedding_cache: int = 10_000
    vectors: VectorCache = field(default_factory=VectorCache)
    artifact: Artifact | None = None
    refused: Callable[[str], None] | None = None
    composers: Mapping[str, Composer] = field(default_factory=default_composers)
    _epoch: int = 0
    _built: dict[str, _Built] = field(default_factory=dict[str, _Built])
    _searched: dict[str, Searched] = field(default_factory=dict[str, Searched])
    _encoders: dict[tuple[str, str, str], tuple[Encoder, Embedding]] = field(
        default_factory=dict[tuple[str, str, str], tuple[Encoder, Embedding]]
    )
    _fitted: dict[str, _Fitted] = field(default_factory=dict[str, _Fitted])
    _files: FromFiles = field(default_factory=FromFiles)

    async def build(self, registry: Registry) -> Snapshot:
        """The snapshot of a registry. Raises RegistryError naming every expert or route that cannot be built.

        Slow parts (loading an encoder, embedding outcomes, fitting) run in a thread: the gateway goes on answering.
        """
        problems: list[Problem] = []
        self._epoch += 1
        built = self._build_experts(registry, problems)
        experts = {name: item.expert for name, item in built.items()}
        searched = await build_retrievers(registry, self._searched, self.transport, self._encoder, problems, experts)
        sources = {name: item.source for name, item in searched.items()}
        cards = {name: registry.card(name) for name in registry.experts}
        routes: dict[str, Route] = {}
        if not problems:
            for name, manifest in registry.routes.items():
                try:
                    routes[name] = await self._route(registry, manifest, cards, experts, sources)
                except (ConfigError, ValueError) as fault:
                    problems.append(Problem(registry.source(name), 0, f"route {name}", str(fault)))
        if problems:
            for name, item in built.items():
                if self._built.get(name) is not item:
                    await item.expert.close()
            await close_others(searched, self._searched)
            raise RegistryError(problems)
        await self._retire(built, routes)
        before, self._searched = self._searched, searched
        await close_others(before, searched)
        return Snapshot(
            registry, registry.version, experts, cards, {n: m.limits for n, m in registry.experts.items()}, routes,
            {name: pair[1] for name, pair in self._encoders_of(registry, routes).items()},
            {name: direct(name, registry.version) for name in experts}, self.composers, sources,
        )  # fmt: skip

    async def build_on(self, artifact: Artifact, registry: Registry) -> Snapshot:
        """The snapshot with another artifact. Raises RegistryError, and keeps the last one, where it does not fit."""
        before, told = self.artifact, self.refused
        self.artifact, self.refused = artifact, None
        try:
            return await self.build(registry)
        except RegistryError:
            self.artifact = before
            raise
        finally:
            self.refused = told

    async def close(self) -> None:
        for item in self._built.values():
            await item.expert.close()
        self._built.clear()
        await close_others(self._searched, {})
        self._searched.clear()
        for _, embedding in self._encoders.values():
            embedding.close()
        self._encoders.clear()

    def _build_experts(self, registry: Registry, problems: list[Problem]) -> dict[str, _Built]:
        built: dict[str, _Built] = {}
        for name, manifest in registry.experts.items():
            known = self._built.get(name)
            if known is not None and _same_client(known.manifest, manifest):
                built[name] = _Built(manifest, known.expert)
                continue
            limits = manifest.timeouts
            timeouts = Timeouts(limits.connect_s, limits.first_byte_s, limits.between_bytes_s, limits.total_s)
            try:
                expert = kind_module(manifest.provider).build(
                    name, manifest.options, Parts(self.transport, self.endpoints, timeouts)
                )
                built[name] = _Built(manifest, cast(Expert, expert))
            except ConfigError as fault:
                problems.append(Problem(registry.source(name), 0, f"expert {name}", fault.message))
        return built

    async def _retire(self, built: dict[str, _Built], routes: Mapping[str, Route]) -> None:
        old, self._built = self._built, built
        kept = {id(item.expert) for item in built.values()}
        for item in old.values():
            if id(item.expert) not in kept:
                await item.expert.close()
        self._fitted = {name: item for name, item in self._fitted.items() if name in routes}
        self._files.keep(routes)

    async def _route(
        self, registry: Registry, manifest: RouteManifest, cards: Mapping[str, Card], experts: Mapping[str, Expert],
        sources: Mapping[str, Searchable],
    ) -> Route:  # fmt: skip
        names = manifest.experts.of(registry.experts)
        own = tuple(cards[name] for name in names)
        fitted, embedding = None, None
        if len(names) > 1:
            fitted, embedding = await self._estimator(registry, manifest, own)
        composer = open_composer(manifest.composer.name, manifest.composer.options)
        if isinstance(composer, Picky):
            composer.check(own)
        return Route(
            name=manifest.name, cards=own, experts=tuple(experts[name] for name in names),
            limits=tuple(registry.experts[name].limits.concurrency for name in names),
            estimator=fitted.estimator if fitted else None, embedding=embedding,
            policies=_policies(manifest, names), policy_name=manifest.policy.name,
            composer=composer,
            composer_name=manifest.composer.name, composers={**self.composers, manifest.composer.name: composer},
            default=names.index(manifest.default) if manifest.default else -1, spares=manifest.spares,
            version=registry.version, allowance=allowance_of(manifest.budget.model_dump()),
            epoch=self._epoch, explore=manifest.explore,
            learned=fitted.learned if fitted else Learned(), incumbent=fitted.incumbent if fitted else None,
            abilities=self.artifact.abilities(manifest.name, names) if self.artifact is not None else {},
            composing=self.artifact.composing(manifest.name, names) if self.artifact is not None else NOTHING_FITTED,
            lookup=await build_lookup(registry, manifest, sources, self._encoder, self._files),
        )  # fmt: skip

    async def _estimator(
        self, registry: Registry, manifest: RouteManifest, cards: tuple[Card, ...]
    ) -> tuple[_Fitted, Embedding | None]:
        options = (manifest.estimator.name, manifest.estimator.options)
        uses_vectors = open_estimator(*options, EstimatorParts()).uses_vectors
        encoder, embedding = await self._encoder(registry, manifest.encoder) if uses_vectors else (None, None)
        fingerprint = encoder.fingerprint if encoder else ""
        known = self._fitted.get(manifest.name)
        same = known is not None and (known.options, known.cards, known.fingerprint) == (options, cards, fingerprint)
        if known is None or not same or known.outcomes is not self.outcomes or known.artifact is not self.artifact:
            found = await asyncio.to_thread(self._fitted_for, manifest.name, options, cards, encoder)
            known = self._fitted[manifest.name] = _Fitted(
                options, cards, self.outcomes, fingerprint, self.artifact, *found
            )
        return known, embedding

    def _fitted_for(
        self, route: str, options: tuple[str, Mapping[str, Any]], cards: Sequence[Card], encoder: Encoder | None
    ) -> tuple[Estimator, Learned, Incumbent | None]:
        everyone = [card.name for card in cards]

        def measured(*names: str) -> Outcomes:
            outcomes = (self.outcomes or Outcomes.empty(everyone)).measured_for(names, everyone)
            return self.vectors.embedded(outcomes, encoder) if encoder is not None and len(outcomes) else outcomes

        refused = ""
        if self.artifact is not None:
            try:
                found = self.artifact.estimator(route, options, cards, encoder, measured)
            except ConfigError as fault:
                if self.refused is None:
                    raise
                self.refused(fault.message)
                found, refused = None, fault.message
            if found is not None:
                before = self.artifact.incumbent(route, cards, encoder)
                return found, Learned("artifact", self.artifact.version), before
        estimator = open_estimator(*options, EstimatorParts(encoder))
        known = measured(*everyone)
        estimator.fit(cards, known)
        return estimator, Learned("outcomes" if len(known) else "prior", rows=len(known), refused=refused), None

    async def _encoder(self, registry: Registry, name: str) -> tuple[Encoder, Embedding]:
        manifest = registry.encoders[name]
        key = _encoder_key(manifest)
        if key not in self._encoders:
            secret = manifest.api_key.get_secret_value() if manifest.api_key else ""
            encoder = await asyncio.to_thread(
                open_encoder, manifest.model, manifest.runtime, threads=self.encoder_threads, url=manifest.url,
                api_key=secret,
            )  # fmt: skip
            self._encoders[key] = (encoder, Embedding(encoder, cache_size=self.embedding_cache))
        return self._encoders[key]

    def _encoders_of(self, registry: Registry, routes: Mapping[str, Route]) -> dict[str, tuple[Encoder, Embedding]]:
        """Encoders by the names under which the registry knows them, of those that are loaded."""
        keyed = {name: _encoder_key(manifest) for name, manifest in registry.encoders.items()}
        return {name: self._encoders[key] for name, key in keyed.items() if key in self._encoders}


def _encoder_key(manifest: EncoderManifest) -> tuple[str, str, str]:
    return manifest.model, manifest.runtime, manifest.url


def _same_client(old: ExpertManifest, new: ExpertManifest) -> bool:
    return (old.provider, old.options, old.timeouts) == (new.provider, new.options, new.timeouts)


def _policies(manifest: RouteManifest, names: Sequence[str]) -> dict[str, Policy]:
    """The route's own policy under the empty name, and the presets that `route:preset` selects.

    The own one decides once, on nothing: one that names experts which the route lacks raises ConfigError now.
    """
    own = manifest.policy
    base = own.options if own.name == "balanced" else {}
    presets = {preset: open_policy("balanced", {**base, "preset": preset}) for preset in PRESETS}
    policy = open_policy(own.name, own.options)
    level = np.full((1, len(names)), 0.5, np.float32)
    nothing = Estimates(tuple(names), level, level, level, level)
    policy.decide(nothing, Situation(level * 0, level[0] * 0, np.ones(level.shape, bool)))
    worth = policy if own.name == WORTH else open_policy(WORTH, {})
    return {"": policy, **presets, WORTH: worth}
