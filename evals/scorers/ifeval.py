"""`ifeval`: every instruction of the prompt is followed, each checked by a program (IFEval, arXiv 2311.07911).

The reference is `{instruction_id_list, kwargs}` as published. Strict, at the level of the prompt: 1 where all are
followed. `loose` also accepts the answer without its first or last line, or without asterisks, as the paper does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from pydantic import BaseModel, ConfigDict

from evals.sample import Said, Sample, Score, ScorerParts
from evals.scorers._instructions import CHECKS


class Options(BaseModel):
    """`loose`: as above. `partial`: the score is the share of the instructions that are followed."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    loose: bool = False
    partial: bool = False


class IfEval:
    def __init__(self, options: Options) -> None:
        self._options = options

    async def score(self, sample: Sample, said: Said) -> Score:
        asked = _instructions(sample)
        texts = list(variants(said.text)) if self._options.loose else [said.text]
        followed = [any(text.strip() and CHECKS[name](text, kwargs) for text in texts) for name, kwargs in asked]
        broken = [name for (name, _), fine in zip(asked, followed, strict=True) if not fine]
        value = sum(followed) / len(followed) if self._options.partial else float(all(followed))
        note = f"{sum(followed)} of {len(followed)} followed"
        return Score(value, f"{note}; not {', '.join(broken)}" if broken else note)


def variants(text: str) -> Iterator[str]:
    """The eight readings of the paper's loose criterion."""
    lines = text.split("\n")
    for piece in (text, "\n".join(lines[1:]), "\n".join(lines[:-1]), "\n".join(lines[1:-1])):
        yield piece.strip()
        yield piece.replace("*", "").strip()


def _instructions(sample: Sample) -> list[tuple[str, dict[str, Any]]]:
    match sample.reference:
        case {"instruction_id_list": list(names), "kwargs": list(arguments)} if names and len(names) == len(arguments):  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
            unknown = [name for name in cast(list[str], names) if name not in CHECKS]
            if unknown:
                raise ValueError(f"sample {sample.id}: no check of {', '.join(unknown)}; known are {', '.join(CHECKS)}")
            return list(zip(cast(list[str], names), cast(list[dict[str, Any]], arguments), strict=True))
        case _:
            raise ValueError(f"sample {sample.id}: reference: expected {{instruction_id_list, kwargs}} of equal length")


def build(options: Options, parts: ScorerParts) -> IfEval:
    return IfEval(options)
