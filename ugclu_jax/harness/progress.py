"""A progress bar for each request with the loss in it; where the output is no terminal, a line for each request."""

import contextlib
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

from ugclu_jax.report.metrics import from_json
from ugclu_jax.report.tables import request_line
from ugclu_jax.types import Trace
from ugclu_jax.ugclu_step import StepInfo


class Progress:
    """Bars on a terminal, lines elsewhere. `on_step` goes into the compiled program, so it outlives each request."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = RichProgress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[loss]}"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._current: Any = None

    def __enter__(self) -> "Progress":
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def on_step(self, done: Trace, outer_steps: int, per_step: Any) -> None:
        """Called by the running program."""
        if self._current is not None:
            report = per_step if isinstance(per_step, StepInfo) else per_step[0]
            loss = report.task_loss
            if loss is None:
                loss = report.update.remain_losses if isinstance(report, StepInfo) else report.remain_loss
            shown = "" if loss is None or not np.size(loss) else f"loss {float(np.mean(loss)):.3f}"
            self._bars.update(self._current, completed=int(done), total=outer_steps, loss=shown)

    def on_epoch(self, done: Trace, epochs: int) -> None:
        """Called by a program that trains from scratch."""
        if self._current is not None:
            self._bars.update(self._current, completed=int(done), total=int(epochs), loss="")

    @contextlib.contextmanager
    def request(self, description: str) -> Iterator[None]:
        """A bar for the duration of a request; it stays, finished, when the request is done."""
        self._current = self._bars.add_task(description, total=None, loss="compiling")
        try:
            yield
            jax.effects_barrier()
        finally:
            bar = next(task for task in self._bars.tasks if task.id == self._current)
            total = bar.total or 1
            self._bars.update(self._current, completed=total, total=total)
            self._bars.stop_task(self._current)
            self._current = None

    def measured(self, line: Mapping[str, Any], requests: int) -> None:
        """Say, where no bar does, what a request of so many led to; it is out before the next one begins."""
        if not self._console.is_terminal:
            self._console.out(request_line(from_json(line), requests), highlight=False)

    @contextlib.contextmanager
    def waiting(self, description: str) -> Iterator[None]:
        """A spinner for work whose length is not known."""
        bar = self._bars.add_task(description, total=None, loss="")
        try:
            yield
        finally:
            self._bars.remove_task(bar)
