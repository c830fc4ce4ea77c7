"""One method and seed on its way through the stream: measured, saved, purged, resumed."""

import contextlib
import errno
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.markup import escape

from ugclu_jax import buffer as buffer_lib
from ugclu_jax import checkpoints, devices
from ugclu_jax.harness.catalogue import split_name
from ugclu_jax.harness.orbax_log import logged
from ugclu_jax.harness.plan import Diverged, Plan, RunFailed, Step
from ugclu_jax.harness.run import Run
from ugclu_jax.harness.server import Served
from ugclu_jax.harness.signals import Stop
from ugclu_jax.learner import CLUState
from ugclu_jax.types import Info


def check_finite(plan: Plan, method: str, seed: int, step: Step, info: Info) -> None:
    """Stop where a loss is not finite.

    Raises:
        Diverged: naming request and step.
    """
    first: dict[str, int] = {}
    for name in ("task_losses", "remain_losses", "displacement_norms"):  # the last: an update after the last loss
        values = np.asarray(getattr(info, name))
        if values.size and not np.isfinite(values).all():
            first[name.replace("_", " ")] = int(np.argwhere(~np.isfinite(values))[0][0])
    if not first:
        return
    name = min(first, key=first.__getitem__)
    asked = step.request
    part = split_name(method)[0 if asked.kind == "learn" else 1]
    rates = f"--{asked.kind}.hyper.remain-learning-rate or --{asked.kind}.hyper.output-budget"
    if part != "ug_clu":
        rates = f"the rates under references.{part}.hyper of the settings file"
    raise Diverged(
        f"{method}, seed {seed}: {name} became non-finite at outer step {first[name] + 1} of request {step.index + 1} "
        f"({asked.name}). The checkpoint of the request before is kept. Lower {rates} and start a new --run-dir; this "
        f"one resumes with:\n  {plan.resume_command}"
    )


MOST_NAMED = 8
"""Seeds that the bar of a request names."""
Identity = Callable[[int], Mapping[str, Any]]
"""What the checkpoint of a request says of itself."""


def last_good(plan: Plan, folder: Path, like: CLUState, identity: Identity) -> checkpoints.Restored | None:
    """The newest checkpoint that is whole and belongs here; another is named and passed over."""
    for request in reversed(checkpoints.requests(folder)):
        try:
            return checkpoints.restore(folder, request, like, identity(request))
        except checkpoints.CorruptCheckpointError as error:
            message = escape(f"{error}; falling back to the one before.")
            plan.console.print(f"[yellow]Warning:[/] {message}", highlight=False, soft_wrap=True)
    return None


@contextlib.contextmanager
def resumable(plan: Plan) -> Iterator[None]:
    """Tell what cannot be written as a run that goes on when it can.

    Raises:
        RunFailed: for an `OSError` of the block: which file, why, by which setting it lies there, and how to resume.
    """
    try:
        yield
    except OSError as error:
        full = "the disk is full" in str(error) or error.errno in (errno.ENOSPC, errno.EDQUOT)
        why = "the disk is full" if full else error.strerror
        what = str(error) if error.filename is None else f"{error.filename!r} cannot be written: {why}"
        cache = plan.config.cache_dir.absolute()
        cached = error.filename is not None and Path(error.filename).absolute().is_relative_to(cache)
        setting = "--cache-dir" if cached else "--run-dir"
        raise RunFailed(
            f"{what}. What was finished before is saved. {'Make room' if full else 'See to it'} in the folder of "
            f"{setting} and resume with:\n  {plan.resume_command}"
        ) from error


Publish = Callable[[str, int, list[dict[str, Any]]], None]
"""Gets the lines so far of a method and seed."""


class StreamRun:
    """One method and seed on its way through the stream; its checkpoints are written while it goes on."""

    def __init__(self, run: Run, method: str, seed: int, publish: Publish) -> None:
        self.run, self.method, self.seed, self.publish = run, method, seed, publish
        self.folder = run.plan.folder.checkpoints(method, seed)
        # That of the run's first start: what was unlearned since may be gone.
        data = run.plan.settings["made_of"]["data"]["fingerprint"]
        self.whose = run.plan.folder.identity(method, seed, data)
        self.like = self.state = run.server.fresh_state(method, seed)
        self.lines: list[dict[str, Any]] = []
        self.saving: checkpoints.Saving | None = None
        with run.clock.spending("checkpoints"):
            checkpoints.sweep(self.folder)
            restored = last_good(run.plan, self.folder, self.like, self.identity)
            if restored is not None:
                self.state, self.lines = restored.state, restored.metadata["lines"]
                checkpoints.keep_newest(self.folder, run.plan.config.keep, restored.request)
                for step in run.plan.steps[: restored.request + 1]:  # what a kill may have left undone
                    self.forget(step)
        publish(method, seed, self.lines)

    def identity(self, request: int) -> dict[str, Any]:
        """What the checkpoint of a request must say of itself to be one of this run."""
        return {**self.whose, "request": request}

    def advance(self, step: Step, served: Served) -> None:
        """Measure what a request led to and begin its checkpoint.

        Raises:
            Diverged: a loss is not finite; the run stays where it was.
            OSError: the checkpoint before this one could not be written.
        """
        run, info = self.run, served.info
        check_finite(run.plan, self.method, self.seed, step, info)
        line = run.evaluator.line(self.method, self.seed, step, served, self.state, self.lines)
        run.plan.progress.measured(line, len(run.plan.steps))
        fields = ("task_losses", "remain_losses", "fast_norms", "clipped", "displacement_norms")
        traces = {name: np.asarray(getattr(info, name)) for name in fields}
        if devices.is_first():
            run.plan.folder.write_trace(self.method, self.seed, step.index, traces)
        self.finish()
        self.state, self.lines = served.state, [*self.lines, line]
        # The checkpoint carries the lines: whatever else a kill cuts short is rebuilt from it.
        identity = self.identity(step.index)
        metadata = {"identity": identity, "configuration": run.plan.settings, "lines": self.lines}
        with run.clock.spending("checkpoints"):
            self.saving = checkpoints.begin(self.folder, step.index, self.state, metadata)
        if step.request.kind == "unlearn":
            self.finish()

    def finish(self) -> None:
        """Wait for the checkpoint in hand; only then its lines are published and older checkpoints go.

        Raises:
            OSError: it could not be written.
            CorruptCheckpointError: it is not what was written.
        """
        saving, self.saving = self.saving, None  # one that fails is waited for once
        if saving is None:
            return
        step = self.run.plan.steps[len(self.lines) - 1]
        with self.run.clock.spending("checkpoints"):
            saving.wait()
            unlearned = step.request.kind == "unlearn"
            if unlearned:
                # Whole, before the others are touched.
                checkpoints.restore(self.folder, step.index, self.like, self.identity(step.index))
            checkpoints.keep_newest(self.folder, self.run.plan.config.keep, step.index)
            if unlearned:
                self.forget(step)
        self.publish(self.method, self.seed, self.lines)

    def forget(self, step: Step) -> None:
        """If a request unlearns, see that no checkpoint before its own holds an example of it."""
        if step.request.kind == "learn":
            return
        method, task = self.run.plan.entries[self.method].method, self.run.data.examples(step.request.ids)

        def without(state: CLUState) -> CLUState:
            kept = state.method._replace(extra=method.track("unlearn", state.method.extra, task))
            # Compiled as one: step by step it would be a dozen programs.
            return CLUState(kept, jax.jit(buffer_lib.remove)(state.buffer, task.ids))

        checkpoints.purge(self.folder, step.index, self.like, without, self.identity)


def run_streams(run: Run, method: str, seeds: tuple[int, ...], publish: Publish, stop: Stop) -> list[Diverged]:
    """Serve the stream with one method and some seeds, each from its last good checkpoint on.

    Returns:
        Why the seeds that did not reach the end diverged; the others go on without them.

    Raises:
        RunFailed: a file cannot be written.
    """
    with logged(run.plan.folder.path / "orbax.log"), resumable(run.plan):
        return _run_streams(run, method, seeds, publish, stop)


def _run_streams(run: Run, method: str, seeds: tuple[int, ...], publish: Publish, stop: Stop) -> list[Diverged]:
    plan = run.plan
    going = {seed: StreamRun(run, method, seed, publish) for seed in seeds}
    diverged = []
    with contextlib.ExitStack() as always:
        for one in going.values():  # whatever stops the run, what was computed is saved
            always.callback(one.finish)
        for step in plan.steps:
            states = {seed: one.state for seed, one in going.items() if len(one.lines) == step.index}
            if not states:
                continue
            stop.check(f"request {step.index + 1} of {len(plan.steps)}")
            names = [str(seed) for seed in states]
            names = names if len(names) <= MOST_NAMED else [names[0], "…", names[-1]]
            who = f"seed{'s' if len(states) > 1 else ''} {', '.join(names)}"
            with plan.progress.request(f"{method} {who}  {step.index + 1}/{len(plan.steps)} {step.request.name}"):
                served = run.server.serve_all(method, step, states)
            for seed, found in served.items():
                try:
                    going[seed].advance(step, found)
                except Diverged as error:
                    diverged.append(error)
                    going.pop(seed).finish()
    return diverged
