"""What a text looks like, beside what it means: its length, digits and symbols.

Sentence encoders blur these, and how hard a question is depends on them.

Counted over UTF-8 bytes of a whole batch at once, with fixed centres and scales, so that features never depend on
what else is in the batch or in the outcomes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from router.plan import Matrix

LONGEST = 4000
"""Bytes of a text that are looked at."""

CLASSES: tuple[bytes, ...] = (
    b" \t\n\r",
    b"0123456789",
    b"\n",
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    b"\\${}^_",
    b"()[]=;:<>#",
    b"+-*/%",
    b".,!",
    b"?",
    bytes(range(128, 256)),
)
CENTRES = np.array([5.6, 3.9, 2.0, 1.0, 0.4, 0.18, 0.03, 0.03, 0.015, 0.03, 0.006, 0.025, 0.005, 0.0], np.float32)
SCALES = np.array([1.0, 1.0, 1.2, 1.0, 0.5, 0.03, 0.04, 0.03, 0.03, 0.025, 0.01, 0.012, 0.005, 0.03], np.float32)
WIDTH = len(CENTRES)

_MEMBER = np.zeros((256, len(CLASSES)), np.float32)
for _column, _bytes in enumerate(CLASSES):
    _MEMBER[list(_bytes), _column] = 1


def surface(texts: Sequence[str]) -> Matrix:
    """Features of about unit scale, bent towards two, so that a text like none seen is not taken for an extreme one.

    Shape (n, WIDTH): logarithms of the number of bytes, blanks, digits and lines, and of question marks; then the share
    of each class of bytes. A text that was not kept, so an empty one, is neither short nor long: zeros.
    """
    raw = [text[:LONGEST].encode(errors="replace")[:LONGEST] for text in texts]
    sizes = np.array([len(data) for data in raw], np.int64)
    codes = np.frombuffer(b"".join(raw), np.uint8)
    rows = np.repeat(np.arange(len(raw), dtype=np.int64) * 256, sizes)
    counts = np.bincount(rows + codes, minlength=256 * len(raw)).reshape(len(raw), 256)
    per_class = counts.astype(np.float32) @ _MEMBER
    logs = np.log1p(np.column_stack([sizes, per_class[:, 0], per_class[:, 1], per_class[:, 2], per_class[:, 8]]))
    shares = per_class[:, [0, 1, 3, 4, 5, 6, 7, 8, 9]] / np.maximum(sizes, 1)[:, None]
    found = 2 * np.tanh((np.hstack([logs, shares]) - CENTRES) / SCALES / 2)
    return np.where(sizes[:, None] > 0, found, 0).astype(np.float32)
