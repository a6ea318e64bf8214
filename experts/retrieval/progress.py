"""What a training run of an adapter shows: a bar while texts are embedded, and one with loss and time left."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers leaves parts of its signatures untyped)

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from transformers import TrainerCallback


class Training(TrainerCallback):
    """To be entered as a context around the run."""

    def __init__(self, console: Console, *, shown: bool) -> None:
        self.bars = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[said]}"),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), console=console, disable=not shown,
        )  # fmt: skip
        self._texts = self.bars.add_task("embedding", total=None, said="")
        self._steps = self.bars.add_task("training", total=None, visible=False, said="")

    def __enter__(self) -> Training:
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def embedded(self, done: int, total: int) -> None:
        self.bars.update(self._texts, completed=done, total=total)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bars.update(self._steps, total=state.max_steps, completed=state.global_step, visible=True)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bars.update(self._steps, completed=state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            self.bars.update(self._steps, said=f"loss {logs['loss']:.4f}")
