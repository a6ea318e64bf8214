"""Vectors of outcome texts, kept on disk: a gateway that starts again does not embed the same texts again."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path

import numpy as np

from experts.cache import cache_root
from experts.protocols import Encoder
from router.outcomes import Outcomes
from router.texts import encode_prompts, weighted_texts


@dataclass(frozen=True, slots=True)
class VectorCache:
    """One file per set of texts and encoder fingerprint, written whole and renamed; `folder` None: the default."""

    folder: Path | None = None

    def embedded(self, outcomes: Outcomes, encoder: Encoder) -> Outcomes:
        """The same table with vectors (n, d): those that a gateway gives to queries of these texts.

        An unwritable cache costs the time, not the answer.
        """
        if outcomes.vectors is not None:
            return outcomes
        digest = blake2b(encoder.fingerprint.encode(), digest_size=16)
        for text in outcomes.texts:  # by what is embedded of it: a change of that makes them again
            for mark, piece in enumerate(weighted_texts([text])[0]):
                digest.update(b"\x01" if mark else b"\x00")
                digest.update(piece.encode(errors="surrogatepass"))
        path = (self.folder or cache_root() / "vectors") / f"{digest.hexdigest()}.npy"
        try:
            vectors = np.load(path, allow_pickle=False)
            if vectors.shape == (len(outcomes), encoder.dimensions):
                return replace(outcomes, vectors=vectors)
        except (OSError, ValueError, EOFError):
            pass  # not there, or cut short: made again below
        vectors = encode_prompts(encoder, [(text,) for text in outcomes.texts])
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
                np.save(file, vectors)
            Path(file.name).replace(path)
        except OSError:
            pass  # a read-only or full disk
        return replace(outcomes, vectors=vectors)
