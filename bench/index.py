"""The product's own index at a million vectors: time of a search, recall against exact search, memory.

    python bench/index.py --data beir/ --json bench/index.json

The vectors are those of the documents in DATA (one BEIR folder a domain), repeated with noise until there are enough;
the queries are its test queries, unchanged. The corpus, the index and the search are those that a gateway uses, with
the index that it chooses by size.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from time import perf_counter

import numpy as np

from evals.retrieval.data import read_domains
from experts.retrieval.corpus import Corpus, Document, create_corpus, open_corpus
from experts.retrieval.embedded import embed
from experts.retrieval.encoders import open_encoder
from experts.retrieval.indexing import embedded_by
from experts.retrieval.nearest import Nearest, optimise

BATCH = 20_000
NOISE = 0.5
"""Length of the noise that is added to a unit vector before it is brought back to unit length."""
K = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folders in the shape of BEIR")
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=400)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    encoder = open_encoder()
    domains = read_domains(chosen.data)
    real = embed([text for domain in domains for text in domain.texts], encoder)
    asked = embed([query.text for domain in domains for query in domain.test()], encoder)
    rng = np.random.default_rng(0)
    asked = asked[rng.permutation(len(asked))[: chosen.queries]]
    with tempfile.TemporaryDirectory() as folder:
        corpus = create_corpus(Path(folder) / "million", embedded_by(encoder, "all-MiniLM-L6-v2", "onnx-int8"))
        started = perf_counter()
        for number, rows in enumerate(_noisy(real, chosen.vectors, rng)):
            corpus.put([Document(f"{number}-{row}", "", ("",), {}) for row in range(len(rows))], rows)
        stored = perf_counter() - started
        made = optimise(corpus)
        built = perf_counter() - started - stored
        corpus.close()
        told = {
            "vectors": chosen.vectors, "dimensions": encoder.dimensions, "noise": NOISE,
            "index": made["kind"] if made else "flat", "probes": made["probes"] if made else None,
            "store_s": round(stored, 1), "build_s": round(built, 1), "build_peak_mb": _peak_mb(),
            **_searched(Path(folder) / "million", asked),
        }  # fmt: skip
    print(json.dumps(told, indent=2))
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(told, indent=2) + "\n")


def _noisy(real: np.ndarray, count: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    for start in range(0, count, BATCH):
        rows = real[np.arange(start, min(start + BATCH, count)) % len(real)]
        noise = rng.normal(size=rows.shape).astype(np.float32)
        rows = rows + NOISE * noise / np.linalg.norm(noise, axis=1, keepdims=True)
        yield (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def _searched(folder: Path, asked: np.ndarray) -> dict[str, object]:
    corpus = open_corpus(folder)
    before = _resident_mb()
    near = Nearest(corpus)
    spent: list[float] = []
    found: list[set[int]] = []
    for query in asked:
        started = perf_counter()
        found.append({row for row, _ in near.search(query, K)})
        spent.append(1000 * (perf_counter() - started))
    memory = _resident_mb() - before
    exact = _exact(corpus, asked)
    files = {file.name.rpartition(".")[2]: file.stat().st_size for file in folder.iterdir()}
    corpus.close()
    right = [len(mine & true) / K for mine, true in zip(found, exact, strict=True)]
    return {
        "recall_at_10": round(float(np.mean(right)), 4),
        "p50_ms": round(float(np.median(spent)), 2), "p95_ms": round(float(np.quantile(spent, 0.95)), 2),
        "search_memory_mb": round(memory, 1), "index_file_mb": round(files.get("faiss", 0) / 2**20, 1),
        "corpus_file_mb": round(files["sqlite"] / 2**20, 1),
    }  # fmt: skip


def _exact(corpus: Corpus, asked: np.ndarray) -> list[set[int]]:
    """The true best K of each query, a batch of the corpus at a time."""
    scores = np.full((len(asked), K), -np.inf, np.float32)
    rows = np.zeros((len(asked), K), np.int64)
    for numbers, vectors in corpus.all_vectors(BATCH):
        every = np.concatenate([scores, asked @ vectors.T], axis=1)
        names = np.concatenate([rows, np.broadcast_to(numbers, (len(asked), len(numbers)))], axis=1)
        best = np.argpartition(-every, K, axis=1)[:, :K]
        scores, rows = np.take_along_axis(every, best, axis=1), np.take_along_axis(names, best, axis=1)
    return [set(row.tolist()) for row in rows]


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def _peak_mb() -> float:
    return round(getrusage(RUSAGE_SELF).ru_maxrss / 1024, 1)


if __name__ == "__main__":
    main()
