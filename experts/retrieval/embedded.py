"""Vectors of documents and queries, kept on disk a chunk at a time: what a killed run encoded is not encoded again."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np

from experts.cache import cache_root
from experts.protocols import Encoder, Vectors

CHUNK = 512


def embed(
    texts: Sequence[str], encoder: Encoder, told: Callable[[int, int], None] = lambda done, of: None,
    folder: Path | None = None,
) -> Vectors:  # fmt: skip
    """(n, d) unit rows. `told(done, of)` after every chunk. An unwritable folder costs the time, not the answer."""
    parts = [np.zeros((0, encoder.dimensions), np.float32)]
    for start in range(0, len(texts), CHUNK):
        parts.append(_chunk(texts[start : start + CHUNK], encoder, folder or cache_root() / "retrieval"))
        told(min(start + CHUNK, len(texts)), len(texts))
    return np.concatenate(parts)


def _chunk(texts: Sequence[str], encoder: Encoder, folder: Path) -> Vectors:
    digest = blake2b(encoder.fingerprint.encode(), digest_size=16)
    for text in texts:
        digest.update(blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest())
    path = folder / f"{digest.hexdigest()}.npy"
    try:
        held = np.load(path, allow_pickle=False)
        if held.shape == (len(texts), encoder.dimensions):
            return held
    except (OSError, ValueError, EOFError):
        pass  # not there, or cut short: made again below
    made = encoder.encode(texts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".tmp", delete=False) as file:
            np.save(file, made)
        Path(file.name).replace(path)
    except OSError:
        pass  # a read-only or full disk
    return made
