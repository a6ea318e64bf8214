"""Retrievers chosen by the estimators that choose experts: the same plug-ins, fitted on how well each one searches.

`consilium retriever measure` writes what they are fitted on, in the format of any outcomes: of each judged query the
nDCG@10 of each retriever alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from experts.errors import ConfigError
from experts.language import Card
from experts.protocols import Encoder
from router.embedding import Embedding
from router.estimators import open_estimator
from router.outcomes import read_outcomes
from router.plan import Queries
from router.protocols import Estimator, Parts
from router.texts import encode_prompts


@dataclass(frozen=True, slots=True)
class Chooser:
    """A fitted estimator over the retrievers `names`; the `top` of the highest expected nDCG@10 are searched."""

    estimator: Estimator
    names: tuple[str, ...]
    top: int
    embedding: Embedding

    async def expected(self, text: str) -> dict[str, float]:
        """Retriever -> expected nDCG@10, the best first. Raises what embedding the query raises."""
        vector = await self.embedding.embed([text], [1.0])
        quality: list[float] = self.estimator.estimate(Queries((text,), vector[None, :])).quality[0].tolist()
        return dict(sorted(zip(self.names, quality, strict=True), key=lambda item: -item[1]))


def fit_chooser(
    name: str, options: Mapping[str, Any], measured: Path, retrievers: Sequence[Card], top: int, encoder: Encoder,
    embedding: Embedding,
) -> Chooser:  # fmt: skip
    """Blocking: embeds the outcomes. Raises ConfigError for a file that is none, or that knows none of them.

    `retrievers` are their names and descriptions: all that an estimator reads of a card.
    """
    outcomes = read_outcomes(measured)
    cards = [one for one in retrievers if one.name in outcomes.experts]
    known = tuple(one.name for one in cards)
    if not known:
        raise ConfigError(
            f"{measured}: expected outcomes of the retrievers {', '.join(one.name for one in retrievers)}, found those "
            f"of {', '.join(outcomes.experts) or 'nobody'}; `consilium retriever measure` writes them"
        )
    own = outcomes.measured_for(known)
    own = replace(own, vectors=encode_prompts(encoder, [[text] for text in own.texts]))
    estimator = open_estimator(name, options, Parts(encoder))
    estimator.fit(cards, own)
    return Chooser(estimator, known, top, embedding)
