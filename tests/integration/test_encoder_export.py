"""The real all-MiniLM-L6-v2: exported by child processes, served, and compared with sentence-transformers."""

from __future__ import annotations

import gzip
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import orjson
import pytest

from experts.protocols import Encoder, Vectors
from experts.retrieval.encoders import EXPORTED, open_encoder
from experts.retrieval.encoders.cache import Exported, read_export
from router.embedding import Embedding

ROOT = Path(__file__).resolve().parents[2]
EXPORT = [sys.executable, "-m", "experts.retrieval.encoders.export"]
PER_SOURCE = 60
SOURCES = (
    ("outcomes/lookahead/outcomes.jsonl.gz", "prompt", 40),
    ("outcomes/mmlu_pro/outcomes.jsonl.gz", "prompt", 40),
    ("intents/clinc150/clinc150.jsonl.gz", "text", 40),
    ("retrieval/medquad/corpus.jsonl.gz", "text", 40),
    ("evals/humaneval/humaneval.jsonl.gz", "prompt", 1),
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_200)]


@dataclass(frozen=True)
class Exports:
    cache: Path
    both: Mapping[str, Exported]
    printed: tuple[str, str]


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Exports:
    """Both runtimes' exports in one cache; `onnx` made by two processes that began at once."""
    cache = tmp_path_factory.mktemp("encoder-cache")
    command = [*EXPORT, "--cache", str(cache), "--runtime", "onnx"]
    with (
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as one,
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as other,
    ):
        first, second = one.communicate()[0], other.communicate()[0]
    assert (one.returncode, other.returncode) == (0, 0)
    assert open_encoder(runtime="onnx-int8", cache=cache).dimensions == 384
    (folder,) = (cache / "encoders").iterdir()
    found = {runtime: read_export(folder, runtime) for runtime in ("onnx", "onnx-int8")}
    return Exports(cache, {name: one for name, one in found.items() if one is not None}, (first, second))


@pytest.fixture(scope="session")
def texts(data_folder: Path) -> list[str]:
    """Three hundred real texts: exam questions, requests, medical passages, code."""
    found: list[str] = []
    for name, key, step in SOURCES:
        with gzip.open(data_folder / name, "rt") as lines:
            found += [orjson.loads(line)[key] for line in islice(lines, 0, PER_SOURCE * step, step)]
    return found


EXACTLY = """
import sys
from pathlib import Path
import numpy, orjson
from experts.retrieval.encoders import open_encoder
encoder = open_encoder(runtime="torch")
numpy.save(sys.argv[2], encoder.encode(orjson.loads(Path(sys.argv[1]).read_bytes())))
print(encoder.fingerprint)
"""


@pytest.fixture(scope="session")
def exact(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Vectors:
    """What sentence-transformers makes of the texts, in a process of its own."""
    folder = tmp_path_factory.mktemp("exact")
    (folder / "texts.json").write_bytes(orjson.dumps(texts))
    done = subprocess.run(
        [sys.executable, "-c", EXACTLY, str(folder / "texts.json"), str(folder / "vectors.npy")],
        cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert done.stdout.strip().endswith("/torch/v1.2")
    return np.load(folder / "vectors.npy")


def test_two_processes_at_once_make_one_export(exports: Exports) -> None:
    assert exports.printed[0] == exports.printed[1] != ""
    (folder,) = (exports.cache / "encoders").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "onnx-int8.v1", "onnx.v1"]


def test_the_manifest_says_what_was_exported(exports: Exports) -> None:
    manifest = exports.both["onnx-int8"].manifest
    assert (manifest.model, manifest.pooling, manifest.max_length, manifest.dimensions) == (
        "all-MiniLM-L6-v2", "mean", 256, 384,
    )  # fmt: skip
    assert manifest.similarity > 0.98
    assert manifest.files["model.onnx"][0] < 25e6 < exports.both["onnx"].manifest.files["model.onnx"][0]
    fingerprints = {one.manifest.fingerprint for one in exports.both.values()}
    assert len(fingerprints) == 2


@pytest.mark.data
@pytest.mark.parametrize(("runtime", "mean", "least"), [("onnx", 0.9999, 0.999), ("onnx-int8", 0.99, 0.95)])
def test_the_export_agrees_with_sentence_transformers(
    exports: Exports, texts: list[str], exact: Vectors, runtime: str, mean: float, least: float
) -> None:
    found = open_encoder(runtime=runtime, cache=exports.cache).encode(texts)
    cosines = np.sum(found * exact, axis=1)
    assert len(cosines) == 300
    assert cosines.mean() >= mean
    assert cosines.min() >= least
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-5)


@pytest.mark.parametrize("runtime", EXPORTED)
def test_a_vector_does_not_depend_on_company_or_order(exports: Exports, runtime: str) -> None:
    encoder: Encoder = open_encoder(runtime=runtime, cache=exports.cache)
    asked = ["short", "a text of a few more words than that", "long " * 400]
    together = encoder.encode(asked)
    for text, vector in zip(asked, together, strict=True):
        np.testing.assert_array_equal(encoder.encode([text])[0], vector)
    np.testing.assert_array_equal(encoder.encode(asked[::-1]), together[::-1])


SERVE = """
import sys
from pathlib import Path
from time import perf_counter
import psutil
start = perf_counter()
from experts.retrieval.encoders import EXPORTED, open_encoder
encoder = open_encoder(cache=Path(sys.argv[1]))
encoder.encode(["ready?"])
encoder.encode(["a long text " * 200] * 8)
loaded = {name.partition(".")[0] for name in sys.modules}
print(sorted(loaded & {"torch", "transformers", "sentence_transformers", "onnx"}))
print(psutil.Process().memory_info().rss // 2**20)
"""


def test_serving_imports_no_torch_and_stays_small(exports: Exports) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SERVE, str(exports.cache)], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    heavy, megabytes = done.stdout.split("\n")[:2]
    assert heavy == "[]"
    assert int(megabytes) <= 200


async def test_the_gateways_embedding_gives_the_encoders_vector(exports: Exports) -> None:
    encoder = open_encoder(cache=exports.cache)
    embedding = Embedding(encoder)
    text = "Which expert knows about trains?"
    np.testing.assert_array_equal(await embedding.embed([text], [1.0]), encoder.encode([text])[0])
    embedding.close()


def test_an_export_that_fails_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    model = tmp_path / "broken"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "no-such-architecture"}')
    done = subprocess.run(
        [*EXPORT, "--model", str(model), "--cache", str(tmp_path)],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert f"encoder {model}: sentence-transformers cannot load" in done.stderr
    (folder,) = (tmp_path / "encoders").iterdir()
    assert [path.name for path in folder.iterdir()] == [".lock"]
