"""The cache of exported encoders: whole or not there at all.

    <root>/encoders/all-MiniLM-L6-v2-1a2b3c4d5e6f/      one folder a model, by the hash of its content
        .lock                                           held by whoever exports
        .building-…/                                    an export under way, or one that was killed
        onnx-int8.v1/                                   one folder a runtime and version of this code's export
            manifest.json  model.onnx  tokenizer.json

A runtime's folder appears by one rename of a finished `.building-…`, so no reader ever sees half of one, and its
manifest holds the size and hash of each file, so that a copy cut short on its way to another machine is not used.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import orjson

from experts.cache import cache_root

EXPORT_VERSION = 1
"""Raised when what is exported changes: vectors of two versions never mix."""

VECTOR_VERSION = 2
"""Raised when the same export comes to be run in another way. 2: every text alone."""

MODEL_FILE, TOKENIZER_FILE, MANIFEST_FILE = "model.onnx", "tokenizer.json", "manifest.json"


@dataclass(frozen=True, slots=True)
class EncoderManifest:
    """What was exported. `source` is the content hash of the model; `files` maps each file to [bytes, SHA-256].

    `max_length` counts tokens, the special ones included. `pad` is the id that fills short rows; `similarity` the
    mean cosine with sentence-transformers on the texts that the export was checked with.
    """

    model: str
    source: str
    runtime: str
    version: int
    pooling: str
    dimensions: int
    max_length: int
    pad: int
    inputs: tuple[str, ...]
    similarity: float
    made_with: dict[str, str]
    files: dict[str, tuple[int, str]]

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.model, self.source, self.runtime)


@dataclass(frozen=True, slots=True)
class Exported:
    """One finished export in the cache."""

    folder: Path
    manifest: EncoderManifest


def fingerprint(model: str, source: str, runtime: str) -> str:
    """Names what makes vectors comparable: the model's content, the runtime, the versions of export and use."""
    return f"{model}@{source}/{runtime}/v{EXPORT_VERSION}.{VECTOR_VERSION}"


def encoders_folder(cache: Path | None) -> Path:
    return (cache or cache_root()) / "encoders"


def model_folder(cache: Path | None, model: str, source: str) -> Path:
    return encoders_folder(cache) / f"{model}-{source}"


def read_export(folder: Path, runtime: str) -> Exported | None:
    """The export of this runtime in a model's folder, every byte checked; None where there is no whole one."""
    place = folder / f"{runtime}.v{EXPORT_VERSION}"
    try:
        found: dict[str, Any] = orjson.loads((place / MANIFEST_FILE).read_bytes())
        files = {str(name): (int(size), str(digest)) for name, (size, digest) in found["files"].items()}
        manifest = EncoderManifest(**{**found, "files": files, "inputs": tuple(found["inputs"])})  # pyright: ignore[reportArgumentType]
        whole = all(_describe(place / name) == described for name, described in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if not whole or not {MODEL_FILE, TOKENIZER_FILE} <= files.keys() or manifest.runtime != runtime:
        return None
    return Exported(place, manifest)


def exports_named(cache: Path | None, model: str, runtime: str) -> list[Exported]:
    """Whole exports of models of this name, whatever their content: for a machine that has no copy of the model."""
    folders = sorted(encoders_folder(cache).glob(f"{model}-{'[0-9a-f]' * 12}"))
    return [found for folder in folders if (found := read_export(folder, runtime)) is not None]


@contextmanager
def exporting(folder: Path) -> Iterator[None]:
    """Holds the right to export into a model's folder, waiting for whoever has it; freed by the end of the process.

    What an export that was killed left behind is removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in folder.glob(".building-*"):
            shutil.rmtree(left, ignore_errors=True)
        yield


@contextmanager
def building(folder: Path) -> Iterator[Path]:
    """A fresh folder to build an export in, removed at the end unless it was published."""
    place = Path(mkdtemp(prefix=".building-", dir=folder))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def describe_files(place: Path) -> dict[str, tuple[int, str]]:
    """[bytes, SHA-256] of every file of an export, except its manifest."""
    return {path.name: _describe(path) for path in sorted(place.iterdir()) if path.name != MANIFEST_FILE}


def publish(place: Path, folder: Path, manifest: EncoderManifest) -> Exported:
    """Makes a built export the one in force, under `exporting`. What is there, and is not whole, is replaced."""
    (place / MANIFEST_FILE).write_bytes(orjson.dumps(asdict(manifest), option=orjson.OPT_INDENT_2))
    for path in (*place.iterdir(), place):
        _sync(path)
    place.chmod(0o755)
    target = folder / f"{manifest.runtime}.v{manifest.version}"
    if target.exists():
        broken = Path(mkdtemp(prefix=".building-", dir=folder))
        target.rename(broken / "broken")
        shutil.rmtree(broken, ignore_errors=True)
    place.rename(target)
    _sync(folder)
    return Exported(target, manifest)


def _describe(path: Path) -> tuple[int, str]:
    digest = sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return path.stat().st_size, digest.hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
