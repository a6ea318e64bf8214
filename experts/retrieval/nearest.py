"""The nearest vectors of a corpus: an index made ahead of time where it is large, and exact search of the rest.

| passages | index | |
|---|---|---|
| to 50,000 | flat | exact; held in memory |
| to 250,000 | HNSW, 32 links a node | memory-mapped file; exact scores |
| above | IVF, product-quantised to four bits for two dimensions | memory-mapped; the best are scored again exactly |

What was added since the file was made is searched exactly beside it, and what was deleted is left out by a selector: a
change needs no new file. `faiss` is imported when a corpus is opened.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experts.errors import ConfigError
from experts.protocols import Vectors
from experts.retrieval.corpus import Corpus, Embedded

MANIFEST = "nearest.json"
FORMAT = 1
FLAT_MOST = 50_000
HNSW_MOST = 250_000
TRAIN_ROWS_A_LIST = 40
CANDIDATES = 100
"""Candidates of a quantised index that are scored again, at least."""
PROBED, NEIGHBOURS, WANTED = 200, 10, 0.97
"""How many points are asked for their nearest passages, how many of these, and the share that a search must find."""


def kind_for(size: int) -> str:
    """`flat`, `hnsw` or `ivf-pq`, for so many vectors."""
    return "flat" if size <= FLAT_MOST else "hnsw" if size <= HNSW_MOST else "ivf-pq"


def optimise(corpus: Corpus, *, kind: str | None = None) -> dict[str, Any] | None:
    """Makes the index file of a corpus that is large enough for one, and puts it in force; returns its manifest.

    The manifest is replaced last, so that a kill leaves the old file in force. `kind` overrides the choice by size.
    """
    embedded = _embedded(corpus)
    size = corpus.size()
    kind = kind or kind_for(size)
    if kind == "flat":
        return None
    import faiss

    index = _empty(faiss, kind, embedded.dimensions, size, corpus)
    last, gone = 0, corpus.gone_until()
    for rows, vectors in corpus.all_vectors():
        index.add_with_ids(vectors, rows)
        last = int(rows[-1])
    handle, temporary = tempfile.mkstemp(dir=corpus.folder, suffix=".tmp")
    os.close(handle)
    faiss.write_index(index, temporary)
    name = f"nearest-{last}-{gone}.faiss"
    Path(temporary).replace(corpus.folder / name)
    manifest = {
        "format": FORMAT, "kind": kind, "file": name, "until": last, "size": int(index.ntotal),
        "gone": gone, "encoder": embedded.fingerprint, "dimensions": embedded.dimensions,
        "probes": _enough_probes(faiss, index, corpus, size) if kind == "ivf-pq" else 0,
    }  # fmt: skip
    draft = corpus.folder / (MANIFEST + ".tmp")
    draft.write_text(json.dumps(manifest, indent=2) + "\n")
    draft.replace(corpus.folder / MANIFEST)
    for old in corpus.folder.glob("nearest-*.faiss"):
        if old.name != name:
            old.unlink()
    return manifest


def stale(corpus: Corpus) -> bool:
    """Whether a new index file pays: a fifth of the passages came or went since it was made."""
    size, made = corpus.size(), manifest_of(corpus)
    if kind_for(size) == "flat":
        return False
    if not made:
        return True
    since = corpus.counted_since(int(made["until"]), int(made["gone"]))
    return since > int(made["size"]) // 5 or kind_for(size) != made["kind"]


class Nearest:
    """Search over one corpus, kept up with what others write. Not for several threads at once."""

    def __init__(self, corpus: Corpus) -> None:
        import faiss

        self._faiss: Any = faiss
        self._corpus = corpus
        self._embedded = _embedded(corpus)
        self._seen = -1
        self._made: dict[str, Any] = {}
        self._base: Any = None
        self._tail: Any = self._exact()
        self._dead: set[int] = set()
        self._until = self._gone = 0
        self.refresh()

    @property
    def size(self) -> int:
        base = self._base.ntotal - len(self._dead) if self._base is not None else 0
        return int(base + self._tail.ntotal)

    def refresh(self) -> None:
        """Catches up with the corpus. Nothing is read where nobody has written."""
        version = self._corpus.version()
        if version == self._seen:
            return
        made = manifest_of(self._corpus)
        if self._seen == -1 or made != self._made:
            self._restart(made)
        until_gone = self._corpus.gone_until()
        fresh = self._corpus.since(self._until, self._gone)
        if fresh.gone:
            self._tail.remove_ids(np.array(fresh.gone, np.int64))
            base_until = int(self._made.get("until", 0))
            self._dead.update(row for row in fresh.gone if row <= base_until)
        if len(fresh.rows):
            self._tail.add_with_ids(fresh.vectors, fresh.rows)
            self._until = int(fresh.rows[-1])
        self._gone, self._seen = until_gone, version

    def _exact(self) -> Any:
        return self._faiss.IndexIDMap2(self._faiss.IndexFlatIP(self._embedded.dimensions))

    def _restart(self, made: dict[str, Any]) -> None:
        self._tail = self._exact()
        self._base, self._dead, self._made = None, set(), made
        self._until, self._gone = int(made.get("until", 0)), int(made.get("gone", 0))
        if made:
            if made["encoder"] != self._embedded.fingerprint:
                raise ConfigError(f"{self._corpus.folder}/{MANIFEST}: made for encoder {made['encoder']}, the corpus "
                                  f"has {self._embedded.fingerprint}; run `consilium index build` again")  # fmt: skip
            path = str(self._corpus.folder / made["file"])
            self._base = self._faiss.read_index(path, self._faiss.IO_FLAG_MMAP_IFC)

    def search(self, vector: NDArray[np.float32], k: int) -> list[tuple[int, float]]:
        """Rows and cosines, best first. `vector`: (d,), unit length."""
        self.refresh()
        query = np.ascontiguousarray(vector, np.float32)[None, :]
        found: dict[int, float] = {}
        if self._tail.ntotal:
            scores, rows = self._tail.search(query, min(k, self._tail.ntotal))
            found.update(zip(rows[0].tolist(), scores[0].tolist(), strict=True))
        if self._base is not None:
            found.update(self._from_base(query, k))
        found.pop(-1, None)
        return sorted(found.items(), key=lambda item: (-item[1], item[0]))[:k]

    def _from_base(self, query: Vectors, k: int) -> dict[int, float]:
        faiss, quantised = self._faiss, self._made["kind"] == "ivf-pq"
        chosen: dict[str, Any] = {}
        if self._dead:
            batch = faiss.IDSelectorBatch(np.fromiter(self._dead, np.int64))
            chosen["sel"] = faiss.IDSelectorNot(batch)
        if quantised:
            settings = faiss.SearchParametersIVF(nprobe=int(self._made["probes"]), **chosen)
        else:
            settings = faiss.SearchParametersHNSW(efSearch=max(64, 2 * k), **chosen)
        wanted = max(CANDIDATES, 4 * k) if quantised else k
        scores, rows = self._base.search(query, wanted, params=settings)
        if not quantised:
            return dict(zip(rows[0].tolist(), scores[0].tolist(), strict=True))
        exact = self._corpus.vectors([row for row in rows[0].tolist() if row >= 0])
        if not exact:
            return {}
        cosines = np.stack(list(exact.values())) @ query[0]
        return dict(zip(exact, cosines.tolist(), strict=True))


def _empty(faiss: Any, kind: str, d: int, size: int, corpus: Corpus) -> Any:
    if kind == "hnsw":
        graph = faiss.IndexHNSWFlat(d, 32, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction = 80
        return faiss.IndexIDMap2(graph)
    if kind != "ivf-pq":
        raise ConfigError(f"index kind: expected flat, hnsw or ivf-pq, got {kind!r}")
    lists = max(16, min(2 ** round(math.log2(4 * math.sqrt(size))), size // 40))
    parts = next(m for m in range(max(d // 2, 1), 0, -1) if d % m == 0)
    index = faiss.index_factory(d, f"IVF{lists},PQ{parts}x4fs", faiss.METRIC_INNER_PRODUCT)  # scanned in registers
    index.cp.niter = 8
    taken = sample(corpus, max(lists * TRAIN_ROWS_A_LIST, 10_000), size)
    index.train(taken)
    return index


def _enough_probes(faiss: Any, index: Any, corpus: Corpus, size: int) -> int:
    """The fewest lists to look into, doubled from the root of their number, that find the true neighbours of points
    halfway between two passages far apart in the corpus. A passage would be too easy: questions lie between passages,
    and such points are as hard to search for (at 200,000 real vectors, 16 to 128 of 2,048 lists find .93, .97, .99
    and 1.00 of what questions want, as much of these points' neighbours, and .99 to 1.00 of passages'). In a corpus of
    many near-copies they are easier than questions, too: hence the root."""
    from faiss.contrib.exhaustive_search import knn_ground_truth  # pyright: ignore[reportUnknownVariableType]

    ends = sample(corpus, 2 * PROBED, size)
    half = len(ends) // 2
    asked = ends[:half] + ends[half : 2 * half]
    asked /= np.maximum(np.linalg.norm(asked, axis=1, keepdims=True), 1e-9)
    rows: list[NDArray[np.int64]] = []

    def batches() -> Iterator[Vectors]:
        for numbers, vectors in corpus.all_vectors():
            rows.append(numbers)
            yield vectors

    _, places = knn_ground_truth(asked, batches(), min(NEIGHBOURS, size), faiss.METRIC_INNER_PRODUCT)
    true = np.concatenate(rows)[places]
    lists = int(_ivf(faiss, index).nlist)
    probes = 2 ** round(math.log2(lists) / 2)
    while probes < lists:
        _, found = index.search(asked, CANDIDATES, params=faiss.SearchParametersIVF(nprobe=probes))
        share = np.mean([np.isin(mine, theirs).mean() for mine, theirs in zip(true, found, strict=True)])
        if share >= WANTED:
            break
        probes *= 2
    return min(probes, lists)


def sample(corpus: Corpus, wanted: int, size: int) -> Vectors:
    """About so many vectors, evenly over the corpus."""
    step = max(1, size // wanted)
    return np.concatenate([vectors[::step] for _, vectors in corpus.all_vectors()])


def _ivf(faiss: Any, index: Any) -> Any:
    return faiss.extract_index_ivf(index)


def manifest_of(corpus: Corpus) -> dict[str, Any]:
    """What is known of the index file in force; empty where there is none. Raises ConfigError."""
    try:
        made: dict[str, Any] = json.loads((corpus.folder / MANIFEST).read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as fault:
        raise ConfigError(
            f"{corpus.folder}/{MANIFEST}: cannot be read: {fault}; `consilium index build` makes it again"
        ) from fault
    if made.get("format") != FORMAT:
        raise ConfigError(f"{corpus.folder}/{MANIFEST}: expected format {FORMAT}, found {made.get('format')}")
    return made


def _embedded(corpus: Corpus) -> Embedded:
    if corpus.embedded is None:
        raise ConfigError(f"{corpus.folder}: this corpus has no vectors; search it by words (`provider: lexical`), or "
                          "build it with an encoder")  # fmt: skip
    return corpus.embedded
