"""Expert embedding adapters: a small map on the query's vector, over one frozen index of documents.

Source: RouterRetriever (arXiv 2409.02685): domain experts share the encoder and the documents' vectors, and only the
query's side is adapted. The map is z = q + (q V) U^T + b, brought back to unit length: of rank r in d dimensions it
holds 2dr + d numbers (about 200 KB for d = 384 and r = 64).
"""

from __future__ import annotations

import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experts.errors import ConfigError
from experts.protocols import Vectors

Floats = NDArray[np.float32]
FORMAT = 1


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

    def save(self, path: Path) -> None:
        """One npz, written whole and renamed."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
            np.savez(
                file, format=np.array(FORMAT), id=np.array(self.id), encoder=np.array(self.encoder),
                down=self.down, up=self.up, bias=self.bias,
            )  # fmt: skip
        Path(file.name).replace(path)


def load_adapter(path: Path, encoder: str) -> Adapter:
    """Reads an adapter for vectors of `encoder`. Raises ConfigError for another encoder's, and for a damaged file."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
            if int(held["format"]) != FORMAT:
                raise ConfigError(f"{path}: expected adapter format {FORMAT}, found {int(held['format'])}")
            adapter = Adapter(
                str(held["id"]), str(held["encoder"]),
                *(np.asarray(held[name], np.float32) for name in ("down", "up", "bias")),
            )  # fmt: skip
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as fault:
        raise ConfigError(f"{path}: expected an adapter written by this project, cannot be read: {fault}") from fault
    if adapter.encoder != encoder:
        raise ConfigError(
            f"{path}: adapter {adapter.id} was trained for encoder {adapter.encoder}, the vectors are of {encoder}; "
            f"train it again, or name that encoder"
        )
    return adapter
