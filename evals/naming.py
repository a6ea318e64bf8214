"""Naming the skills that questions take: by an expert that is asked, or by the keyphrases of their texts.

Source: Symbolic-MoE (arXiv 2503.05641), where a language model does it. What was named is journalled: asked once.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence

from evals.journal import Journal
from evals.sample import Sample, ask
from evals.targets import Target, asked
from experts.errors import ConsiliumError
from router.skills import LONGEST_WORD, keyphrases

MOST = 5
MARK = "#skills"
ASK = """Name the skills that answering this question takes: one to five, each of one or two words, as general as
the names of school subjects or their chapters. Reply with the names only, separated by commas.

Question: {question}"""

_LIST = re.compile(r"[,;\n]+")
_BULLET = re.compile(r"^[\s\d.)*\-•:]+|[\s.*:]+$")


def words_in(said: str) -> tuple[str, ...]:
    """The skill words of a reply: a list with commas, or one a line."""
    found = [_BULLET.sub("", part).casefold() for part in _LIST.split(said)]
    return tuple(dict.fromkeys(word for word in found if 2 < len(word) <= LONGEST_WORD))[:MOST]


async def named(
    samples: Sequence[Sample], target: Target, expert: str, journal: Journal, *, concurrency: int,
    done: Callable[[], None],
) -> dict[str, tuple[str, ...]]:  # fmt: skip
    """By sample id, as `expert` names them. A question on which it fails goes by its keyphrases."""
    waiting = iter(samples)

    async def work() -> None:
        for sample in waiting:
            about = Sample(sample.id + MARK, ask(ASK.format(question=sample.prompt)), "exact")
            if (about.id, expert) not in journal.answers:
                try:
                    journal.answered(await asked(target, expert, about))
                except ConsiliumError as fault:
                    journal.failed((about.id, expert), fault.message)
            done()

    async with asyncio.TaskGroup() as group:
        for _ in range(min(concurrency, len(samples))):
            group.create_task(work())
    answers = {sample.id: journal.answers.get((sample.id + MARK, expert)) for sample in samples}
    found = {name: words_in(answer.text) for name, answer in answers.items() if answer is not None}
    rest = [sample for sample in samples if not found.get(sample.id)]
    return {**found, **await asyncio.to_thread(by_keyphrases, rest)}


def by_keyphrases(samples: Sequence[Sample]) -> Mapping[str, tuple[str, ...]]:
    """By sample id: the embedded default."""
    return {sample.id: tuple(keyphrases(sample.prompt)) for sample in samples}
