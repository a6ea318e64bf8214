"""What only shows when all manifests are seen together: names used twice, and names that lead nowhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from experts.errors import Problem
from registry.documents import Document
from registry.manifest import KeyPath, Manifest
from registry.references import redacted
from registry.route import Plugged
from registry.schema import ExpertManifest, RetrieverManifest, RouteManifest
from registry.validate import Entry, Names
from registry.wording import nearest, problems_of

DEFAULT_ENCODER = "default"
IMPLICIT_ROUTE = "auto"
REWARD = "reward"
ASKED_BY_COMPOSERS = ("aggregator", "judge", "planner", REWARD)
"""Options of composers that name an expert, wherever a composer has them."""


def check(entries: Sequence[Entry], names: Names | None, where: str) -> list[Problem]:
    """Every problem between manifests. A document that is itself broken still counts as declaring its name.

    `where` is what a problem of no single file is reported on: the registry's path.
    """
    experts = {entry.name: entry.manifest for entry in reversed(entries) if entry.kind == "expert"}
    retrievers = {entry.name for entry in entries if entry.kind == "retriever"}
    encoders = {entry.name for entry in entries if entry.kind == "encoder"} | {DEFAULT_ENCODER}
    problems = [*_twice(entries), *_shape(entries, where), *_corpora(entries)]
    for entry in entries:
        manifest = entry.manifest or entry.partial
        if isinstance(manifest, ExpertManifest):
            problems += _members(entry.document, manifest, experts)
        elif isinstance(manifest, RouteManifest):
            problems += _route(entry.document, manifest, experts, encoders)
            problems += _retrieval(entry.document, manifest, retrievers)
            problems += _plug_ins(entry.document, manifest, names) if names is not None else []
        elif isinstance(manifest, RetrieverManifest):
            problems += _encoder(entry.document, manifest, manifest.encoder, encoders)
            problems += _reranker(entry.document, manifest, experts)
    return problems


def _twice(entries: Iterable[Entry]) -> Iterable[Problem]:
    """`model` names a route or an expert, so those two share one namespace; encoders and retrievers have their own."""
    seen: dict[tuple[str, str], Entry] = {}
    for entry in entries:
        if not entry.name:
            continue
        key = ("model" if entry.kind in ("expert", "route") else entry.kind, entry.name) if entry.kind else None
        if key is None:
            continue
        first = seen.setdefault(key, entry)
        if first is not entry:
            place = f"{first.document.source.file}:{first.document.line(('name',))}"
            what = f"{'an' if first.kind[0] in 'aeiou' else 'a'} {first.kind}"
            yield entry.document.problem(("name",), f"'{entry.name}' is already {what}, in {place}; rename one of them")


def _shape(entries: Sequence[Entry], where: str) -> Iterable[Problem]:
    kinds = {entry.kind for entry in entries}
    if "expert" not in kinds and "" not in kinds:
        yield Problem(where, 0, "", "expected at least one document of kind expert, found none")
    speaks = any(entry.kind == "expert" and not _rates(entry.manifest) for entry in entries)
    if "expert" in kinds and "route" not in kinds and not speaks:
        yield Problem(where, 0, "", "expected at least one expert that answers; all there are only rate")
    clash = next((e for e in entries if e.kind == "expert" and e.name == IMPLICIT_ROUTE), None)
    if clash is not None and "route" not in kinds:
        yield clash.document.problem(
            ("name",), f"a registry without routes gets the route '{IMPLICIT_ROUTE}'; rename this expert or add a route"
        )


def _members(
    document: Document, manifest: ExpertManifest, experts: Mapping[str, Manifest | None]
) -> Iterable[Problem]:  # fmt: skip
    tokenizers = {manifest.name: manifest.tokenizer} if manifest.members and manifest.tokenizer else {}
    for i, name in enumerate(manifest.members):
        path: KeyPath = ("members", i)
        if name == manifest.name:
            yield _problem(document, manifest, path, "an expert cannot be a member of itself")
        elif name not in experts:
            known = set(experts) - {manifest.name}
            yield _problem(document, manifest, path, f"there is no expert '{name}'{nearest(name, known)}")
        elif _rates(experts[name]):
            yield _problem(document, manifest, path, f"expected an expert that answers: '{name}' only rates")
        else:
            member = experts[name]
            if isinstance(member, ExpertManifest) and member.tokenizer:
                first = next(iter(tokenizers.items()), None)
                if first is not None and first[1] != member.tokenizer:
                    yield _problem(
                        document, manifest, path,
                        f"expected every member to have one tokenizer, got {first[1]!r} ({first[0]}) "
                        f"and {member.tokenizer!r} ({name})", member,
                    )  # fmt: skip
                tokenizers.setdefault(name, member.tokenizer)


def _route(
    document: Document, manifest: RouteManifest, experts: Mapping[str, Manifest | None], encoders: set[str]
) -> Iterable[Problem]:  # fmt: skip
    valid = {name: expert for name, expert in experts.items() if isinstance(expert, ExpertManifest)}
    for i, name in enumerate(manifest.experts.names or ()):
        if name not in experts:
            yield _problem(document, manifest, ("experts", i), f"there is no expert '{name}'{nearest(name, experts)}")
        elif _rates(experts[name]):
            asked = f"a composer asks it: {{name: best-of, reward: {name}}}"
            yield _problem(document, manifest, ("experts", i), f"'{name}' rates answers and gives none; {asked}")
    chosen = set(manifest.experts.names or ()) | set(manifest.experts.of(valid))
    broken = len(valid) < len(experts)
    if not chosen and not broken and experts:
        labels = ", ".join(f"{name}: {value}" for name, value in manifest.experts.labels.items())
        none = f"none is labelled {labels}" if labels else "all there are rate answers and give none"
        yield _problem(document, manifest, ("experts",), f"expected at least one expert, but {none}")
    if chosen and not (broken and manifest.experts.names is None):
        spares = manifest.spares if isinstance(manifest.spares, tuple) else ()
        named: list[tuple[KeyPath, str]] = [(("spares", i), name) for i, name in enumerate(spares)]
        if manifest.default is not None:
            named.insert(0, (("default",), manifest.default))
        for path, name in named:
            if name not in chosen:
                guess = nearest(name, chosen)
                yield _problem(document, manifest, path, f"expected one of the route's experts, got '{name}'{guess}")
    for key in ASKED_BY_COMPOSERS:
        name = manifest.composer.options.get(key)
        if isinstance(name, str) and name not in experts:
            yield _problem(
                document, manifest, ("composer", key), f"there is no expert '{name}'{nearest(name, experts)}"
            )
        elif isinstance(name, str) and name in valid and valid[name].rates != (key == REWARD):
            what = "is no reward model (vllm with `reward: true`)" if key == REWARD else "rates answers and gives none"
            yield _problem(document, manifest, ("composer", key), f"expected another expert here: '{name}' {what}")
    yield from _encoder(document, manifest, manifest.encoder, encoders)


def _encoder(document: Document, manifest: Manifest, name: str, encoders: set[str]) -> Iterable[Problem]:
    if name not in encoders:
        yield _problem(document, manifest, ("encoder",), f"there is no encoder '{name}'{nearest(name, encoders)}")


def _reranker(
    document: Document, manifest: RetrieverManifest, experts: Mapping[str, Manifest | None]
) -> Iterable[Problem]:  # fmt: skip
    name = manifest.rerank.expert if manifest.rerank is not None else None
    if name is not None and name not in experts:
        message = f"there is no expert '{name}'{nearest(name, experts)}"
        yield _problem(document, manifest, ("rerank", "expert"), message)
    elif name is not None and _rates(experts[name]):
        yield _problem(
            document, manifest, ("rerank", "expert"), f"expected an expert that answers: '{name}' only rates"
        )


def _rates(manifest: Manifest | None) -> bool:
    return isinstance(manifest, ExpertManifest) and manifest.rates


def _retrieval(document: Document, manifest: RouteManifest, retrievers: set[str]) -> Iterable[Problem]:
    for i, name in enumerate(manifest.retrieval.retrievers if manifest.retrieval is not None else ()):
        if name not in retrievers:
            message = f"there is no retriever '{name}'{nearest(name, retrievers)}"
            yield _problem(document, manifest, ("retrieval", "retrievers", i), message)


def _corpora(entries: Iterable[Entry]) -> Iterable[Problem]:
    """A corpus is called by its folder's name, one behind an endpoint by its retriever's, in citations and where
    passages of several retrievers are merged."""
    first: dict[str, tuple[str, str]] = {}
    for entry in entries:
        manifest = entry.manifest
        if not isinstance(manifest, RetrieverManifest):
            continue
        index = getattr(manifest.options, "index", None)
        folder = Path(index).resolve() if isinstance(index, str) else None
        corpus, place = (folder.name, str(folder)) if folder else (entry.name, "an endpoint")
        name, other = first.setdefault(corpus, (entry.name, place))
        if other != place:
            yield entry.document.problem(
                ("index",) if folder else ("name",),
                f"expected a corpus of another name: {place} and {other} (retriever {name}) are both called "
                f"'{corpus}', and their passages could not be told apart; rename one of them",
            )


def _plug_ins(document: Document, manifest: RouteManifest, names: Names) -> Iterable[Problem]:
    places: list[tuple[KeyPath, str, Plugged]] = [
        ((slot,), slot, getattr(manifest, slot)) for slot in ("policy", "estimator", "composer")
    ]
    if manifest.retrieval is not None:
        places.append((("retrieval", "estimator"), "estimator", manifest.retrieval.estimator))
    for where, slot, plugged in places:
        if plugged.name not in names.of(slot):
            path: KeyPath = where if isinstance(_within(document.keys, where), str) else (*where, "name")
            yield _problem(
                document, manifest, path, f"there is no {slot} '{plugged.name}'{nearest(plugged.name, names.of(slot))}"
            )
            continue
        model = names.options(slot, plugged.name) if names.options is not None else None
        if model is None:
            continue
        try:
            model.model_validate(plugged.options)
            continue
        except ValidationError as fault:
            errors = fault.errors(include_url=False)
        data: Any = plugged.options
        for key in reversed(where):
            data = {key: data}
        for error in errors:
            if error["type"] == "extra_forbidden" and len(error["loc"]) == 1:
                key = str(error["loc"][0])
                known = nearest(key, model.model_fields)
                yield _problem(document, manifest, (*where, key), f"unknown option of {slot} {plugged.name}{known}")
            else:
                error["loc"] = (*where, *error["loc"])
                yield from problems_of(document, data, manifest.references, [error], RouteManifest)


def _within(keys: Any, path: KeyPath) -> Any:
    """What a document has there, None where it has nothing."""
    for key in path:
        keys = cast(Mapping[Any, Any], keys).get(key) if isinstance(keys, Mapping) else None
    return keys


def _problem(
    document: Document, manifest: Manifest, path: KeyPath, message: str, *others: Manifest
) -> Problem:  # fmt: skip
    for held in (manifest, *others):
        message = redacted(message, held.references)
    return document.problem(path, message)
