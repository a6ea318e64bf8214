"""Vectors of outcome texts, kept on disk: a gateway that starts again does not embed the same texts again."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path

import numpy as np

from experts.protocols import Encoder
from router.outcomes import Outcomes


def cache_folder() -> Path:
    """`$CONSILIUM_CACHE`, or `~/.cache/consilium`."""
    return Path(os.environ.get("CONSILIUM_CACHE") or Path.home() / ".cache" / "consilium")


@dataclass(frozen=True, slots=True)
class VectorCache:
    """One file per set of texts and encoder fingerprint, written whole and renamed; `folder` None: the default."""

    folder: Path | None = None

    def embedded(self, outcomes: Outcomes, encoder: Encoder) -> Outcomes:
        """The same table with vectors (n, d). An unwritable cache costs the time, not the answer."""
        if outcomes.vectors is not None:
            return outcomes
        digest = blake2b(encoder.fingerprint.encode(), digest_size=16)
        for text in outcomes.texts:
            digest.update(b"\x00" + text.encode(errors="surrogatepass"))
        path = (self.folder or cache_folder() / "vectors") / f"{digest.hexdigest()}.npy"
        try:
            vectors = np.load(path, allow_pickle=False)
            if vectors.shape == (len(outcomes), encoder.dimensions):
                return replace(outcomes, vectors=vectors)
        except (OSError, ValueError, EOFError):
            pass  # not there, or cut short: made again below
        vectors = encoder.encode(outcomes.texts)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
                np.save(file, vectors)
            Path(file.name).replace(path)
        except OSError:
            pass  # a read-only or full disk
        return replace(outcomes, vectors=vectors)
