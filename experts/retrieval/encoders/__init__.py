"""Encoders: texts to unit vectors, under one of three runtimes of the same sentence-transformers model.

| runtime | what runs | for |
|---|---|---|
| `onnx-int8` | onnxruntime, weights and activations in 8 bits | serving (the default) |
| `onnx` | onnxruntime, 32-bit floats | serving without the rounding |
| `torch` | sentence-transformers itself | exactness; needs torch in the process |
| `openai` | an OpenAI-compatible server's `/v1/embeddings` | models too large for this process |

The two ONNX runtimes need only `onnxruntime` and `tokenizers`. Their files are made once, by a child process, from
the model (`experts.retrieval.encoders.export`), and kept in a cache (`experts.retrieval.encoders.cache`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from experts.errors import ConfigError

if TYPE_CHECKING:
    from experts.protocols import Encoder

Runtime = Literal["onnx-int8", "onnx", "torch", "openai"]
RUNTIMES: tuple[str, ...] = get_args(Runtime)
EXPORTED: tuple[str, ...] = ("onnx-int8", "onnx")
"""The runtimes that run files made ahead of time."""
DEFAULT_MODEL = "all-MiniLM-L6-v2"
DEFAULT_RUNTIME: Runtime = "onnx-int8"


def open_encoder(
    model: str = DEFAULT_MODEL, runtime: str = DEFAULT_RUNTIME, *, threads: int = 1, cache: Path | None = None,
    url: str = "", api_key: str = "",
) -> Encoder:  # fmt: skip
    """The encoder of a model, ready to encode. Blocking: about a second, and a minute where it must be exported first.

    `model` is a folder, a hub name, or `all-MiniLM-L6-v2`, which an installed package holds. `threads` is how many
    one `encode` may use (for `torch` that is set for the whole process). `cache` overrides the folder that
    `experts.cache.cache_root` names. `url` and `api_key` are the runtime `openai`'s: its server, up to and with /v1.

    Raises ConfigError for an unknown runtime, a model that cannot be found, and a model that has not been exported
    where nothing here can export it: the message says what to run, where, and where to put the result.
    """
    if threads < 1:
        raise ConfigError(f"encoder {model}: threads: expected 1 or more, got {threads}")
    match runtime:
        case "torch":
            from experts.retrieval.encoders.exact import load_exact

            return load_exact(model, threads=threads)
        case "onnx" | "onnx-int8":
            from experts.retrieval.encoders.exporting import find_or_export
            from experts.retrieval.encoders.serving import load_onnx

            return load_onnx(find_or_export(model, runtime, cache=cache), threads=threads)
        case "openai":
            from experts.retrieval.encoders.remote import RemoteEncoder

            return RemoteEncoder(model, url, api_key)
        case _:
            raise ConfigError(f"encoder {model}: runtime: expected one of {', '.join(RUNTIMES)}, got {runtime!r}")
