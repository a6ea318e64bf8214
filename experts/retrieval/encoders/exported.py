"""Exported encoders on disk: made once, whole or not at all, found again by the hash of their source."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import cast

from experts.errors import ConfigError
from experts.retrieval.encoders.model import locate

FORMAT = 1
MANIFEST = "encoder.json"
FILES = {"onnx": "model.onnx", "onnx-int8": "model-int8.onnx"}


@dataclass(frozen=True, slots=True)
class Export:
    """One usable export. `fingerprint` names source and runtime; `length` is the most tokens of one text."""

    model: Path
    tokenizer: Path
    fingerprint: str
    dimensions: int
    length: int


def cache_folder() -> Path:
    """`$CONSILIUM_CACHE/encoders`, or `~/.cache/consilium/encoders`."""
    root = os.environ.get("CONSILIUM_CACHE")
    return (Path(root) if root else Path.home() / ".cache" / "consilium") / "encoders"


def exported(model: str, runtime: str, cache: Path | None = None) -> Export:
    """The export of this model, made in a child process if there is none. Raises ConfigError."""
    root = cache or cache_folder()
    try:
        source = locate(model)
        folder = root / f"{source.short}-{source.fingerprint()}-{FORMAT}"
    except ConfigError as fault:
        found = _by_name(root, model)
        if found is None:
            raise ConfigError(f"{fault.message}; or put an export made elsewhere into {root}") from fault
        folder = found
    if not (folder / MANIFEST).is_file():
        _export(model, folder)
    manifest = cast(dict[str, str | int], json.loads((folder / MANIFEST).read_text()))
    return Export(
        folder / FILES[runtime], folder / "tokenizer.json", f"{manifest['fingerprint']}:{runtime}:{FORMAT}",
        int(manifest["dimensions"]), int(manifest["length"]),
    )  # fmt: skip


def _by_name(root: Path, model: str) -> Path | None:
    """An export of a model whose source is not here, as in a slim image."""
    short = Path(model).name
    found = sorted(root.glob(f"{short}-*-{FORMAT}")) if root.is_dir() else []
    return found[0] if len(found) == 1 and (found[0] / MANIFEST).is_file() else None


def _export(model: str, folder: Path) -> None:
    lacking = [name for name in ("torch", "sentence_transformers", "onnx", "onnxscript") if find_spec(name) is None]
    if lacking:
        raise ConfigError(
            f"encoder {model}: no export in {folder.parent}, and this installation cannot make one (it lacks "
            f"{', '.join(lacking)}); run `consilium encoder export` where `consilium[encoder]` is installed and copy "
            f"{folder.name} into {folder.parent}, or point CONSILIUM_CACHE at it"
        )
    command = [sys.executable, "-m", "experts.retrieval.encoders.export", model, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    if done.returncode or not (folder / MANIFEST).is_file():
        last = "\n".join(done.stderr.splitlines()[-5:])
        raise ConfigError(f"encoder {model}: the export failed ({' '.join(command)}):\n{last}")
