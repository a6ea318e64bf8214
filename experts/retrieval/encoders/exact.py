"""The runtime `torch`: sentence-transformers itself, on the CPU, in 32-bit floats."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from experts.errors import ConfigError
from experts.protocols import Vectors
from experts.retrieval.encoders.cache import fingerprint
from experts.retrieval.encoders.source import content_hash, find_model, model_slug

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

TEXTS_PER_BATCH = 32


class ExactEncoder:
    """sentence-transformers behind the Encoder protocol."""

    def __init__(self, model: SentenceTransformer, named: str) -> None:
        self._model = model
        self._named = named

    @property
    def fingerprint(self) -> str:
        return self._named

    @property
    def dimensions(self) -> int:
        return int(self._model.get_sentence_embedding_dimension() or 0)

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Shape (len(texts), dimensions), float32, unit rows. Blocking."""
        if not texts:
            return np.zeros((0, self.dimensions), np.float32)
        return encode_exactly(self._model, texts)


def load_exact(model: str, *, threads: int) -> ExactEncoder:
    """Loads torch (about 7 s and 600 MB). Sets the number of torch's threads for the whole process."""
    folder = find_model(model)
    loaded = load_sentence_transformer(model, folder)
    import torch

    torch.set_num_threads(threads)
    return ExactEncoder(loaded, fingerprint(model_slug(model), content_hash(folder), "torch"))


def load_sentence_transformer(model: str, folder: Path) -> SentenceTransformer:
    """Raises ConfigError where sentence-transformers is not installed, or cannot read the folder."""
    missing = [name for name in ("torch", "sentence_transformers") if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"encoder {model} (torch): {', '.join(missing)} not installed: install sentence-transformers, or use a "
            f"runtime that needs neither (onnx-int8, onnx)"
        )
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        return SentenceTransformer(str(folder), device="cpu", local_files_only=True).eval()
    except (OSError, ValueError, KeyError) as fault:
        raise ConfigError(f"encoder {model}: sentence-transformers cannot load {folder}: {fault}") from fault


def encode_exactly(model: SentenceTransformer, texts: Sequence[str]) -> Vectors:
    """Shape (len(texts), d), float32, unit rows."""
    found = model.encode(  # pyright: ignore[reportUnknownMemberType]
        list(texts), batch_size=TEXTS_PER_BATCH, normalize_embeddings=True, convert_to_numpy=True,
        show_progress_bar=False,
    )  # fmt: skip
    return np.asarray(found, np.float32)
