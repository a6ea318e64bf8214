"""sentence-transformers itself: the switch for exactness, and the runtime that trains."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experts.protocols import Vectors
from experts.retrieval.encoders.model import Source


class TorchEncoder:
    """A sentence-transformers model in 32-bit floats."""

    def __init__(self, source: Source, threads: int = 1) -> None:
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(threads)
        self._model = SentenceTransformer(str(source.folder), local_files_only=True)
        self._fingerprint = f"{source.short}-{source.fingerprint()}:torch"

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    @property
    def dimensions(self) -> int:
        return self._model.get_sentence_embedding_dimension() or 0

    def encode(self, texts: Sequence[str]) -> Vectors:
        vectors = self._model.encode(
            list(texts), batch_size=32, normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False
        )
        return np.asarray(vectors, np.float32).reshape(len(texts), self.dimensions)
