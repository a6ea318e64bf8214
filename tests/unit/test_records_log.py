"""The decision log: never in the way, bounded, and honest about what it lost."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Event

import numpy as np
import pytest

from experts.errors import ExpertDown
from experts.language import Answer, Usage
from router.decide import Decided
from router.plan import Plan, Seat
from router.records import Recording
from router.records.log import DecisionLog
from router.records.protocol import Unrecorded
from router.records.rows import Decision, Measured
from router.run import Attempt, Run

PLAN = Plan("auto", "single", (Seat("a"),), ("b",), "balanced", "because", propensity=0.75, excluded={"c": "down"})


def run(number: int = 0) -> Run:
    done = Run(f"dec-{number}", caller="ci", model="auto", plan=PLAN, status=200, max_tokens=9)
    vector = np.full(4, 0.5, np.float32)
    done.decided = Decided(PLAN, True, b"\x01\x02", 12.0, vector, "mini", 0.001)
    fault = ExpertDown("gone", expert="a")
    done.attempts = [Attempt("a", Usage(), 0.0, 0.1, fault), Attempt("b", Usage(3, 4), 0.5, 0.2)]
    done.answer = Answer("b", ttft_s=0.1)
    return done


class Memory:
    """A store that does as it is told: waits for `gate`, fails while `broken`."""

    def __init__(self) -> None:
        self.kept: list[Decision] = []
        self.gate = Event()
        self.gate.set()
        self.entered = Event()
        self.broken = False

    def log(self, decisions: Sequence[Decision]) -> None:
        self.entered.set()
        self.gate.wait()
        if self.broken:
            raise Unrecorded("the disk is full")
        self.kept += decisions

    def decision(self, decision_id: str) -> Decision | None:
        return next((one for one in self.kept if one.id == decision_id), None)

    def decisions(self, route: str | None = None) -> Iterator[Decision]:
        return iter(self.kept)

    def measure(self, outcomes: Sequence[Measured]) -> None:
        raise AssertionError

    def measured(self) -> list[Measured]:
        return []

    def close(self) -> None:
        """Holds nothing."""


def test_a_run_is_kept_with_everything_that_a_later_fit_or_evaluation_needs(tmp_path: Path) -> None:
    log = DecisionLog(Recording(tmp_path).open())
    log.start()
    log.record(run())
    log.flush()
    found = log.records.decision("dec-0")
    assert found is not None
    assert (found.caller, found.route, found.expert, found.answered) == ("ci", "auto", "a", "b")
    assert (found.propensity, found.text_hash, found.text, found.encoder) == (0.75, "0102", "", "mini")
    assert np.frombuffer(found.vector, np.float16).tolist() == [0.5] * 4
    assert [(one.expert, one.error) for one in found.tried] == [("a", "expert_unavailable"), ("b", "")]
    assert (found.tried[1].prompt_tokens, found.tried[1].completion_tokens, found.cost_usd) == (3, 4, 0.5)
    assert (found.excluded, found.max_tokens, found.prompt_tokens, found.ttft_ms) == ({"c": "down"}, 9, 12.0, 100.0)
    log.close()


def test_a_run_without_a_plan_leaves_nothing(tmp_path: Path) -> None:
    log = DecisionLog(Memory())
    log.record(Run("dec-1"))
    log.flush()
    assert log.stats() == {"written": 0, "dropped": 0, "waiting": 0}


def test_a_full_queue_loses_what_comes_and_counts_it() -> None:
    memory = Memory()
    memory.gate.clear()
    log = DecisionLog(memory, most_waiting=3)
    log.start()
    log.record(run(0))
    assert memory.entered.wait(10)  # the writer holds the first, and waits
    for number in range(1, 6):
        log.record(run(number))
    assert log.stats() == {"written": 0, "dropped": 2, "waiting": 3}
    memory.gate.set()
    log.close()
    assert [one.id for one in memory.kept] == ["dec-0", "dec-1", "dec-2", "dec-3"]


def test_a_store_that_cannot_be_written_is_said_once_and_then_that_it_can(caplog: pytest.LogCaptureFixture) -> None:
    memory = Memory()
    memory.broken = True
    log = DecisionLog(memory)
    with caplog.at_level(logging.WARNING):
        for number in range(3):
            log.record(run(number))
            log.flush()
        memory.broken = False
        log.record(run(3))
        log.flush()
    assert log.stats() == {"written": 1, "dropped": 3, "waiting": 0}
    assert [record.message for record in caplog.records] == [
        "decisions are not being kept: the disk is full", "decisions are kept again; 3 were lost in all",
    ]  # fmt: skip


def test_closing_writes_what_waits(tmp_path: Path) -> None:
    memory = Memory()
    log = DecisionLog(memory)
    log.start()
    for number in range(50):
        log.record(run(number))
    log.close()
    assert len(memory.kept) == 50
