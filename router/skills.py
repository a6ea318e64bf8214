"""Skill profiles: what each expert has shown at what questions take. Source: Symbolic-MoE (arXiv 2503.05641).

Every question that was measured has skill words; an expert's profile is +1 on the words of a question that it solved
and -1 where it failed (a score between counts between). The estimator `skills` decides by the same facts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from router.records.rows import Measured

LONGEST_WORD = 20


@dataclass(slots=True)
class Profile:
    """One expert's. `net` and `asked` by skill word: the sum of +1 and -1, and over how many questions; `competence`
    is its mean score over `outcomes` questions; of `panels` it was shown, it found the right answer in `aggregated`."""

    net: dict[str, float] = field(default_factory=dict[str, float])
    asked: dict[str, int] = field(default_factory=dict[str, int])
    total: float = 0.0
    outcomes: int = 0
    aggregated: float = 0.0
    panels: int = 0

    @property
    def competence(self) -> float:
        return self.total / max(self.outcomes, 1)

    @property
    def aggregation(self) -> float | None:
        """The share of panels whose right answer it found; None where it was shown none."""
        return self.aggregated / self.panels if self.panels else None

    def words(self, least: int = 1) -> list[str]:
        """Skills of at least so many questions, strongest first."""
        kept = [word for word, count in self.asked.items() if count >= least]
        return sorted(kept, key=lambda word: (-self.net[word], word))

    def json(self) -> dict[str, Any]:
        skills = {word: {"net": round(self.net[word], 3), "asked": self.asked[word]} for word in self.words()}
        return {"outcomes": self.outcomes, "competence": round(self.competence, 4), "skills": skills,
                "panels": self.panels, "aggregation": self.aggregation}  # fmt: skip

    @staticmethod
    def from_json(found: Mapping[str, Any]) -> Profile:
        """Raises KeyError, TypeError, ValueError for anything else than `json` gave."""
        outcomes, panels = int(found["outcomes"]), int(found["panels"])
        return Profile(
            {word: float(one["net"]) for word, one in found["skills"].items()},
            {word: int(one["asked"]) for word, one in found["skills"].items()},
            float(found["competence"]) * outcomes, outcomes, float(found["aggregation"] or 0.0) * panels, panels,
        )  # fmt: skip


def profiles(measured: Iterable[Measured]) -> dict[str, Profile]:
    """By expert, from what `consilium profile` left. Feedback has no skill words, and counts for competence only."""
    found: dict[str, Profile] = {}
    for row in measured:
        one = found.setdefault(row.expert, Profile())
        if row.source == "aggregation":
            one.aggregated += row.score
            one.panels += 1
            continue
        one.total += row.score
        one.outcomes += 1
        for word in row.skills:
            one.net[word] = one.net.get(word, 0.0) + 2 * row.score - 1
            one.asked[word] = one.asked.get(word, 0) + 1
    return found


def abilities(measured: Iterable[Measured], worth: float = 5.0) -> dict[str, float]:
    """Ability to aggregate, by expert: the share of right answers, shrunk to everybody's mean by `worth` panels."""
    found = {name: one for name, one in profiles(measured).items() if one.panels}
    mean = sum(one.aggregated for one in found.values()) / max(sum(one.panels for one in found.values()), 1)
    return {
        name: round((one.aggregated + worth * mean) / (one.panels + worth), 4) for name, one in found.items()
    }  # fmt: skip


def keyphrases(text: str) -> list[str]:
    """Up to five keyphrases of one or two words, lower case, of at most 20 characters as in the paper's code."""
    from yake import KeywordExtractor

    finder: Any = KeywordExtractor(lan="en", n=2, top=5)
    found = {str(phrase).lower() for phrase, _ in finder.extract_keywords(text[:2000])}
    return sorted(phrase for phrase in found if 2 < len(phrase) <= LONGEST_WORD)
