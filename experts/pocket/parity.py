"""Whether a vLLM server and transformers say the same on the same weights, greedily, in float32.

Two kernels round differently: where a model's two best characters are a tie to within `TIE` logits (it happens when it
rambles about what it cannot read), either is greedy, and what follows is no longer the same text.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.request import Request, urlopen

from experts.pocket.questions import SKILLS, questions

TIE = 1e-3
"""Logits; float32 kernels of one model differ by about 1e-5."""


class Difference(NamedTuple):
    """A prompt that the two answer differently; `margin` is by how many logits the local choice is preferred."""

    model: str
    prompt: str
    server: str
    local: str
    margin: float


def ask(url: str, model: str, prompt: str, longest: int, timeout_s: float = 300.0) -> str:
    """The greedy answer of an OpenAI-compatible server at `url` (ends in `/v1`), of `longest` tokens at most."""
    message = {"role": "user", "content": prompt}
    body = {"model": model, "messages": [message], "temperature": 0, "max_tokens": longest}
    data = json.dumps(body).encode()
    request = Request(f"{url}/chat/completions", data, {"content-type": "application/json"})
    with urlopen(request, timeout=timeout_s) as response:
        return json.load(response)["choices"][0]["message"]["content"] or ""


def differences(url: str, weights: Path, n: int = 10, names: Sequence[str] = ("base", *SKILLS)) -> list[Difference]:
    """The differences on n held-out questions of each skill, asked of each model named, but for ties: none, that is.

    The models are `pocket-<name>` on the server, and the base with its unmerged adapter here.
    """
    from experts.pocket.answering import LONGEST, load, margin, replies

    found: list[Difference] = []
    for name in names:
        model = load(weights, name, merged=False)
        prompts = [question.prompt for skill in SKILLS for question in questions(skill, "test", n, 7)]
        for prompt, local in zip(prompts, replies(model, prompts, batch=1), strict=True):
            server = ask(url, f"pocket-{name}", prompt, LONGEST)
            if server == local.text:
                continue
            same = next((i for i, (x, y) in enumerate(zip(server, local.text, strict=False)) if x != y), None)
            agreed = server[: min(len(server), len(local.text)) if same is None else same]
            by = margin(model, prompt, agreed, local.text, server)
            if by > TIE:
                found.append(Difference(f"pocket-{name}", prompt, server, local.text, by))
    return found
