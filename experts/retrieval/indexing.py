"""Documents into a corpus: what is there already is skipped, the rest is embedded and stored batch by batch.

A batch is one transaction of whole documents, so a run that is killed and started again goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from experts.errors import ConfigError
from experts.protocols import Encoder
from experts.retrieval.corpus import Corpus, Document, Embedded

BATCH = 64
"""Pieces that are embedded and stored together."""


@dataclass(slots=True)
class Counts:
    """What became of the documents so far."""

    added: int = 0
    unchanged: int = 0
    pieces: int = 0

    @property
    def seen(self) -> int:
        return self.added + self.unchanged


def embedded_by(encoder: Encoder, model: str, runtime: str, url: str = "") -> Embedded:
    """How a corpus of this encoder is described."""
    return Embedded(model, runtime, encoder.fingerprint, encoder.dimensions, url)


def add(
    corpus: Corpus, documents: Iterable[Document], encoder: Encoder | None, told: Callable[[Counts], None] | None = None
) -> Counts:
    """Stores what is new or changed; of an id that comes twice, the last. `told` hears of every batch.

    Raises ConfigError for another encoder than the corpus's.
    """
    found, wanted = encoder.fingerprint if encoder else None, corpus.embedded.fingerprint if corpus.embedded else None
    if found != wanted:
        raise ConfigError(f"{corpus.folder}: embedded by {wanted or 'no encoder'}, got the encoder {found or 'none'}")
    counts = Counts()
    batch: dict[str, Document] = {}
    waiting = 0

    def store() -> None:
        nonlocal waiting
        if batch:
            texts = [_said(one, piece) for one in batch.values() for piece in one.pieces]
            corpus.put(list(batch.values()), encoder.encode(texts) if encoder else None)
            counts.added += len(batch)
            counts.pieces += len(texts)
        batch.clear()
        waiting = 0
        if told is not None:
            told(counts)

    for document in documents:
        if corpus.unchanged(document):
            counts.unchanged += 1
            if counts.unchanged % 1000 == 0 and told is not None:
                told(counts)
            continue
        if document.id in batch:
            store()
        batch[document.id] = document
        waiting += len(document.pieces)
        if waiting >= BATCH:
            store()
    store()
    return counts


def _said(document: Document, piece: str) -> str:
    """What is embedded: the title, where there is one, and the piece."""
    return f"{document.title}\n{piece}" if document.title else piece
