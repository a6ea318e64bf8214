"""Whether a served fused model says what the plain reference says: the same tokens, log-probabilities and speakers.

A greedy answer is the reference's own exactly when, at each of its places, its token is the one that the reference
likes best after what came before. So one pass over an answer settles it, and no second decoding has to keep in step.

Two kernels round differently: where the reference's two best tokens are a tie to within `TIE`, either is greedy.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (torch leaves parts of its signatures untyped)

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple
from urllib.request import Request, urlopen

from experts.fusion.marks import MARKS, Mark, read
from experts.fusion.reference import Reference

TIE = 1e-3
"""Nats; float32 kernels of one model differ by about 1e-5."""
CLOSE = 2e-2
"""Nats; what most log-probabilities in bfloat16 differ by at most."""


class Told(NamedTuple):
    """An answer as token ids, with the log-probability and the mark of each."""

    prompt: list[int]
    ids: list[int]
    logprobs: list[float]
    marks: list[Mark | None]
    text: str
    cached: int


class Compared(NamedTuple):
    """`equal`: the reference's own greedy answer; `tie`: it is not, but for a tie; `margin`: by how much the reference
    likes its own token better where they part; `worst`: largest difference of a log-probability up to there; `apart`:
    tokens up to there that differ by more than `CLOSE`; `speakers`: those that the same expert spoke, of `tokens`."""

    equal: bool
    tie: bool
    margin: float
    worst: float
    apart: int
    speakers: int
    tokens: int


def post(url: str, path: str, body: Mapping[str, Any], timeout_s: float = 300.0) -> dict[str, Any]:
    """A JSON answer of the server at `url` (ends in /v1)."""
    request = Request(f"{url}{path}", json.dumps(body).encode(), {"content-type": "application/json"})
    with urlopen(request, timeout=timeout_s) as response:
        return json.load(response)


def ask(url: str, model: str, prompt: str, vocabulary: int, most: int, **more: Any) -> Told:
    """A greedy answer, unless `more` says otherwise."""
    body = {
        "model": model, "messages": [{"role": "user", "content": prompt}], "temperature": 0, "max_tokens": most,
        "logprobs": True, "logprob_token_ids": list(range(vocabulary, vocabulary + MARKS)), "return_token_ids": True,
    }  # fmt: skip
    found = post(url, "/chat/completions", {**body, **more})
    (choice,) = found["choices"]
    content: list[dict[str, Any]] = choice["logprobs"]["content"]
    marks = [read(*(row["logprob"] for row in entry["top_logprobs"][-MARKS:])) for entry in content]
    cached = ((found["usage"] or {}).get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    return Told(found["prompt_token_ids"], choice["token_ids"], [entry["logprob"] for entry in content], marks,
                choice["message"]["content"] or "", cached)  # fmt: skip


def ask_all(
    url: str, model: str, prompts: Sequence[str], vocabulary: int, most: int, at_once: int, **more: Any
) -> list[Told]:
    """Every prompt's answer, `at_once` of them under way at a time."""

    def one(prompt: str) -> Told:
        return ask(url, model, prompt, vocabulary, most, **more)

    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(one, prompts))


def compare(reference: Reference, told: Told) -> Compared:
    """One greedy answer against the reference."""
    rows = reference.step([*told.prompt, *told.ids[:-1]])
    here = slice(len(told.prompt) - 1, None)
    logprobs, experts = rows.logprobs[here], rows.expert[here].tolist()
    best = logprobs.argmax(dim=-1).tolist()
    parted = next((place for place, (ours, theirs) in enumerate(zip(best, told.ids, strict=True)) if ours != theirs),
                  None)  # fmt: skip
    upto = len(told.ids) if parted is None else parted
    differences = [abs(float(logprobs[i, told.ids[i]]) - told.logprobs[i]) for i in range(upto)]
    worst, apart = max(differences, default=0.0), sum(one > CLOSE for one in differences)
    speakers = sum(mark is not None and mark.expert == expert
                   for mark, expert in zip(told.marks[:upto], experts[:upto], strict=True))  # fmt: skip
    margin = 0.0 if parted is None else float(logprobs[parted, best[parted]] - logprobs[parted, told.ids[parted]])
    return Compared(parted is None, parted is not None and margin <= TIE, margin, worst, apart, speakers, upto)


def logprobs(reference: Reference, told: Told) -> list[float]:
    """What the reference says of an answer's own tokens."""
    rows = reference.step([*told.prompt, *told.ids[:-1]]).logprobs[len(told.prompt) - 1 :]
    return [float(row[token]) for row, token in zip(rows, told.ids, strict=True)]


def summary(found: Sequence[Compared]) -> dict[str, Any]:
    """`prompts`, how many are `equal`, `ties` and `differ`; the largest `margin` of those that are not equal; the
    largest difference of a log-probability, and the share of tokens within `CLOSE`; the share of tokens with the same
    speaker."""
    tokens = sum(one.tokens for one in found)
    return {
        "prompts": len(found), "equal": sum(one.equal for one in found), "ties": sum(one.tie for one in found),
        "differ": sum(not one.equal and not one.tie for one in found),
        "margin": max((one.margin for one in found), default=0.0), "tokens": tokens,
        "logprob_difference": max((one.worst for one in found), default=0.0),
        "within_close": 1 - sum(one.apart for one in found) / max(tokens, 1),
        "same_speaker": sum(one.speakers for one in found) / max(tokens, 1),
    }  # fmt: skip
