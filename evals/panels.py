"""Who aggregates well: one right and two wrong answers of a question are shown, shuffled; who writes the right one?

Source: Symbolic-MoE (arXiv 2503.05641), which chooses its aggregator by this and not by who answers best. The answers
are those that the experts gave while they were profiled, put to each expert exactly as a council puts them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from evals.journal import Journal
from evals.run import Item
from evals.sample import Sample, split_of
from router.composers.council import question
from router.records.rows import Measured

WRONG = 2
RIGHT_FROM = 0.5
MARK = "#panel"


def panels(samples: Sequence[Sample], journal: Journal, experts: Sequence[str], suite: str) -> list[Sample]:
    """A panel of each sample that has one right and two different wrong answers; none of the split `test`, nor of
    samples with several turns. The order is drawn by the sample's id: the same for every expert."""
    found: list[Sample] = []
    for sample in samples:
        if sample.follow_ups or (sample.split or split_of(f"{suite}/{sample.id}")) == "test":
            continue
        right, wrong = list[str](), list[str]()
        for expert in experts:
            answer, score = journal.answers.get((sample.id, expert)), journal.scores.get((sample.id, expert))
            if answer is not None and score is not None and answer.text.strip():
                (right if score.value >= RIGHT_FROM else wrong).append(answer.text)
        draw = Random(f"{suite}/{sample.id}")
        wrong = list(dict.fromkeys(wrong))
        if right and len(wrong) >= WRONG:
            shown = [draw.choice(right), *draw.sample(wrong, WRONG)]
            draw.shuffle(shown)
            asked = {"role": "user", "content": question(shown)}
            found.append(replace(sample, id=sample.id + MARK, turns=(*sample.turns, asked)))
    return found


def aggregated(items: Sequence[Item], journal: Journal, suite: str) -> list[Measured]:
    """The scored panels as rows of the outcome store."""
    rows: list[Measured] = []
    for item in items:
        score, answer = journal.scores.get(item.key), journal.answers.get(item.key)
        if score is not None and answer is not None:
            rows.append(
                Measured(
                    id=f"{suite}/{item.sample.id.removesuffix(MARK)}", expert=item.model, score=score.value,
                    source="aggregation", time=answer.time, task=item.sample.task or suite,
                    tokens=float(answer.completion_tokens), cost_usd=answer.cost_usd, latency_ms=answer.latency_ms,
                )
            )  # fmt: skip
    return rows
