"""Adding, replacing and removing one manifest of a registry on disk, without a broken moment.

The edit is made in memory first and the whole resulting registry is validated; only then is one file replaced, by
an atomic rename. Writers take turns on a lock of the folder. All functions block: on an event loop, use a thread.
"""

from __future__ import annotations

import dataclasses
import fcntl
import os
import re
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import Any

import yaml

from experts.errors import ConfigError, Problem, RegistryError, UnknownModel
from registry.documents import Document, Source, read_documents
from registry.edited import POSTED, Edited, posted_lines
from registry.load import SUFFIXES, Registry, parse, read_sources
from registry.validate import Terms, read_manifest
from registry.wording import nearest


@dataclass(frozen=True, slots=True)
class Change:
    """What an edit did: the kind and name of the manifest, the file it is in (or was), and the registry after it."""

    kind: str
    name: str
    file: Path
    registry: Registry


def add(path: Path | str, manifest: str | Mapping[str, Any], terms: Terms | None = None) -> Change:
    """Add one manifest (YAML text, or a map) to a registry.

    In a folder it becomes `<name>.yaml`, in a file one more document. Of `terms`, `allow_serve` and `allow_env` bind
    only the new manifest. Raises RegistryError, having written nothing, when the new manifest or the registry with
    it is not valid; ConfigError when the file cannot be written.
    """
    return _put(Path(path), manifest, terms or Terms(), replacing=False)


def replace(path: Path | str, manifest: str | Mapping[str, Any], terms: Terms | None = None) -> Change:
    """Put one manifest in the place of the one with its kind and name; the rest of that file stays as it is.

    Raises as `add` does, and UnknownModel when there is none to replace.
    """
    return _put(Path(path), manifest, terms or Terms(), replacing=True)


def remove(path: Path | str, name: str, kind: str | None = None, terms: Terms | None = None) -> Change:
    """Remove one manifest, and the file with it when nothing else is in it.

    Raises UnknownModel when there is none of this name (and kind), RegistryError, having written nothing, when the
    registry would not be valid without it.
    """
    terms = _of_files(terms or Terms())
    path = Path(path)
    with _locked(path):
        sources = _sources(path)
        document = _find(sources, name, kind)
        edited = _without(document)
        text = edited.source.text
        rest = _documents(text, document.source)
        _unharmed(document, rest, None)
        gone = not text.strip() and path.is_dir()
        after = [
            edited.source if source.file == document.source.file else source
            for source in sources
            if not (gone and source.file == document.source.file)
        ]
        registry = _valid(after, terms, path, edited)
        file = Path(document.source.file)
        if gone:
            _delete(file)
        else:
            _write(file, text)
    return Change(str(document.keys["kind"]), name, file, registry)


def _put(path: Path, manifest: str | Mapping[str, Any], terms: Terms, *, replacing: bool) -> Change:
    with _locked(path):
        sources = _sources(path)
        text = _as_text(manifest)
        new = _only(text, terms, path)
        kind, name = str(new.keys["kind"]), str(new.keys["name"])
        old = _find(sources, name, kind) if replacing else None
        if old is not None:
            edited = _without(old, text)
            _unharmed(old, _documents(edited.source.text, old.source), new)
        else:
            _unused(sources, kind, name)
            edited = _grown(path, sources, name, text, new)
        changed = edited.source
        known = any(source.file == changed.file for source in sources)
        after = [changed if source.file == changed.file else source for source in sources]
        registry = _valid(after if known else [*after, changed], _of_files(terms), path, edited)
        _write(Path(changed.file), changed.text)
    return Change(kind, name, Path(changed.file), registry)


def _valid(sources: Sequence[Source], terms: Terms, path: Path, edited: Edited) -> Registry:
    """The registry as it is to be. Raises RegistryError, in lines of the files as they are."""
    try:
        return parse(sources, terms, where=str(path))
    except RegistryError as fault:
        raise RegistryError([edited.placed(problem) for problem in fault.problems]) from None


def _of_files(terms: Terms) -> Terms:
    """What is allowed in the files that are already there: they are the operator's own."""
    return dataclasses.replace(terms, allow_serve=True, allow_env=True)


def _sources(path: Path) -> list[Source]:
    """The texts that are there; none, for a folder still empty and for a YAML file still to be made."""
    sources, problems = read_sources(path)
    if not sources and (path.is_dir() or (path.suffix in SUFFIXES and not path.exists())):
        problems = [problem for problem in problems if problem.file != str(path)]
    if problems:
        raise RegistryError(problems)
    return sources


def _as_text(manifest: str | Mapping[str, Any]) -> str:
    if isinstance(manifest, str):
        text = re.sub(r"\A\ufeff?([ \t\r]*\n)*---[ \t]*\n", "", manifest)  # YAML's own blanks: others are text
        return re.sub(r"(\n(---|\.\.\.)[ \t]*)?[ \t\r\n]*\Z", "", text, count=1) + "\n"
    try:
        return yaml.safe_dump(dict(manifest), sort_keys=False, allow_unicode=True)
    except yaml.YAMLError as fault:
        problem = Problem(POSTED, 0, "", "expected JSON values only (text, numbers, true, false, null, lists, maps)")
        raise RegistryError([problem]) from fault


def _only(text: str, terms: Terms, path: Path) -> Document:
    """The one document of a posted manifest, valid on its own under `terms`."""
    folder = path if path.is_dir() else path.parent
    documents, problems = read_documents(Source(POSTED, text, folder))
    if not problems and len(documents) != 1:
        problems = [Problem(POSTED, 0, "", f"expected one document, got {len(documents)}")]
    for document in documents:
        problems += read_manifest(document, terms)[1]
    if problems:
        raise RegistryError(problems)
    return documents[0]


def _find(sources: Sequence[Source], name: str, kind: str | None) -> Document:
    every = [document for source in sources for document in _documents(source.text, source)]
    named = [(str(d.keys.get("name")), str(d.keys.get("kind")), d) for d in every if d.keys]
    found = [d for n, k, d in named if n == name and kind in (None, k)]
    if not found:
        known = {n for n, k, _ in named if kind in (None, k)}
        raise UnknownModel(f"the registry has no {kind or 'manifest'} '{name}'{nearest(name, known)}", param="name")
    if len(found) > 1:
        raise RegistryError([d.problem(("name",), f"more than one manifest is called '{name}'; say which kind")
                             for d in found])  # fmt: skip
    return found[0]


def _documents(text: str, source: Source) -> list[Document]:
    documents, problems = read_documents(dataclasses.replace(source, text=text))
    if problems:
        raise RegistryError(problems)
    return documents


def _unused(sources: Sequence[Source], kind: str, name: str) -> None:
    """Refuse a name that is taken, with the way out; `model` names an expert or a route."""
    rivals = ("expert", "route") if kind in ("expert", "route") else (kind,)
    for document in (document for source in sources for document in _documents(source.text, source)):
        other = document.keys.get("kind")
        if document.keys.get("name") == name and other in rivals:
            taken = f"already declared (kind {other}), in {document.source.file}:{document.first}"
            message = f"'{name}' is {taken}; replace it, or take another name"
            raise RegistryError([Problem(POSTED, 0, "name", message)])


def _grown(path: Path, sources: Sequence[Source], name: str, text: str, new: Document) -> Edited:
    """The file that a new manifest goes to, with it in it."""
    file = path / f"{name}.yaml" if path.is_dir() else path
    before = next((source for source in sources if source.file == str(file)), None)
    if before is None or not before.text.strip():
        return Edited(Source(str(file), text, file.parent, time()), posted_lines(text))
    kept = before.text if before.text.endswith("\n") else before.text + "\n"
    grown = dataclasses.replace(before, text=f"{kept}---\n{text}", modified=time())
    wanted = [document.data for document in _documents(before.text, before)]
    if [document.data for document in _documents(grown.text, grown)] != [*wanted, new.data]:
        raise _by_hand(before)
    return Edited(grown, [*range(1, len(kept.splitlines()) + 1), -1, *posted_lines(text)])


def _without(document: Document, instead: str | None = None) -> Edited:
    """The file with one document's lines taken out, or others put in their place; comments around it stay."""
    lines = document.source.text.splitlines(keepends=True)
    before, after = list(range(document.first - 1)), list(range(document.last, len(lines)))
    if instead is not None:
        new = instead if instead.endswith("\n") else instead + "\n"
        text = "".join([*(lines[i] for i in before), new, *(lines[i] for i in after)])
        origin = [*(i + 1 for i in before), *posted_lines(new), *(i + 1 for i in after)]
        return Edited(dataclasses.replace(document.source, text=text, modified=time()), origin)
    if document.marker is not None:
        before = before[: document.marker - 1]
    else:
        marker = next((i for i in after if lines[i].rstrip() == "---"), None)
        after = [i for i in after if i != marker]
    text = "".join(lines[i] for i in before + after)
    text = text if text.strip().strip("-").strip() else ""
    source = dataclasses.replace(document.source, text=text, modified=time())
    return Edited(source, [i + 1 for i in before + after])


def _unharmed(document: Document, rest: Sequence[Document], new: Document | None) -> None:
    """Cutting lines out must leave the file's other documents what they were; where it would not, hands off."""
    before = _documents(document.source.text, document.source)
    place = next(i for i, other in enumerate(before) if other.first == document.first)
    wanted = [other.data for other in before]
    wanted[place : place + 1] = [new.data] if new is not None else []
    if [other.data for other in rest] != wanted:
        raise _by_hand(document.source)


def _by_hand(source: Source) -> RegistryError:
    message = "laid out in a way that only a person can edit; nothing was changed"
    return RegistryError([Problem(source.file, 0, "", message)])


@contextmanager
def _locked(path: Path) -> Generator[None]:
    """One writer at a time, over all processes of this machine, by a lock on the folder itself."""
    folder = path if path.is_dir() else path.parent
    if not folder.is_dir():
        raise RegistryError([Problem(str(path), 0, "", "there is no such file or folder")])
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _write(file: Path, text: str) -> None:
    """Replace a file's text: whoever reads sees the old text or the new, whole. New files are the owner's only."""
    file = file.resolve()
    temporary: str | None = None
    try:
        mode = file.stat().st_mode & 0o777 if file.exists() else 0o600
        handle, temporary = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(mode)
        Path(temporary).replace(file)
        temporary = None
        _sync(file.parent)
    except OSError as fault:
        raise ConfigError(
            f"{file}: cannot be written: {fault.strerror}; the registry's folder must be writable to change it"
        ) from fault
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def _delete(file: Path) -> None:
    try:
        file.unlink()
        _sync(file.parent)
    except OSError as fault:
        raise ConfigError(f"{file}: cannot be removed: {fault.strerror}") from fault


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
