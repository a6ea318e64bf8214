"""The serving runtime: `tokenizers` and `onnxruntime`, nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experts.protocols import Vectors
from experts.retrieval.encoders.exported import Export

MOST_AT_ONCE = 32


class OnnxEncoder:
    """An exported model. Safe to call from one thread at a time.

    Batches are made of texts of like length, so that little padding is computed; a spinning thread pool would cost
    the gateway's event loop a core, so spinning is off.
    """

    def __init__(self, export: Export, threads: int = 1) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.enable_cpu_mem_arena = False
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            str(export.model), options, providers=["CPUExecutionProvider"]
        )  # fmt: skip
        self._inputs = {given.name for given in self._session.get_inputs()}
        self._tokenizer = Tokenizer.from_file(str(export.tokenizer))
        self._tokenizer.enable_truncation(export.length)
        self._tokenizer.no_padding()
        self._export = export

    @property
    def fingerprint(self) -> str:
        return self._export.fingerprint

    @property
    def dimensions(self) -> int:
        return self._export.dimensions

    def encode(self, texts: Sequence[str]) -> Vectors:
        out = np.empty((len(texts), self._export.dimensions), np.float32)
        rows = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        for start in range(0, len(order), MOST_AT_ONCE):
            chosen = order[start : start + MOST_AT_ONCE]
            width = len(rows[chosen[-1]])
            ids = np.zeros((len(chosen), width), np.int64)
            mask = np.zeros((len(chosen), width), np.int64)
            for row, i in enumerate(chosen):
                ids[row, : len(rows[i])] = rows[i]
                mask[row, : len(rows[i])] = 1
            given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
            out[chosen] = self._session.run(None, {k: v for k, v in given.items() if k in self._inputs})[0]
        return out
