"""The runtime `openai`: an encoder behind an OpenAI-compatible `/v1/embeddings`, such as vLLM's.

Blocking, like every encoder: the gateway calls it in the encoder's thread. Vectors are brought to unit length.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import numpy as np

from experts.errors import ConfigError, NotReady
from experts.protocols import Vectors

MOST_TEXTS = 128
TIMEOUT_S = 60.0


class RemoteEncoder:
    """`url` is the server's base, up to and including /v1. The first call asks for the vectors' length."""

    def __init__(self, model: str, url: str, api_key: str = "") -> None:
        if not url.startswith(("http://", "https://")):
            raise ConfigError(f"encoder {model}: url: expected the base of an OpenAI-compatible server, got {url!r}")
        self._model = model
        self._url = url.rstrip("/") + "/embeddings"
        self._headers = {"content-type": "application/json"}
        if api_key:
            self._headers["authorization"] = f"Bearer {api_key}"
        self._dimensions = 0

    @property
    def fingerprint(self) -> str:
        return f"openai/{self._model}"

    @property
    def dimensions(self) -> int:
        if not self._dimensions:
            self.encode(["How long is a vector?"])
        return self._dimensions

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Raises NotReady where the server cannot be reached or answers with something else."""
        rows = [row for at in range(0, len(texts), MOST_TEXTS) for row in self._ask(list(texts[at : at + MOST_TEXTS]))]
        found = np.array(rows, np.float32).reshape(len(texts), -1)
        self._dimensions = self._dimensions or found.shape[1]
        return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)

    def _ask(self, texts: list[str]) -> list[list[float]]:
        body = json.dumps({"model": self._model, "input": texts, "encoding_format": "float"}).encode()
        try:
            with urlopen(Request(self._url, body, self._headers), timeout=TIMEOUT_S) as reply:
                said = json.loads(reply.read())
            rows = sorted(said["data"], key=lambda row: row["index"])
            if len(rows) != len(texts):
                raise ValueError(f"expected {len(texts)} vectors, got {len(rows)}")
            return [row["embedding"] for row in rows]
        except HTTPError as fault:
            raise NotReady(f"encoder {self._model}: {self._url} answered {fault.code}") from fault
        except (URLError, TimeoutError, ValueError, KeyError, TypeError) as fault:
            raise NotReady(f"encoder {self._model}: {self._url} gave no vectors: {fault}") from fault
