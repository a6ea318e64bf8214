"""`text`: the final answer's words, but for case, spaces and typesetting."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from router.answers._reading import Reading
from router.answers._texts import final, plain


class Options(BaseModel):
    """`whole`: the whole text counts, not only its final answer. `longest`: characters; a longer one is no answer to
    compare."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    whole: bool = False
    longest: int = Field(default=200, ge=1)


class Text:
    def __init__(self, options: Options) -> None:
        self._options = options

    def kind(self, question: str) -> str:
        return "text"

    async def read(self, question: str, text: str) -> Reading | None:
        said = plain(text if self._options.whole else final(text))
        return Reading(said, said) if 0 < len(said) <= self._options.longest else None

    async def same(self, one: str, other: str) -> bool:
        return False

    async def close(self) -> None:
        return None


def build(options: Options) -> Text:
    return Text(options)
