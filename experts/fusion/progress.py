"""What a training run shows: a bar with loss, routing accuracy and time left, and a line of JSON per log entry."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers leaves parts of its signatures untyped)

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from transformers import TrainerCallback


class Bar(TrainerCallback):
    """To be entered as a context around the run. `journal` gets the log entries, from the start or the resumed step."""

    def __init__(self, journal: Path, console: Console) -> None:
        self.journal = journal
        self.shown = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[said]}"),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), console=console,
        )  # fmt: skip
        self._scores = self.shown.add_task("experts", total=None, visible=False, said="")
        self._steps = self.shown.add_task("training", total=None, visible=False, said="")

    def __enter__(self) -> Bar:
        self.shown.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shown.stop()

    def scored(self, done: int, total: int) -> None:
        self.shown.update(self._scores, completed=done, total=total, visible=True)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.shown.update(self._steps, total=state.max_steps, completed=state.global_step, visible=True)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.shown.update(self._steps, completed=state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            said = f"loss {logs['loss']:.4f}, routing {logs.get('routing_accuracy', 0.0):.1%}"
            self.shown.update(self._steps, said=said)
        with self.journal.open("a") as file:
            file.write(json.dumps({"step": state.global_step, **(logs or {})}) + "\n")
