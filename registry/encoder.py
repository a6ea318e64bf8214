"""The manifest of an encoder: what turns a query into a vector."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from registry.manifest import Manifest, Text

Runtime = Literal["onnx-int8", "onnx", "torch"]


class EncoderManifest(Manifest, frozen=True):
    """What turns a query into a vector.

    The one called `default` exists, with the defaults below, without being declared.
    """

    kind: Literal["encoder"] = Field("encoder", description="`encoder`.")
    model: Text = Field(
        "all-MiniLM-L6-v2", description="A sentence-transformers model: a hub name, or the path of a folder."
    )
    runtime: Runtime = Field(
        "onnx-int8",
        description="What runs it: `onnx-int8` (fastest), `onnx` (32-bit floats) or `torch` (sentence-transformers).",
    )
