"""The manifest of an encoder: what turns a query into a vector."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator

from registry.manifest import Manifest, Text

Runtime = Literal["onnx-int8", "onnx", "torch", "openai"]


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
        description="What runs it: `onnx-int8` (fastest), `onnx` (32-bit floats), `torch` (sentence-transformers) "
        "or `openai` (a server's `/v1/embeddings`, such as vLLM's).",
    )
    url: str = Field("", description="For `openai`: the server's base URL, up to and including /v1.")
    api_key: SecretStr | None = Field(None, description="For `openai`: sent as a bearer token, such as ${KEY}.")

    @model_validator(mode="after")
    def _its_server(self) -> Self:
        if (self.runtime == "openai") != bool(self.url):
            raise ValueError("url: the runtime `openai` has one, and no other")
        return self
