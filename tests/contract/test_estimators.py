"""What every estimator does, whichever it is: the tests run on each file of the folder from the day it appears."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest

from experts.errors import ConfigError
from experts.language import Card
from experts.protocols import Vectors
from router.estimators import names, open_estimator
from router.outcomes import Outcomes
from router.plan import Estimates, Queries
from router.protocols import Estimator, Parts

DIMENSIONS = 24
WORDS = ("algebra", "poem", "capital", "query")
EXPERTS = ("sum", "muse", "atlas")


class WordEncoder:
    """A vector for every word, the mean of them for a text: enough for texts to be near those that share words."""

    fingerprint = "words"
    dimensions = DIMENSIONS

    def encode(self, texts: Sequence[str]) -> Vectors:
        rows = np.stack([np.sum([self._word(word) for word in text.lower().split()], axis=0) for text in texts])
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    def _word(self, word: str) -> np.ndarray:
        seed = int.from_bytes(blake2b(word.encode(), digest_size=4).digest())
        return np.random.default_rng(seed).standard_normal(DIMENSIONS)


ENCODER = WordEncoder()


def cards(experts: Sequence[str] = EXPERTS) -> list[Card]:
    about = dict(zip(EXPERTS, WORDS, strict=False))
    topics = {name: about.get(name, name) for name in experts}
    return [Card(name, f"{topic} questions", examples=(f"{topic} one",)) for name, topic in topics.items()]


def table(rows: int = 240, experts: Sequence[str] = EXPERTS, seed: int = 0) -> Outcomes:
    """Questions of four topics; each expert is right nine times in ten on its own and once in five elsewhere."""
    random = np.random.default_rng(seed)
    topic = random.integers(0, len(WORDS), rows)
    texts = tuple(f"{WORDS[t]} {WORDS[t]} item{random.integers(0, 40)} no{i}x{seed}" for i, t in enumerate(topic))
    own = topic[:, None] == np.arange(len(experts))[None, :]
    scores = (random.random(own.shape) < np.where(own, 0.9, 0.2)).astype(np.float32)
    tokens = np.full(own.shape, 50, np.float32) + np.arange(len(experts), dtype=np.float32)
    nothing = np.full_like(scores, np.nan)
    ids = tuple(f"q{seed}-{i}" for i in range(rows))
    return Outcomes(
        ids, tuple(WORDS[t] for t in topic), ("train",) * rows, texts, tuple(experts), scores, tokens, nothing, nothing,
        ENCODER.encode(texts) if rows else np.zeros((0, DIMENSIONS), np.float32),
    )  # fmt: skip


def asked(rows: int = 20, seed: int = 9) -> Queries:
    fresh = table(rows, seed=seed)
    return Queries(fresh.texts, fresh.vectors)


def same(first: Estimates, second: Estimates, tolerance: float = 1e-6) -> None:
    assert (first.experts, first.default) == (second.experts, second.default)
    for name in ("quality", "uncertainty", "tokens", "latency_ms"):
        np.testing.assert_allclose(getattr(first, name), getattr(second, name), atol=tolerance, err_msg=name)


@pytest.fixture(params=sorted(names()))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def opened(name: str) -> Estimator:
    return open_estimator(name, {}, Parts(ENCODER))


def fitted(name: str, outcomes: Outcomes | None = None, experts: Sequence[str] = EXPERTS) -> Estimator:
    estimator = opened(name)
    estimator.fit(cards(experts), table() if outcomes is None else outcomes)
    return estimator


def test_estimates_are_whole_and_within_bounds(name: str) -> None:
    found = fitted(name).estimate(asked(20))
    assert found.experts == EXPERTS
    assert found.quality.shape == (20, 3)
    assert found.quality.dtype == found.uncertainty.dtype == np.float32
    assert np.isfinite(found.quality).all()
    assert np.isfinite(found.uncertainty).all()
    assert found.quality.min() >= 0
    assert found.quality.max() <= 1
    assert found.uncertainty.min() >= 0
    np.testing.assert_allclose(found.tokens, np.broadcast_to([50, 51, 52], (20, 3)))
    assert np.isnan(found.latency_ms).all()
    assert found.notes


def test_two_fits_on_the_same_facts_are_equal(name: str) -> None:
    same(fitted(name).estimate(asked()), fitted(name).estimate(asked()), 0.0)


def test_a_batch_of_one_is_a_row_of_a_batch(name: str) -> None:
    estimator, queries = fitted(name), asked()
    assert queries.vectors is not None
    whole = estimator.estimate(queries)
    one = estimator.estimate(Queries(queries.texts[4:5], queries.vectors[4:5]))
    np.testing.assert_allclose(one.quality[0], whole.quality[4], atol=2e-6)
    np.testing.assert_allclose(one.uncertainty[0], whole.uncertainty[4], atol=2e-6)


def test_an_empty_batch(name: str) -> None:
    estimator = fitted(name)
    assert estimator.estimate(Queries((), np.zeros((0, DIMENSIONS), np.float32))).quality.shape == (0, 3)


def test_what_was_saved_is_what_is_loaded(name: str, tmp_path: Path) -> None:
    estimator = fitted(name)
    estimator.save(tmp_path / "one")
    again = opened(name)
    again.load(tmp_path / "one")
    same(again.estimate(asked()), estimator.estimate(asked()))
    estimator.update(table(30, seed=3))
    again.update(table(30, seed=3))
    same(again.estimate(asked()), estimator.estimate(asked()), 1e-5)


def test_nothing_saved_is_pickled(name: str, tmp_path: Path) -> None:
    fitted(name).save(tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".npz", ".json"}
    for path in files:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                assert [arrays[key].dtype.kind for key in arrays.files if arrays[key].dtype.kind == "O"] == []


def test_another_estimators_folder_is_refused(name: str, tmp_path: Path) -> None:
    other = "prior" if name != "prior" else "cards"
    fitted(other).save(tmp_path)
    with pytest.raises(ConfigError, match=f"expected estimator '{name}'"):
        opened(name).load(tmp_path)


def test_no_outcomes_at_all(name: str) -> None:
    found = fitted(name, Outcomes.empty(EXPERTS)).estimate(asked())
    assert found.default == -1
    assert np.isfinite(found.quality).all()
    assert np.isfinite(found.uncertainty).all()
    assert np.isnan(found.tokens).all()


def test_one_expert(name: str) -> None:
    found = fitted(name, table(120, EXPERTS[:1]), EXPERTS[:1]).estimate(asked())
    assert found.quality.shape == (20, 1)
    assert np.isfinite(found.quality).all()


def test_missing_scores(name: str) -> None:
    whole = table()
    scores = whole.scores.copy()
    scores[np.random.default_rng(1).random(scores.shape) < 0.6] = np.nan
    scores[:5] = np.nan
    found = fitted(name, replace(whole, scores=scores)).estimate(asked())
    assert np.isfinite(found.quality).all()
    assert np.isfinite(found.uncertainty).all()


def test_outcomes_of_experts_that_are_not_there_are_left_aside(name: str) -> None:
    wide = table(experts=(*EXPERTS, "gone"))
    same(fitted(name, wide).estimate(asked()), fitted(name, wide.for_experts(EXPERTS)).estimate(asked()))
    estimator = fitted(name)
    before = estimator.estimate(asked())
    estimator.update(wide.for_experts(("gone",)))
    same(estimator.estimate(asked()), before)


def test_a_refit_forgets_what_was_learned_before(name: str) -> None:
    estimator = fitted(name, table(seed=5))
    estimator.fit(cards(), table())
    same(estimator.estimate(asked()), fitted(name).estimate(asked()), 0.0)


def test_a_new_expert_is_a_new_column_and_leaves_the_others(name: str) -> None:
    whole = table()
    estimator = fitted(name, whole.for_experts(EXPERTS[:2]), EXPERTS[:2])
    before = estimator.estimate(asked())
    estimator.add(cards(EXPERTS[2:])[0], whole.for_experts(EXPERTS[2:]))
    after = estimator.estimate(asked())
    assert after.experts == EXPERTS
    if name not in ("cards", "neighbours", "blend"):
        np.testing.assert_allclose(after.quality[:, :2], before.quality, atol=0.05)
    refit = fitted(name, whole).estimate(asked())
    assert np.abs(after.quality[:, 2] - refit.quality[:, 2]).mean() < 0.1
    np.testing.assert_allclose(after.tokens[:, 2], 52)


def test_more_outcomes_come_near_a_fit_on_all(name: str) -> None:
    first, more = table(200), table(80, seed=2)
    estimator = fitted(name, first)
    estimator.update(more)
    ids, texts = first.ids + more.ids, first.texts + more.texts
    assert first.vectors is not None
    assert more.vectors is not None
    tables = {key: np.concatenate([getattr(first, key), getattr(more, key)])
              for key in ("scores", "tokens", "cost_usd", "latency_ms", "vectors")}  # fmt: skip
    whole = Outcomes(ids, first.tasks + more.tasks, first.splits + more.splits, texts, EXPERTS, **tables)
    assert np.abs(estimator.estimate(asked()).quality - fitted(name, whole).estimate(asked()).quality).mean() < 0.06


def test_what_learns_from_outcomes_finds_the_right_expert(name: str) -> None:
    fresh = table(60, seed=11)
    known = [i for i, task in enumerate(fresh.tasks) if task != "query"]
    right = np.array([WORDS.index(fresh.tasks[i]) for i in known])
    part = fresh.take(known)
    chosen = fitted(name).estimate(Queries(part.texts, part.vectors)).quality.argmax(1)
    if name == "prior":
        assert len(set(chosen.tolist())) == 1
    else:
        assert (chosen == right).mean() > 0.9


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"no such estimator; known are blend, cards, clusters"):
        open_estimator("oracle", {}, Parts())


def test_an_unknown_option_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name}\.sise: Extra inputs"):
        open_estimator(name, {"sise": 3}, Parts())
