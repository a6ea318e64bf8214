"""How sure an answer looks, from the answer itself: what a cascade escalates on. Pure, for serving and for fitting.

Sources: FrugalGPT (arXiv 2305.05176) for a small scorer of (query, answer) that says when to go on; AutoMix (arXiv
2310.12963) for self-agreement as evidence.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from math import exp
from typing import Any, NamedTuple
from warnings import catch_warnings

import orjson

from experts.language import Answer

_CODE = re.compile(r"```(?:python|py)\n(.*?)```", re.DOTALL)


class Evidence(NamedTuple):
    """`logprob`: mean token log-probability, None where the expert gave none; `agreement`: of further samples, 0 to 1,
    None where there were none; `prior`: the expert's estimated quality; `tokens` said; `weak`: a validator failed."""

    logprob: float | None = None
    agreement: float | None = None
    prior: float | None = None
    tokens: float = 0.0
    weak: bool = False


def flaw(text: str) -> str:
    """What a text shows by itself to be wrong with it; empty where nothing is."""
    if not text.strip():
        return "it says nothing"
    for code in _CODE.findall(text):
        try:
            with catch_warnings(action="ignore"):
                ast.parse(code)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as fault:
            return f"its code does not parse: {fault}"
    return ""


def mean_logprob(answer: Answer) -> float | None:
    """Of the first choice's tokens, from a whole chat answer."""
    if not answer.body:
        return None
    choices: list[dict[str, Any]] = orjson.loads(answer.body).get("choices") or [{}]
    logprobs: dict[str, Any] = choices[0].get("logprobs") or {}
    tokens: list[dict[str, Any]] = logprobs.get("content") or []
    values = [float(token["logprob"]) for token in tokens]
    return sum(values) / len(values) if values else None


def score(evidence: Evidence, weights: Mapping[str, float]) -> float:
    """P(the answer is right) of a logistic scorer: weights by field of Evidence, and `bias`. A field that is not known
    adds nothing."""
    total = weights.get("bias", 0.0)
    for name, value in zip(Evidence._fields, evidence, strict=True):
        if value is not None:
            total += weights.get(name, 0.0) * float(value)
    return 1.0 / (1.0 + exp(-max(min(total, 30.0), -30.0)))
