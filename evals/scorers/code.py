"""`code`: the program in the answer passes the reference's tests, run in a sandbox (HumanEval, MBPP).

The reference is `{tests, prompt?, entry_point?, setup?}`. Of the answer, its code blocks are taken (the whole text
where it has none); an answer that only continues `prompt` is put after it. The score is 1 when all of it, the tests
last, runs to the end.
"""

from __future__ import annotations

import asyncio
from secrets import token_hex
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field

from evals.sample import Said, Sample, Score, ScorerParts
from router.answers.code import candidate
from router.sandbox import Isolation, Limits, isolation, run


class Options(BaseModel):
    """`seconds` of wall clock and CPU, and `megabytes` of memory, for one program; `at_once`: programs side by side."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    seconds: float = Field(default=10.0, gt=0, le=600)
    megabytes: int = Field(default=1024, ge=64)
    at_once: int = Field(default=2, ge=1)


class Code:
    def __init__(self, options: Options) -> None:
        self._limits = Limits(options.seconds, max(1, round(options.seconds)), options.megabytes * 2**20)
        self._slots = asyncio.Semaphore(options.at_once)
        self._isolation: Isolation | None = None

    async def score(self, sample: Sample, said: Said) -> Score:
        wanted = _reference(sample)
        program = candidate(said.text, str(wanted.get("prompt") or ""), str(wanted.get("entry_point") or ""))
        done = token_hex(8)
        whole = "\n\n".join([str(wanted.get("setup") or ""), program, str(wanted["tests"]), f"print({done!r})"])
        async with self._slots:
            if self._isolation is None:
                self._isolation = await isolation()
            ran = await run(whole, self._isolation, self._limits)
        if ran.status is None:
            return Score(0.0, f"not done after {self._limits.wall_s:g} s")
        if ran.status == 0 and ran.output.rstrip().endswith(done):
            return Score(1.0, "passed" if self._isolation.network else "passed (the network was not cut)")
        last = ran.output.strip().splitlines()
        return Score(0.0, f"failed with status {ran.status}: {last[-1][:300] if last else 'nothing printed'}")


def _reference(sample: Sample) -> dict[str, Any]:
    if not isinstance(sample.reference, dict) or "tests" not in sample.reference:  # pyright: ignore[reportUnknownMemberType]
        raise ValueError(f"sample {sample.id}: reference: expected {{tests, …}}, got {sample.reference!r}")  # pyright: ignore[reportUnknownMemberType]
    return cast(dict[str, Any], sample.reference)  # pyright: ignore[reportUnknownMemberType]


def build(options: Options, parts: ScorerParts) -> Code:
    return Code(options)
