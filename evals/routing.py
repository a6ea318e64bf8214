"""`consilium eval routing`, without the terminal: outcomes in, everything that a report says out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter

from evals.outcomes import OutcomeSet, open_outcomes
from evals.replay import Reporting, Took, default_of, embed, queries_of
from evals.routers import DEFAULT, Replayed, Skipped, baselines, learned
from experts.errors import ConfigError
from experts.protocols import Encoder
from experts.retrieval.encoders import DEFAULT_MODEL, DEFAULT_RUNTIME, open_encoder
from registry.route import Plugged
from router import estimators as known_estimators
from router.plan import Queries
from router.policies import open_policy
from router.vectors import VectorCache


@dataclass(frozen=True, slots=True)
class Settings:
    """What to replay, and how. `estimators` None: every one there is; `policy` rules those, never the default row.
    `encoder`: a model's name, opened under `runtime`, or an encoder that is open already."""

    outcomes: Path
    shape: str = "auto"
    fit: tuple[str, ...] = ("train", "validation")
    test: tuple[str, ...] = ("test",)
    estimators: tuple[Plugged, ...] | None = None
    policy: Plugged = field(default_factory=lambda: default_of("policy"))
    encoder: str | Encoder = DEFAULT_MODEL
    runtime: str = DEFAULT_RUNTIME
    threads: int = 1
    resamples: int = 1000
    seed: int = 0
    name: str | None = None
    cache: Path | None = None

    def __post_init__(self) -> None:
        if both := set(self.fit) & set(self.test):
            raise ConfigError(
                f"--fit and --test: {', '.join(sorted(both))} is in both; what is fitted on cannot judge the fit"
            )


@dataclass(frozen=True, slots=True)
class Progress:
    """Who is told how far it is. `embedding(done, of)` counts texts; `step(what)` names the next slow thing."""

    embedding: Callable[[int, int], None] = lambda done, of: None
    step: Callable[[str], None] = lambda what: None


@dataclass(frozen=True, slots=True)
class Replay:
    """One run of the harness: the splits, every router on the test queries, and what it took."""

    settings: Settings
    whole: OutcomeSet
    fitted_on: OutcomeSet
    test: OutcomeSet
    queries: Queries
    routers: tuple[Replayed, ...]
    skipped: tuple[Skipped, ...]
    encoder: str
    embed_s: float
    embedded: int
    decide_us: Took

    def router(self, name: str) -> Replayed:
        return next(each for each in self.routers if each.name == name)


def replay(settings: Settings, progress: Progress | None = None) -> Replay:
    """Loads, embeds, fits, decides. Raises ConfigError for anything that is wrong with the settings or the files."""
    progress = progress or Progress()
    open_policy(settings.policy.name, settings.policy.options)
    progress.step("reading outcomes")
    whole = open_outcomes(settings.outcomes, settings.shape)
    if settings.name:
        whole = replace(whole, name=settings.name)
    embedded = embedded_set(whole, settings, progress)
    fitted_on, test = embedded.whole.of_split(*settings.fit), embedded.whole.of_split(*settings.test)
    queries = queries_of(test.outcomes)
    progress.step("comparing with the baselines")
    chosen = settings.estimators
    if chosen is None:
        chosen = tuple(Plugged(name=name) for name in sorted(known_estimators.names()))
    routers, skipped = learned(
        fitted_on, test, queries, chosen, settings.policy, encoder=embedded.encoder, seed=settings.seed,
        step=progress.step, named=settings.estimators is not None,
    )  # fmt: skip
    usual = next(each for each in routers if each.name == DEFAULT)
    progress.step("timing decisions")
    assert usual.fitted is not None
    decide_us = usual.fitted.time(queries)
    return Replay(
        settings, embedded.whole, fitted_on, test, queries, (*baselines(fitted_on, test), *routers), tuple(skipped),
        embedded.encoder.fingerprint, embedded.took_s, embedded.count, decide_us,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Embedded:
    """An outcome set with vectors. `count`: how many texts had to be encoded, the rest came from the cache."""

    whole: OutcomeSet
    encoder: Encoder
    took_s: float
    count: int


def embedded_set(whole: OutcomeSet, settings: Settings, progress: Progress) -> Embedded:
    """The set with vectors from the encoder that the settings name, or from the cache on disk."""
    progress.step("embedding")
    done = 0

    def encoded(count: int) -> None:
        nonlocal done
        done += count
        progress.embedding(done, len(whole))

    start = perf_counter()
    opened = settings.encoder
    if isinstance(opened, str):
        opened = open_encoder(opened, settings.runtime, threads=settings.threads)
    outcomes = embed(whole.outcomes, Reporting(opened, encoded), VectorCache(settings.cache))
    return Embedded(replace(whole, outcomes=outcomes), opened, perf_counter() - start, done)


def plugged(text: str) -> Plugged:
    """`name`, or `name:key=value,key=value` with JSON values. Raises ConfigError."""
    import orjson

    from experts.errors import ConfigError

    name, _, rest = text.partition(":")
    options: dict[str, object] = {}
    for part in _parts(rest):
        key, mark, value = part.partition("=")
        if not mark:
            raise ConfigError(f"{text!r}: expected NAME or NAME:KEY=VALUE,…, got {part!r} after the colon")
        try:
            options[key.strip()] = orjson.loads(value)
        except ValueError:
            options[key.strip()] = value
    return Plugged.model_validate({"name": name.strip(), **options})


def _parts(text: str) -> Sequence[str]:
    """Split at commas outside of brackets and quotes."""
    parts, depth, quoted, current = list[str](), 0, False, ""
    for char in text:
        quoted ^= char == '"'
        depth += (char in "[{") - (char in "]}")
        if char == "," and not depth and not quoted:
            parts.append(current)
            current = ""
        else:
            current += char
    return [part for part in (*parts, current) if part.strip()]
