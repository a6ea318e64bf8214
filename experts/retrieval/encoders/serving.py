"""The runtimes `onnx` and `onnx-int8`: `tokenizers` and `onnxruntime`, nothing else.

Every text is run alone. `onnx-int8` scales its activations over all that one run is given, so in company a text's
vector would depend on the company (mean cosine .993 between alone and in batches of 1,024 tokens, as near as either is
to the exact vector): the same question could be decided one way in a full batch and another way in an empty one, and
no figure measured on batches would be that of the gateway. It costs little: on one thread a token stops getting cheaper
at about a hundred a run, and there is no padding. Measured, one thread, CPU milliseconds a text, in batches and alone:

| runtime | exam questions, 130 tokens in the mean | 20 tokens |
|---|---|---|
| `onnx-int8` | 12.3, **10.3** | **2.1**, 2.4 |
| `onnx` | **22.6**, 24.1 | **4.1**, 5.5 |

onnxruntime's memory arena and patterns are off: with texts of many lengths the arena grew to several hundred MB and
kept them, without being faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from experts.errors import ConfigError
from experts.protocols import Vectors
from experts.retrieval.encoders.cache import MODEL_FILE, TOKENIZER_FILE, EncoderManifest, Exported

if TYPE_CHECKING:
    from tokenizers import Tokenizer


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
        """Shape (len(texts), dimensions), float32, unit rows. Blocking. A long text is cut at the model's length.

        A text's row is the same whatever it is encoded with.
        """
        out = np.empty((len(texts), self.dimensions), np.float32)
        for row, encoding in enumerate(self._tokenizer.encode_batch_fast(list(texts))):
            out[row] = self._session.run(None, self._feed(encoding.ids))[0][0]
        return out

    def _feed(self, ids: Sequence[int]) -> dict[str, NDArray[np.int64]]:
        row = np.array([ids], np.int64)
        feed = {"input_ids": row, "attention_mask": np.ones_like(row)}
        if "token_type_ids" in self._manifest.inputs:
            feed["token_type_ids"] = np.zeros_like(row)
        return feed


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
