"""Exports a sentence-transformers model to ONNX: `python -m experts.retrieval.encoders.export`. The one place, with
`exact.py`, that imports torch.

The graph holds every module of the model (transformer, pooling, dense, normalise), so that its output is the finished
unit vector. Attention is exported in its plain form: the fused call's guards against rows of nothing but padding cost
about a tenth of the int8 time, and no such row exists. After the export, texts of several kinds are encoded by both,
and an export that does not agree is never published.

Quantisation (`onnx-int8`): weights of MatMul and of the embedding tables in signed 8 bits, per output channel,
activations in unsigned 8 bits, scaled on the fly (Jacob et al. 2018, arXiv 1712.05877; onnxruntime's
`quantize_dynamic`). Measured with all-MiniLM-L6-v2 on 640 texts (exam questions, code, user queries, medical
passages), one thread of a busy CPU with AVX-512 VNNI, as mean cosine with sentence-transformers and CPU milliseconds
(10th percentile) for 13 and for 128 tokens:

| attention | what is quantised | cosine | 13 | 128 | MB |
|---|---|---|---|---|---|
| plain | nothing | 1.0000 | 5.0 | 21.8 | 91 |
| **plain** | **MatMul and Gather, per channel** | **.9937** | **2.3** | **12.0** | **23** |
| plain | weights in blocks of 32 (`MatMulNBits`) | .9994 | 3.3 | 20.1 | 25 |
| fused call | nothing | 1.0000 | 4.9 | 22.6 | 91 |
| fused call | MatMul and Gather, per channel | .9936 | 2.6 | 13.0 | 23 |
| fused call | MatMul alone | .9939 | 2.3 | 12.5 | 59 |
| fused call | per tensor | .9543 | 2.3 | 12.6 | 23 |
| fused call | 7-bit weights (`reduce_range`) | .9923 | 2.5 | 12.6 | 23 |
| fused call | unsigned weights | .9937 | 3.2 | 18.2 | 23 |

Leaving the feed-forward down-projections in floats raised the cosine from .9940 to .9970 on 150 of the texts, for
1.3 to 1.4 times the time. `reduce_range` guards CPUs of before VNNI (2019) against a saturating 16-bit sum; it is
off. Activations are scaled over the whole of a run, so texts are run one by one: see `serving.py`.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from shutil import copyfile
from typing import TYPE_CHECKING, Any

import numpy as np

from experts.errors import ConfigError, ConsiliumError
from experts.retrieval.encoders import DEFAULT_MODEL, DEFAULT_RUNTIME
from experts.retrieval.encoders.cache import (
    EXPORT_VERSION,
    MODEL_FILE,
    TOKENIZER_FILE,
    EncoderManifest,
    Exported,
    building,
    describe_files,
    exporting,
    model_folder,
    publish,
    read_export,
)
from experts.retrieval.encoders.source import content_hash, find_model, model_slug

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

OPSET = 18
LOWEST_SIMILARITY = {"onnx": 0.9999, "onnx-int8": 0.97}
MADE_WITH = ("torch", "transformers", "sentence-transformers", "onnx", "onnxscript", "onnxruntime")
CHECKED_WITH = (
    "What is the capital of France?",
    "UPPER CASE, ünïcödé und Sonderzeichen: naïve café, 東京, эксперт, 🙂",
    "def add(a, b):\n    return a + b  # sum of two numbers",
    "SELECT name FROM city WHERE population > 1000000 ORDER BY name;",
    "Integrate x^2 from 0 to 1, and show each step of the work.",
    "A train leaves at nine and travels for three hours at eighty kilometres an hour. " * 8,
    "Long texts are cut where the model stops reading, and both must stop at the same word. " * 120,
    "ok",
)


def export(model: str, runtime: str, *, source: Path | None = None, cache: Path | None = None) -> Exported:
    """Makes the export, or finds it made; waits while another process makes it.

    Raises ConfigError where the model cannot be found, has no tokenizer that `tokenizers` can run, or its export
    does not agree with it.
    """
    folder = source or find_model(model)
    slug, digest = model_slug(model), content_hash(folder)
    place = model_folder(cache, slug, digest)
    with exporting(place):
        found = read_export(place, runtime)
        if found is not None:
            return found
        with building(place) as built:
            return _build(model, slug, digest, folder, runtime, place, built)


def _build(model: str, slug: str, digest: str, folder: Path, runtime: str, place: Path, built: Path) -> Exported:
    from experts.retrieval.encoders.exact import load_sentence_transformer

    loaded = load_sentence_transformer(model, folder)
    exact = read_export(place, "onnx")
    if exact is not None:
        copyfile(exact.folder / MODEL_FILE, built / MODEL_FILE)
    inputs = exact.manifest.inputs if exact is not None else _write_graph(model, loaded, built / MODEL_FILE)
    _write_tokenizer(model, loaded, built / TOKENIZER_FILE)
    if runtime == "onnx-int8":
        _quantise(built / MODEL_FILE)
    manifest = EncoderManifest(
        model=slug, source=digest, runtime=runtime, version=EXPORT_VERSION, pooling=_pooling(loaded),
        dimensions=int(loaded.get_sentence_embedding_dimension() or 0), max_length=_max_length(loaded),
        pad=int(loaded.tokenizer.pad_token_id or 0), inputs=inputs, similarity=0.0,
        made_with={name: version(name) for name in MADE_WITH}, files={},
    )  # fmt: skip
    similarity = _check(model, loaded, Exported(built, manifest))
    fields = {name: getattr(manifest, name) for name in EncoderManifest.__dataclass_fields__}
    fields |= {"similarity": round(similarity, 6), "files": describe_files(built)}
    return publish(built, place, EncoderManifest(**fields))


def _write_graph(model: str, loaded: SentenceTransformer, path: Path) -> tuple[str, ...]:
    """Returns the names of the graph's inputs, all of shape (batch, length), int64."""
    import torch

    class Whole(torch.nn.Module):
        """All modules of the model as one, from token ids to unit vectors."""

        def __init__(self) -> None:
            super().__init__()
            self.parts = torch.nn.ModuleList(list(loaded.children()))

        def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
            features: dict[str, Any] = dict(zip(names, tensors, strict=True))
            for part in self.parts:
                features = part(features)
            return torch.nn.functional.normalize(features["sentence_embedding"], dim=-1)

    transformer: Any = next(loaded.children())
    if hasattr(transformer, "auto_model"):
        transformer.auto_model.set_attn_implementation("eager")
    sample: Any = loaded.tokenizer(["What is asked?", "And what else?"], padding=True, return_tensors="pt")
    names = tuple(name for name in ("input_ids", "attention_mask", "token_type_ids") if name in sample)
    batch, length = torch.export.Dim("batch"), torch.export.Dim("length", max=_max_length(loaded))
    try:
        torch.onnx.export(  # pyright: ignore[reportUnknownMemberType]
            Whole().eval(), tuple(sample[name] for name in names), str(path), input_names=list(names),
            output_names=["vectors"], dynamic_shapes=(tuple({0: batch, 1: length} for _ in names),),
            opset_version=OPSET, external_data=False, dynamo=True, verbose=False,
        )  # fmt: skip
    except torch.onnx.OnnxExporterError as fault:
        raise ConfigError(f"encoder {model}: its modules cannot be exported to ONNX ({fault}): use `torch`") from fault
    return names


def _write_tokenizer(model: str, loaded: SentenceTransformer, path: Path) -> None:
    tokenizer: Any = getattr(loaded.tokenizer, "backend_tokenizer", None)
    if tokenizer is None or not hasattr(tokenizer, "save"):
        raise ConfigError(f"encoder {model}: its tokenizer has no tokenizer.json form: use the runtime `torch`")
    tokenizer.save(str(path))


def _quantise(path: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic  # pyright: ignore[reportUnknownVariableType]

    small = path.with_suffix(".int8")
    quantize_dynamic(
        path, small, op_types_to_quantize=["MatMul", "Gather"], per_channel=True, reduce_range=False,
        weight_type=QuantType.QInt8, extra_options={"MatMulConstBOnly": True},
    )  # fmt: skip
    small.replace(path)


def _check(model: str, loaded: SentenceTransformer, exported: Exported) -> float:
    """The mean cosine with sentence-transformers. Raises ConfigError where it is below LOWEST_SIMILARITY."""
    from experts.retrieval.encoders.exact import encode_exactly
    from experts.retrieval.encoders.serving import load_onnx

    found = load_onnx(exported, threads=1).encode(CHECKED_WITH)
    cosines = np.sum(found * encode_exactly(loaded, CHECKED_WITH), axis=1)
    lowest, runtime = LOWEST_SIMILARITY[exported.manifest.runtime], exported.manifest.runtime
    if not cosines.mean() >= lowest:
        raise ConfigError(
            f"encoder {model} ({runtime}): expected a mean cosine of {lowest} or more with sentence-transformers, "
            f"got {cosines.mean():.5f}: the export is not used; the runtime `torch` is exact"
        )
    return float(cosines.mean())


def _max_length(loaded: SentenceTransformer) -> int:
    return int(loaded.max_seq_length or 512)


def _pooling(loaded: SentenceTransformer) -> str:
    modes = [str(getattr(part, "pooling_mode", "")) for part in loaded.children() if type(part).__name__ == "Pooling"]
    return ",".join(modes) or "none"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name if __spec__ else __name__}", description="Export.")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="a folder or a hub name (default: %(default)s)")
    parser.add_argument("--source", type=Path, help="the model's folder, where it is known already")
    parser.add_argument("--runtime", default=DEFAULT_RUNTIME, choices=sorted(LOWEST_SIMILARITY))
    parser.add_argument("--cache", type=Path, help="the cache (default: $CONSILIUM_CACHE, or ~/.cache/consilium)")
    given = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    try:
        exported = export(given.model, given.runtime, source=given.source, cache=given.cache)
    except ConsiliumError as fault:
        print(fault.message, file=sys.stderr)
        return 1
    print(f"{exported.folder}: {exported.manifest.fingerprint}, cosine {exported.manifest.similarity:.5f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
