"""Whether a vLLM server and transformers say the same on the same weights, greedily, in float32."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.request import Request, urlopen

from experts.pocket.questions import SKILLS, questions


class Difference(NamedTuple):
    """A prompt that the two answer differently."""

    model: str
    prompt: str
    server: str
    local: str


def ask(url: str, model: str, prompt: str, longest: int, timeout_s: float = 60.0) -> str:
    """The greedy answer of an OpenAI-compatible server at `url` (ends in `/v1`), of `longest` tokens at most."""
    message = {"role": "user", "content": prompt}
    body = {"model": model, "messages": [message], "temperature": 0, "max_tokens": longest}
    data = json.dumps(body).encode()
    request = Request(f"{url}/chat/completions", data, {"content-type": "application/json"})
    with urlopen(request, timeout=timeout_s) as response:
        return json.load(response)["choices"][0]["message"]["content"] or ""


def differences(url: str, weights: Path, n: int = 10, names: Sequence[str] = ("base", *SKILLS)) -> list[Difference]:
    """The differences on n held-out questions of each skill, asked of each model named; none are expected.

    The models are `pocket-<name>` on the server, and the base with its unmerged adapter here.
    """
    from experts.pocket.answering import LONGEST, load, replies

    found: list[Difference] = []
    for name in names:
        model = load(weights, name, merged=False)
        prompts = [question.prompt for skill in SKILLS for question in questions(skill, "test", n, 7)]
        for prompt, local in zip(prompts, replies(model, prompts, batch=1), strict=True):
            server = ask(url, f"pocket-{name}", prompt, LONGEST)
            if server != local.text:
                found.append(Difference(f"pocket-{name}", prompt, server, local.text))
    return found
