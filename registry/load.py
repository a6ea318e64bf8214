"""A file or folder of YAML -> a `Registry`, or one `RegistryError` with every problem of every file.

Read, then validate, then cross-check: all three always run to the end, so that one look shows all there is to mend.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import time
from types import MappingProxyType

from experts.errors import Problem, RegistryError
from experts.language import Card
from registry.check import DEFAULT_ENCODER, IMPLICIT_ROUTE, check
from registry.documents import MAX_BYTES, Document, Source, read_documents
from registry.providers import Providers, discover
from registry.schema import EncoderManifest, ExpertManifest, Manifest, RetrieverManifest, RouteManifest, Selection
from registry.validate import Entry, Names, Terms, read_manifest

SUFFIXES = (".yaml", ".yml")

__all__ = ["Names", "Providers", "Registry", "Source", "Terms", "load", "parse", "parse_text", "terms_of"]


@dataclass(frozen=True, slots=True)
class Registry:
    """The manifests in force: validated, cross-checked, in the order of the files.

    `version` is a short hash of what the manifests say (references unresolved, so that no secret goes into it);
    comments, layout and the division into files do not change it. `encoders` always has `default`; `routes` has
    `auto` over all experts where the files declare no route. `sources` and `written` tell of each kind and name where
    it is declared, and when that file was last written (seconds since 1970).
    """

    experts: Mapping[str, ExpertManifest]
    routes: Mapping[str, RouteManifest]
    encoders: Mapping[str, EncoderManifest]
    version: str
    files: tuple[str, ...]
    sources: Mapping[tuple[str, str], str]
    written: Mapping[tuple[str, str], float] = field(compare=False)
    retrievers: Mapping[str, RetrieverManifest] = field(default_factory=dict[str, RetrieverManifest])

    def card(self, name: str) -> Card:
        """What a routing decision may know of an expert. Raises KeyError for a name that is none."""
        return self.experts[name].card()

    def find(self, name: str) -> ExpertManifest | RouteManifest | RetrieverManifest | EncoderManifest | None:
        """The expert or route of this name, or else the retriever, or the encoder."""
        found = self.experts.get(name) or self.routes.get(name)
        return found or self.retrievers.get(name) or self.encoders.get(name)

    def manifests(self) -> tuple[Manifest, ...]:
        return (*self.experts.values(), *self.routes.values(), *self.retrievers.values(), *self.encoders.values())

    def since(self, kind: str, name: str) -> int:
        """When what declares it was last written, in seconds since 1970; of what exists without being declared, when
        the newest file was."""
        return int(self.written.get((kind, name)) or max(self.written.values(), default=0.0))

    def source(self, name: str) -> str:
        """`file:line` of what declares something of this name; empty for what exists without being declared."""
        kinds = ("expert", "route", "retriever", "encoder")
        return next((self.sources[kind, name] for kind in kinds if (kind, name) in self.sources), "")


def load(
    path: Path | str, *, names: Names | None = None, environ: Mapping[str, str] | None = None,
    providers: Providers | None = None,
) -> Registry:  # fmt: skip
    """Read a registry: one YAML file, or a folder and every `*.yaml` and `*.yml` under it, hidden ones apart.

    `names` are the plug-ins that routes may name (unchecked where not given), `environ` the environment that
    references read (the process's), `providers` the providers that manifests may name (all that are installed).
    Raises RegistryError, with every problem that there is.
    """
    sources, problems = read_sources(Path(path))
    return parse(sources, terms_of(names, environ, providers), where=str(path), problems=problems)


def terms_of(
    names: Names | None = None, environ: Mapping[str, str] | None = None, providers: Providers | None = None, *,
    allow_serve: bool = True, allow_env: bool = True,
) -> Terms:  # fmt: skip
    return Terms(
        names, os.environ if environ is None else environ, discover() if providers is None else providers, allow_serve,
        allow_env,
    )  # fmt: skip


def parse_text(text: str, terms: Terms | None = None, *, file: str = "registry.yaml") -> Registry:
    """A registry from YAML text. Raises RegistryError."""
    return parse([Source(file, text, Path())], terms or Terms(), where=file)


def parse(sources: Iterable[Source], terms: Terms, *, where: str, problems: Iterable[Problem] = ()) -> Registry:
    """A registry from texts already read. `where` names the whole of it; `problems` were found before. Raises
    RegistryError."""
    texts = list(sources)
    entries, found = read_entries(texts, terms)
    every = [*problems, *found]
    if not (every and not entries):
        every += check(entries, terms.names, where)
    if every:
        order = {source.file: i for i, source in enumerate(texts)}
        raise RegistryError(sorted(every, key=lambda p: (order.get(p.file, -1), p.line)))
    return _registry(entries, tuple(source.file for source in texts))


def read_entries(sources: Iterable[Source], terms: Terms) -> tuple[list[Entry], list[Problem]]:
    """Every document of every text, validated on its own."""
    entries: list[Entry] = []
    problems: list[Problem] = []
    for source in sources:
        documents, found = read_documents(source)
        problems += found
        for document in documents:
            entry, found = read_manifest(document, terms)
            entries.append(entry)
            problems += found
    return entries, problems


def read_sources(path: Path) -> tuple[list[Source], list[Problem]]:
    """The texts of a registry's files, sorted by path; a file that cannot be read is a problem."""
    if path.is_dir():
        files = registry_files(path)
        if not files:
            return [], [Problem(str(path), 0, "", "expected *.yaml files in this folder, found none")]
    elif path.exists():
        files = [path]
    else:
        return [], [Problem(str(path), 0, "", "there is no such file or folder")]
    sources: list[Source] = []
    problems: list[Problem] = []
    for file in files:
        text = _text(file)
        if isinstance(text, Problem):
            problems.append(text)
        elif text is not None:
            sources.append(Source(str(file), text, file.parent, _modified(file)))
    return sources, problems


def registry_files(folder: Path) -> list[Path]:
    """Every YAML file under a folder; nothing whose path has a hidden part below it."""
    found = [file for suffix in SUFFIXES for file in folder.rglob(f"*{suffix}")]
    return sorted(
        file for file in found if not any(part.startswith(".") for part in file.relative_to(folder).parts)
    )  # fmt: skip


def _modified(file: Path) -> float:
    """When it was last written; now, for one that went away meanwhile."""
    try:
        return file.stat().st_mtime
    except OSError:
        return time()


def _text(file: Path) -> str | Problem | None:
    """A file's text; None for a file that went away meanwhile, and for what is no file."""
    try:
        if not file.is_file():
            return None
        if file.stat().st_size > MAX_BYTES:
            return Problem(str(file), 0, "", f"expected at most {MAX_BYTES} bytes, found more; split the file")
        raw = file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as fault:
        return Problem(str(file), 0, "", f"cannot be read: {fault.strerror}")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        return Problem(str(file), raw.count(b"\n", 0, fault.start) + 1, "", "expected UTF-8 text")


def _registry(entries: Iterable[Entry], files: tuple[str, ...]) -> Registry:
    experts: dict[str, ExpertManifest] = {}
    routes: dict[str, RouteManifest] = {}
    encoders: dict[str, EncoderManifest] = {}
    retrievers: dict[str, RetrieverManifest] = {}
    sources: dict[tuple[str, str], str] = {}
    written: dict[tuple[str, str], float] = {}
    documents: list[Document] = []
    for entry in entries:
        match entry.manifest:
            case ExpertManifest() as expert:
                experts[expert.name] = expert
            case RouteManifest() as route:
                routes[route.name] = route
            case EncoderManifest() as encoder:
                encoders[encoder.name] = encoder
            case RetrieverManifest() as retriever:
                retrievers[retriever.name] = retriever
            case _:
                raise TypeError(f"{entry.document.source.file}: kind {entry.kind} has no place in Registry")
        sources[entry.kind, entry.name] = f"{entry.document.source.file}:{entry.document.first}"
        written[entry.kind, entry.name] = entry.document.source.modified
        documents.append(entry.document)
    if not routes:
        routes[IMPLICIT_ROUTE] = RouteManifest(
            name=IMPLICIT_ROUTE, description="Every expert of the registry.", experts=Selection.model_validate("*")
        )  # pyright: ignore[reportCallIssue]
    encoders.setdefault(DEFAULT_ENCODER, EncoderManifest(name=DEFAULT_ENCODER))  # pyright: ignore[reportCallIssue]
    return Registry(
        MappingProxyType(experts), MappingProxyType(routes), MappingProxyType(encoders), _version(documents), files,
        MappingProxyType(sources), MappingProxyType(written), MappingProxyType(retrievers),
    )  # fmt: skip


def _version(documents: Iterable[Document]) -> str:
    said = sorted(json.dumps(document.data, sort_keys=True) for document in documents)
    return hashlib.sha256("\n".join(said).encode()).hexdigest()[:12]
