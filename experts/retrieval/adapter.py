"""Expert embedding adapters: a small map on the query's vector, over one frozen index of documents.

Source: RouterRetriever (arXiv 2409.02685): domain experts share the encoder and the documents' vectors, and only the
query's side is adapted. The map is z = q + (q V) U^T + b, brought back to unit length: of rank r in d dimensions it
holds 2dr + d numbers (about 200 KB for d = 384 and r = 64).

On disk an adapter is a folder: `adapter.json`, which names the encoder that it was trained for, and the numbers as
safetensors. `consilium retriever train` makes one (`experts.retrieval.adapting`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experts.errors import ConfigError
from experts.protocols import Vectors

Floats = NDArray[np.float32]
FORMAT = 2
MANIFEST = "adapter.json"
PARTS = ("down", "up", "bias")


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """`encoder`: the fingerprint of the vectors that it maps. `down`, `up`: (d, r); `bias`: (d,); all float32."""

    id: str
    encoder: str
    down: Floats
    up: Floats
    bias: Floats

    def __post_init__(self) -> None:
        shape = self.down.shape
        if len(shape) != 2 or self.up.shape != shape or self.bias.shape != shape[:1]:
            raise ConfigError(
                f"adapter {self.id}: expected down and up of one shape (d, r) and bias (d,), got {shape}, "
                f"{self.up.shape} and {self.bias.shape}"
            )

    def __call__(self, vectors: Vectors) -> Vectors:
        """The adapted queries, (n, d), unit rows. A row that the map sends to nothing stays as it was."""
        if vectors.ndim != 2 or vectors.shape[1] != len(self.bias):
            raise ConfigError(
                f"adapter {self.id}: expected vectors (n, {len(self.bias)}), got shape {vectors.shape}; it was trained "
                f"for encoder {self.encoder}"
            )
        moved = vectors + (vectors @ self.down) @ self.up.T + self.bias
        length = np.linalg.norm(moved, axis=1, keepdims=True)
        return np.where(length > 1e-6, moved / np.maximum(length, 1e-6), vectors).astype(np.float32)

    def scaled(self, strength: float) -> Adapter:
        """The same map, so many times as strong; 0 changes no query."""
        return Adapter(
            self.id, self.encoder, self.down, np.float32(strength) * self.up, np.float32(strength) * self.bias
        )

    def save(self, folder: Path, notes: Mapping[str, Any] | None = None) -> None:
        """`notes` are kept in the manifest, which is replaced last: a kill leaves the old adapter or the new one."""
        from safetensors.numpy import save

        folder.mkdir(parents=True, exist_ok=True)
        said = save({name: np.ascontiguousarray(getattr(self, name)) for name in PARTS})
        weights = folder / f"adapter-{blake2b(said, digest_size=6).hexdigest()}.safetensors"
        manifest = {
            "format": FORMAT, "id": self.id, "encoder": self.encoder, "dimensions": len(self.bias),
            "rank": self.down.shape[1], "weights": weights.name, **(notes or {}),
        }  # fmt: skip
        for path, content in ((weights, said), (folder / MANIFEST, json.dumps(manifest, indent=2).encode() + b"\n")):
            draft = path.with_name(f"{path.name}.tmp")
            draft.write_bytes(content)
            draft.replace(path)
        for old in folder.glob("adapter-*.safetensors"):
            if old.name != weights.name:
                old.unlink()


def load_adapter(folder: Path, encoder: str) -> Adapter:
    """Reads an adapter for vectors of `encoder`. Raises ConfigError for another encoder's, and for a damaged one."""
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
        found, name, weights = str(manifest["encoder"]), str(manifest["id"]), folder / str(manifest["weights"])
        if manifest["format"] != FORMAT:
            raise ConfigError(f"{folder}: expected adapter format {FORMAT}, found {manifest['format']}; train it again")
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise ConfigError(
            f"{folder}: expected an adapter made by `consilium retriever train`, cannot be read: {fault!r}"
        ) from fault
    if found != encoder:
        raise ConfigError(
            f"{folder}: adapter {name} was trained for encoder {found}, the vectors are of {encoder}; train it again, "
            "or name that encoder"
        )
    return Adapter(name, found, *_numbers(weights))


def _numbers(path: Path) -> list[Floats]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        held = load(path.read_bytes())
        return [np.asarray(held[part], np.float32) for part in PARTS]
    except (OSError, SafetensorError, KeyError) as fault:
        raise ConfigError(
            f"{path}: expected an adapter's numbers, cannot be read: {fault!r}; train it again"
        ) from fault
