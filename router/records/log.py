"""The decision log: what the hot path hands over is written by a thread, in batches.

Handing over costs about a microsecond: references are put into a bounded queue; whatever costs more (JSON, float16,
the disk) is the thread's. A queue that is full, or a store that cannot be written, loses decisions, which are counted
and said once; no request ever waits for it.
"""

from __future__ import annotations

import logging
from collections import deque
from threading import Event, Lock, Thread
from time import perf_counter, time
from typing import NamedTuple

from router.decide import Decided
from router.plan import Plan
from router.records.protocol import Records, Unrecorded
from router.records.rows import Decision, Tried, packed
from router.run import Attempt, Run

log = logging.getLogger(__name__)

FLUSH_S = 0.1
MOST_WAITING = 20_000
BATCH = 1_000


class _Taken(NamedTuple):
    """References to the parts of a run that are kept; never its answer, which may be long."""

    time: float
    took_s: float
    id: str
    caller: str
    model: str
    plan: Plan
    decided: Decided | None
    text: str
    max_tokens: int | None
    answered: str
    ttft_s: float | None
    attempts: list[Attempt]
    status: int
    error: str


class DecisionLog:
    """`texts`: whether the queries' texts are kept, not only their hashes. `start` begins, `close` writes the rest."""

    def __init__(self, records: Records, *, texts: bool = False, most_waiting: int = MOST_WAITING) -> None:
        self.records = records
        self.texts = texts
        self._most = most_waiting
        self._waiting: deque[_Taken] = deque()
        self._some = Event()
        self._stop = Event()
        self._writing = Lock()
        self._written = self._dropped = 0
        self._failing = False
        self._thread: Thread | None = None

    def start(self) -> None:
        self._thread = Thread(target=self._write_on, name="decision-log", daemon=True)
        self._thread.start()

    def record(self, run: Run) -> None:
        """Hand over a finished run; one that never came to a plan is none of ours."""
        plan = run.plan
        if plan is None:
            return
        if len(self._waiting) >= self._most:
            self._dropped += 1
            return
        answer = run.answer
        self._waiting.append(
            _Taken(time(), perf_counter() - run.started, run.id, run.caller, run.model, plan, run.decided, run.text,
                   run.max_tokens, answer.expert if answer else "", answer.ttft_s if answer else None, run.attempts,
                   run.status, run.error)
        )  # fmt: skip
        if not self._some.is_set():
            self._some.set()

    def stats(self) -> dict[str, float]:
        return {"written": self._written, "dropped": self._dropped, "waiting": len(self._waiting)}

    def flush(self) -> None:
        """Returns once everything handed over before is written, or counted as lost. Blocking."""
        with self._writing:
            self._some.clear()
            while self._waiting:
                self._write([self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH))])

    def close(self) -> None:
        self._stop.set()
        self._some.set()
        if self._thread is not None:
            self._thread.join()
        self.flush()
        self.records.close()

    def _write_on(self) -> None:
        while not self._stop.is_set():
            self._some.wait()
            self._stop.wait(FLUSH_S)  # what comes in the meantime joins the batch
            self.flush()

    def _write(self, batch: list[_Taken]) -> None:
        try:
            self.records.log([_decision(one) for one in batch])
        except Unrecorded as fault:
            self._dropped += len(batch)
            if not self._failing:
                log.warning("decisions are not being kept: %s", fault.message)
            self._failing = True
        else:
            self._written += len(batch)
            if self._failing:
                log.warning("decisions are kept again; %d were lost in all", self._dropped)
            self._failing = False


def _decision(taken: _Taken) -> Decision:
    plan, decided = taken.plan, taken.decided
    return Decision(
        id=taken.id, time=taken.time, caller=taken.caller, model=taken.model, route=plan.route, expert=plan.expert,
        answered=taken.answered, propensity=plan.propensity, text_hash=decided.digest.hex() if decided else "",
        text=taken.text, vector=packed(decided.vector) if decided else b"",
        encoder=decided.encoder if decided else "", composer=plan.composer, policy=plan.policy, reason=plan.reason,
        registry_version=plan.registry_version, estimates=plan.estimates, excluded=plan.excluded,
        prompt_tokens=decided.prompt_tokens if decided else 0.0, max_tokens=taken.max_tokens,
        tried=tuple(
            Tried(one.expert, one.usage.prompt_tokens, one.usage.completion_tokens, one.cost_usd,
                  round(one.took_s * 1e3, 2), (one.error.code or one.error.type) if one.error else "", one.role)
            for one in taken.attempts
        ),
        cached=bool(decided and decided.cached), decide_ms=round(decided.took_s * 1e3, 3) if decided else 0.0,
        ttft_ms=None if taken.ttft_s is None else round(taken.ttft_s * 1e3, 2),
        took_ms=round(taken.took_s * 1e3, 2), status=taken.status, error=taken.error,
    )  # fmt: skip
