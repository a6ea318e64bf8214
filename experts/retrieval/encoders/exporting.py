"""Finding an encoder's export, and having it made where there is none: by a child process, so that torch never
enters the one that serves.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from experts.errors import ConfigError
from experts.retrieval.encoders.cache import Exported, encoders_folder, exports_named, model_folder, read_export
from experts.retrieval.encoders.source import content_hash, find_model, model_slug

EXPORT_MODULE = "experts.retrieval.encoders.export"
EXPORT_NEEDS = ("torch", "sentence_transformers", "onnx", "onnxscript")
TAIL_CHARS = 1_500


def find_or_export(model: str, runtime: str, *, cache: Path | None = None) -> Exported:
    """The export of a model for `onnx` or `onnx-int8`, from the cache or made now (half a minute, 1 GB of memory).

    Where the model itself is not here, the one export of its name in the cache is used. Raises ConfigError where
    there is no export and none can be made.
    """
    slug = model_slug(model)
    try:
        source = find_model(model)
    except ConfigError as fault:
        return _only_export(model, slug, runtime, cache, fault)
    folder = model_folder(cache, slug, content_hash(source))
    found = read_export(folder, runtime)
    if found is None:
        missing = [name for name in EXPORT_NEEDS if find_spec(name) is None]
        if missing:
            lacking = f"{', '.join(missing)} not installed"
            raise ConfigError(_how_to_export(model, runtime, encoders_folder(cache), lacking))
        _export_in_child(model, source, runtime, cache)
        found = read_export(folder, runtime)
    if found is None:
        raise ConfigError(f"encoder {model}: the export ended well, yet there is no whole {runtime} in {folder}")
    return found


def _only_export(model: str, slug: str, runtime: str, cache: Path | None, fault: ConfigError) -> Exported:
    found = exports_named(cache, slug, runtime)
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(str(one.folder.parent) for one in found)
        raise ConfigError(
            f"encoder {model}: several exports have this name ({listed}), and the model is not here to tell which "
            f"is meant: remove all but one, or give the model's folder"
        )
    raise ConfigError(_how_to_export(model, runtime, encoders_folder(cache), fault.message)) from fault


def _how_to_export(model: str, runtime: str, folder: Path, why: str) -> str:
    return (
        f"encoder {model} ({runtime}): no export in {folder}, and none can be made here: {why}. Where torch, "
        f"sentence-transformers, onnx and onnxscript are installed, run `consilium encoder export --model {model} "
        f"--runtime {runtime}` (or `python -m {EXPORT_MODULE}` with the same options), then copy "
        f"~/.cache/consilium/encoders from there to {folder} here (CONSILIUM_CACHE names another cache)"
    )


def _export_in_child(model: str, source: Path, runtime: str, cache: Path | None) -> None:
    here = str(Path(__file__).resolve().parents[3])
    path = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-m", EXPORT_MODULE, "--model", model, "--source", str(source), "--runtime", runtime]
    if cache is not None:
        command += ["--cache", str(cache)]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if done.returncode:
        raise ConfigError(
            f"encoder {model} ({runtime}): the export failed with exit code {done.returncode}. Its last words:\n"
            f"{done.stderr[-TAIL_CHARS:].strip()}\nThe runtime `torch` needs no export"
        )
