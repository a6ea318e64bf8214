"""The default on the embedded registry: real cards, real questions, the encoder that serves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import experts.pocket
from experts.language import Card
from experts.pocket.questions import SKILLS, questions
from experts.pocket.skills.split import Split
from experts.protocols import Encoder
from experts.retrieval.encoders import open_encoder
from registry.load import load
from router.estimators import open_estimator
from router.outcomes import Outcomes
from router.plan import Queries
from router.policies import open_policy
from router.protocols import Parts, Situation


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return open_encoder()


@pytest.fixture(scope="module")
def cards() -> list[Card]:
    registry = load(Path(experts.pocket.__file__).parent / "registry.yaml")
    return [registry.card(f"pocket-{skill}") for skill in SKILLS]


def facts(encoder: Encoder, split: Split, each: int) -> tuple[Outcomes, np.ndarray]:
    """Questions of every skill, scored as by experts that are good at theirs alone; and which expert that is."""
    asked = [question for skill in SKILLS for question in questions(skill, split, each, 3)]
    right = np.array([SKILLS.index(question.skill) for question in asked])
    random = np.random.default_rng(0).random((len(asked), len(SKILLS)))
    scores = (random < np.where(right[:, None] == np.arange(len(SKILLS)), 0.97, 0.1)).astype(np.float32)
    nothing, texts = np.full_like(scores, np.nan), tuple(question.prompt for question in asked)
    names, blank = tuple(f"pocket-{skill}" for skill in SKILLS), ("",) * len(asked)
    ids = tuple(question.id for question in asked)
    return Outcomes(ids, blank, blank, texts, names, scores, nothing, nothing, nothing, encoder.encode(texts)), right


def share_right(encoder: Encoder, cards: list[Card], outcomes: Outcomes, name: str = "blend") -> float:
    estimator = open_estimator(name, {}, Parts(encoder))
    estimator.fit(cards, outcomes)
    fresh, right = facts(encoder, "test", 40)
    found = estimator.estimate(Queries(fresh.texts, fresh.vectors))
    cost = np.full(found.quality.shape, 1e-6, np.float32)
    where = Situation(cost, np.zeros(len(cards), np.float32), np.ones(found.quality.shape, bool))
    choices = open_policy("balanced", {}).decide(found, where)
    return float(np.mean([choice.seats[0] for choice in choices] == right))


@pytest.mark.parametrize("name", ["cards", "blend"])
def test_cards_alone_find_the_right_expert(encoder: Encoder, cards: list[Card], name: str) -> None:
    assert share_right(encoder, cards, Outcomes.empty([card.name for card in cards]), name) >= 0.90


def test_with_outcomes_nearly_always(encoder: Encoder, cards: list[Card]) -> None:
    assert share_right(encoder, cards, facts(encoder, "train", 60)[0]) >= 0.97


def test_a_new_expert_beside_measured_ones_is_found_by_its_card(encoder: Encoder, cards: list[Card]) -> None:
    outcomes, right = facts(encoder, "train", 60)
    scores = outcomes.scores.copy()
    scores[:, 3] = np.nan
    known = Outcomes(
        outcomes.ids, outcomes.tasks, outcomes.splits, outcomes.texts, outcomes.experts, scores, outcomes.tokens,
        outcomes.cost_usd, outcomes.latency_ms, outcomes.vectors,
    ).take(np.flatnonzero(right != 3))  # fmt: skip
    assert share_right(encoder, cards, known) >= 0.90
