"""`exact`: the final answer is the reference, but for case, spaces and typesetting. Several references: any of them."""

from __future__ import annotations

from typing import cast

from pydantic import BaseModel, ConfigDict

from evals.sample import Said, Sample, Score, ScorerParts
from router.answers._texts import final, plain


class Options(BaseModel):
    """`whole`: the whole text is compared, not only its final answer. `strict`: case and typesetting count."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    whole: bool = False
    strict: bool = False


class Exact:
    def __init__(self, options: Options) -> None:
        self._options = options

    def check(self, sample: Sample) -> None:
        references(sample)

    async def score(self, sample: Sample, said: Said) -> Score:
        given = said.text.strip() if self._options.whole else final(said.text)
        right = any(self._same(given, wanted) for wanted in references(sample))
        return Score(float(right), f"answered {given[:200]!r}")

    def _same(self, given: str, wanted: str) -> bool:
        return given == wanted.strip() if self._options.strict else plain(given) == plain(wanted)


def references(sample: Sample) -> list[str]:
    """The reference as a list of texts. Raises ValueError where there is none."""
    wanted = sample.reference
    many: list[object] = cast(list[object], wanted) if isinstance(wanted, list) else [wanted]
    if not many or any(one is None for one in many):
        raise ValueError(f"sample {sample.id}: reference: expected a text or a list of texts, got {wanted!r}")
    return [str(one) for one in many]


def build(options: Options, parts: ScorerParts) -> Exact:
    return Exact(options)
