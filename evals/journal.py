"""The journal of a live run: one JSON object a line, only ever appended, so that a killed run goes on where it was.

    {"run": {…}}                                what is being run; a journal is only continued by the same run
    {"answer": {"id", "model", "text", …}}      written as soon as an answer is whole
    {"score": {"id", "model", "value", …}}      written when it has been judged
    {"error": {"id", "model", "message"}}       nobody answered: asked again by the next run

An answer and its score are two lines, so that a run killed while it judges asks nothing twice. A last line that was
cut short is taken off. Two runs cannot write one journal.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import msgspec
import orjson

from experts.errors import ConfigError

Key = tuple[str, str]
"""The sample's id, and the model that it was asked of."""


class Answered(msgspec.Struct, frozen=True, omit_defaults=True):
    """One answer. `model` is what was asked for, `expert` who answered; the figures are sums over the turns.
    `decision`: why, as `/v1/route` explains it, of the last turn; None where it was made elsewhere or not at all."""

    id: str
    model: str
    text: str
    expert: str = ""
    decision_id: str = ""
    earlier: tuple[str, ...] = ()
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = None
    latency_ms: float = 0.0
    time: float = 0.0
    decision: Mapping[str, Any] | None = None

    @property
    def key(self) -> Key:
        return self.id, self.model


class Scored(NamedTuple):
    value: float
    note: str = ""


class Journal:
    """What is known so far: `answers`, `scores` and `errors`, each by key."""

    def __init__(self, handle: int) -> None:
        self.answers: dict[Key, Answered] = {}
        self.scores: dict[Key, Scored] = {}
        self.errors: dict[Key, str] = {}
        self._handle = handle

    def answered(self, answer: Answered) -> None:
        self.answers[answer.key] = answer
        self.errors.pop(answer.key, None)
        self._append({"answer": msgspec.to_builtins(answer)})

    def scored(self, key: Key, score: Scored) -> None:
        self.scores[key] = score
        self._append({"score": {"id": key[0], "model": key[1], "value": score.value, "note": score.note}})

    def failed(self, key: Key, message: str) -> None:
        self.errors[key] = message
        self._append({"error": {"id": key[0], "model": key[1], "message": message}})

    def begin(self, run: Mapping[str, Any]) -> None:
        self._append({"run": dict(run)})

    def read(self, path: Path, run: Mapping[str, Any]) -> bool:
        """Takes in what a journal holds; whether it holds anything. Raises ConfigError."""
        data = os.pread(self._handle, os.fstat(self._handle).st_size, 0)
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.ftruncate(self._handle, whole)
        for number, line in enumerate(data[:whole].splitlines(), 1):
            try:
                ((kind, row),) = cast(dict[str, dict[str, Any]], orjson.loads(line)).items()
                if number == 1:
                    if kind != "run":
                        raise ValueError("expected what was run")
                    _check_same(path, row, run)
                else:
                    self._take(kind, row)
            except (ValueError, KeyError, TypeError, AttributeError, msgspec.ValidationError) as fault:
                raise ConfigError(f"{path}:{number}: not a line of a run's journal: {fault}") from fault
        return whole > 0

    def _take(self, kind: str, row: dict[str, Any]) -> None:
        match kind:
            case "answer":
                answer = msgspec.convert(row, Answered)
                self.answers[answer.key] = answer
                self.errors.pop(answer.key, None)
            case "score":
                self.scores[row["id"], row["model"]] = Scored(float(row["value"]), row.get("note", ""))
            case "error":
                self.errors[row["id"], row["model"]] = str(row["message"])
            case _:
                raise ValueError(f"unknown kind {kind!r}")

    def _append(self, line: Mapping[str, Any]) -> None:
        os.write(self._handle, orjson.dumps(line) + b"\n")


@contextmanager
def journal(path: Path, run: Mapping[str, Any]) -> Iterator[Journal]:
    """Continues the journal at `path`, or begins it. Raises ConfigError: in use, another run's, broken."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as fault:
            raise ConfigError(f"{path}: another run is writing this file") from fault
        found = Journal(handle)
        if not found.read(path, run):
            found.begin(run)
        yield found
    finally:
        os.close(handle)


def _check_same(path: Path, was: Mapping[str, Any], run: Mapping[str, Any]) -> None:
    for name in run:
        if was.get(name) != run[name]:
            raise ConfigError(
                f"{path}: holds a run with {name} {was.get(name)!r}, this one has {run[name]!r}; "
                "give another --out, or delete the file to start over"
            )
