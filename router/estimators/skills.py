"""`skills`: the skill words of a query, matched to what each expert has shown at these skills.

Source: Symbolic-MoE (arXiv 2503.05641). There a language model names each question's skills; an expert's profile is +1
on the words of a question that it solved and -1 where it failed; a new question's words are mapped to the nearest
profile words. Here the words are keyphrases found by YAKE (Campos et al. 2020), or named by an expert while profiling
(`consilium profile --skills-by`), and kept when several questions name them; a word lies at the mean vector of the
questions that name it, so mapping a query to its words needs no second encoding. Profiles are shrunk toward each
expert's mean (the paper's global competency); a net count of +1 and -1 over n questions is a success rate of
(1 + net / n) / 2. For recruiting, `suitability` is the rate over the query's words times competence^(1/T). The experts'
own declared skills join the words where there is an encoder to place them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from experts.language import Card
from experts.protocols import Encoder, Vectors
from router.estimators import _files
from router.estimators._evidence import Floats, Ints, effects, estimates, joining, known_rows, merged, vectors_of
from router.estimators._shrink import Shrinkage, best_shrinkage, cells
from router.estimators._sparse import scatter
from router.outcomes import Outcomes
from router.plan import Estimates, Queries
from router.protocols import Parts
from router.skills import keyphrases


class Options(BaseModel):
    """`words`: skill words given to a query; `vocabulary`: words kept at most; `read`: questions read for words at
    most; `named`: how many questions must name a word; `temperature` of the recruiting: an expert's competence over all
    questions counts to the power of 1 / temperature."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    words: int = Field(default=5, ge=1)
    vocabulary: int = Field(default=300, ge=1)
    read: int = Field(default=1000, ge=1)
    named: int = Field(default=3, ge=1)
    temperature: float = Field(default=0.5, gt=0)


class Skills:
    uses_vectors = True

    def __init__(self, options: Options, encoder: Encoder | None, seed: int) -> None:
        self._options = options
        self._encoder = encoder
        self._seed = seed
        self._experts: tuple[str, ...] = ()
        self._effects = effects(Outcomes.empty(()))
        self._words: tuple[str, ...] = ()
        self._places: Vectors = np.zeros((0, 1), np.float32)
        self._sums = self._counts = np.zeros((0, 0))
        self._shrink = Shrinkage()

    def fit(self, cards: Sequence[Card], outcomes: Outcomes) -> None:
        rows = known_rows(outcomes.for_experts([card.name for card in cards]))
        self._experts, self._effects = rows.experts, effects(rows)
        self._words, self._places = (), np.zeros((0, 1), np.float32)
        self._sums = self._counts = np.zeros((0, len(self._experts)))
        if not len(rows):
            return
        vectors = vectors_of(rows, "skills")
        self._words, self._places = self._vocabulary(cards, rows, vectors)
        if not self._words:
            return
        self._sums, self._counts = self._tally(rows)
        held = [self._held_out(rows, fold) for fold in range(2)]
        sums, counts, scores = (np.concatenate([part[i] for part in held]) for i in range(3))
        self._shrink = best_shrinkage(sums, counts, scores, self._effects.mean)

    def update(self, outcomes: Outcomes) -> None:
        rows = known_rows(outcomes.for_experts(self._experts))
        if not len(rows):
            return
        self._effects = merged(self._effects, effects(rows))
        if self._words:
            sums, counts = self._tally(rows)
            self._sums, self._counts = self._sums + sums, self._counts + counts

    def add(self, card: Card, outcomes: Outcomes) -> None:
        rows, self._effects = joining(self._effects, self._experts, card.name, outcomes, self.estimate)
        self._experts = (*self._experts, card.name)
        sums, counts = self._tally(rows) if self._words else (np.zeros((0, 1)), np.zeros((0, 1)))
        self._sums, self._counts = np.hstack([self._sums, sums]), np.hstack([self._counts, counts])

    def words_of(self, vectors: Vectors) -> list[list[str]]:
        """The skill words of every query, nearest first."""
        if not self._words:
            return [[] for _ in range(len(vectors))]
        near, close = self._nearest(vectors)
        order = np.take_along_axis(near, np.argsort(-close, axis=1, kind="stable"), axis=1)
        return [[self._words[word] for word in row] for row in order.tolist()]

    def estimate(self, queries: Queries) -> Estimates:
        shape = (len(queries), len(self._experts))
        if not self._words:
            return estimates(
                self._experts, np.broadcast_to(self._effects.mean, shape), np.broadcast_to(self._effects.error, shape),
                self._effects, ("no skill words: too few outcomes",),
            )  # fmt: skip
        vectors = vectors_of(queries, "skills")
        near, close = self._nearest(vectors)
        table, evidence = cells(self._sums, self._counts, self._effects.mean, self._shrink)
        weight = close / np.maximum(close.sum(1, keepdims=True), 1e-9)
        quality = np.einsum("nw,nwe->ne", weight, table[near])
        known = np.einsum("nw,nwe->ne", weight, evidence[near])
        doubt = np.sqrt(np.clip(quality * (1 - quality), 0.02, None) / (known + self._shrink.specialty))
        found = estimates(self._experts, quality, doubt, self._effects, (f"{len(self._words)} skill words",))
        competence = np.clip(self._effects.mean, 0, 1) ** (1 / self._options.temperature)
        return replace(
            found, suitability=(found.quality * competence).astype(np.float32),
            skills=tuple(self.words_of(vectors)[0]) if len(queries) == 1 else (),
        )  # fmt: skip

    def save(self, folder: Path) -> None:
        arrays = {"places": self._places, "sums": self._sums, "counts": self._counts}
        state = {"experts": self._experts, "words": self._words, "shrink": asdict(self._shrink)}
        _files.write(folder, "skills", state, arrays | _files.arrays_of(self._effects))

    def load(self, folder: Path) -> None:
        state, arrays = _files.read(folder, "skills")
        self._experts, self._words = tuple(state["experts"]), tuple(state["words"])
        self._shrink, self._effects = Shrinkage(**state["shrink"]), _files.effects_of(arrays)
        self._places, self._sums, self._counts = arrays["places"], arrays["sums"], arrays["counts"]

    def _nearest(self, vectors: Vectors) -> tuple[Ints, Floats]:
        """The nearest words of every query and their weights, the cosine above 0. Shape (n, words) each."""
        cosine = vectors @ self._places.T
        count = min(self._options.words, len(self._words))
        near = np.argpartition(cosine, cosine.shape[1] - count, axis=1)[:, -count:].astype(np.int64)
        return near, np.clip(np.take_along_axis(cosine, near, axis=1), 1e-3, None).astype(np.float64)

    def _tally(self, rows: Outcomes) -> tuple[Floats, Floats]:
        """Sums and counts of scores by word: a question counts for each of its words with the word's weight."""
        if not len(rows):
            nothing = np.zeros((len(self._words), rows.scores.shape[1]))
            return nothing, nothing
        near, close = self._nearest(vectors_of(rows, "skills"))
        weight = close / close.sum(1, keepdims=True)
        seen, size = np.isfinite(rows.scores), len(self._words)
        sums = scatter(near, weight, np.where(seen, rows.scores, 0), size)
        return sums, scatter(near, weight, seen.astype(np.float64), size)

    def _held_out(self, rows: Outcomes, fold: int) -> tuple[Floats, Floats, Floats]:
        """Each row's nearest word's sums and counts over the other half of the rows, and the row's own scores."""
        mine = np.arange(len(rows)) % 2 == fold
        sums, counts = self._tally(rows.take(np.flatnonzero(~mine)))
        own = rows.take(np.flatnonzero(mine))
        near, close = self._nearest(vectors_of(own, "skills"))
        first = near[np.arange(len(near)), close.argmax(1)]
        return sums[first], counts[first], own.scores.astype(np.float64)

    def _vocabulary(self, cards: Sequence[Card], rows: Outcomes, vectors: Vectors) -> tuple[tuple[str, ...], Vectors]:
        chosen = np.sort(np.random.default_rng(self._seed).permutation(len(rows))[: self._options.read])
        named, told = dict[str, list[int]](), rows.words
        for row in map(int, chosen):
            for word in told[row] or keyphrases(rows.texts[row]):
                named.setdefault(word, []).append(row)
        counts = Counter({word: len(where) for word, where in named.items() if len(where) >= self._options.named})
        words = [word for word, _ in counts.most_common(self._options.vocabulary)]
        places = [vectors[named[word]].mean(0) for word in words]
        declared = sorted({skill for card in cards for skill in card.skills} - set(words))
        if declared and self._encoder is not None:
            words += declared
            places += list(self._encoder.encode(declared))
        if not words:
            return (), np.zeros((0, 1), np.float32)
        table = np.stack(places).astype(np.float32)
        return tuple(words), table / np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-9)


def build(options: Options, parts: Parts) -> Skills:
    return Skills(options, parts.encoder, parts.seed)
