"""The runtimes `onnx` and `onnx-int8`: `tokenizers` and `onnxruntime`, nothing else.

On one thread the cost of a token stops falling at about a hundred tokens a batch, so batches are small
(TOKENS_PER_BATCH, padding counted) and hold texts of like length: large ones would only add padding and memory.
onnxruntime's memory arena and patterns are off: with texts of many lengths the arena grew to several hundred MB and
kept them, without being faster.

`onnx-int8` scales its activations over the whole batch, so a text's vector depends a little on what it is encoded
with (mean cosine .994 between alone and in company, as near as either is to the exact vector). Whoever needs the
same vector each time remembers it (`router.embedding` does), or uses `onnx`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from experts.errors import ConfigError
from experts.protocols import Vectors
from experts.retrieval.encoders.cache import MODEL_FILE, TOKENIZER_FILE, EncoderManifest, Exported

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENS_PER_BATCH = 1_024


class Session(Protocol):
    """The part of `onnxruntime.InferenceSession` that is used here; its own types are incomplete."""

    def run(self, output_names: None, input_feed: dict[str, NDArray[np.int64]]) -> Sequence[Vectors]: ...


class OnnxEncoder:
    """An exported model behind the Encoder protocol. `encode` may be called from several threads at once."""

    def __init__(self, manifest: EncoderManifest, session: Session, tokenizer: Tokenizer) -> None:
        self._manifest = manifest
        self._session = session
        self._tokenizer = tokenizer

    @property
    def fingerprint(self) -> str:
        return self._manifest.fingerprint

    @property
    def dimensions(self) -> int:
        return self._manifest.dimensions

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Shape (len(texts), dimensions), float32, unit rows. Blocking. A long text is cut at the model's length."""
        tokens = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]
        out = np.empty((len(tokens), self.dimensions), np.float32)
        for rows in batches([len(ids) for ids in tokens]):
            out[rows] = self._session.run(None, self._feed([tokens[row] for row in rows]))[0]
        return out

    def _feed(self, rows: Sequence[Sequence[int]]) -> dict[str, NDArray[np.int64]]:
        shape = (len(rows), max(map(len, rows)))
        ids, mask = np.full(shape, self._manifest.pad, np.int64), np.zeros(shape, np.int64)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = row
            mask[i, : len(row)] = 1
        feed = {"input_ids": ids, "attention_mask": mask}
        if "token_type_ids" in self._manifest.inputs:
            feed["token_type_ids"] = np.zeros(shape, np.int64)
        return feed


def batches(lengths: Sequence[int], *, most: int = TOKENS_PER_BATCH) -> Iterator[list[int]]:
    """Positions of `lengths` in batches of like length, longest first; rows times longest is at most `most`.

    A row longer than `most` is a batch of its own.
    """
    batch: list[int] = []
    for position in sorted(range(len(lengths)), key=lambda i: lengths[i], reverse=True):
        if batch and (len(batch) + 1) * lengths[batch[0]] > most:
            yield batch
            batch = []
        batch.append(position)
    if batch:
        yield batch


def load_onnx(exported: Exported, *, threads: int) -> OnnxEncoder:
    """Raises ConfigError where onnxruntime cannot load the export (one made by a newer version, for instance)."""
    onnxruntime: Any = import_module("onnxruntime")
    from tokenizers import Tokenizer

    faults: Any = import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    unloadable = (faults.Fail, faults.InvalidGraph, faults.InvalidProtobuf, faults.NotImplemented, RuntimeError)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(
            str(exported.folder / MODEL_FILE), options, providers=["CPUExecutionProvider"]
        )
    except unloadable as fault:
        raise ConfigError(
            f"{exported.folder}: onnxruntime {onnxruntime.__version__} cannot load this encoder ({fault}): "
            f"remove the folder, and it is made anew"
        ) from fault
    tokenizer = Tokenizer.from_file(str(exported.folder / TOKENIZER_FILE))
    tokenizer.enable_truncation(exported.manifest.max_length)  # pyright: ignore[reportUnknownMemberType]
    tokenizer.no_padding()
    return OnnxEncoder(exported.manifest, session, tokenizer)
