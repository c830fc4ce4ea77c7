"""The runner of all experiments: every method and seed, then the report; its command line and how it ends."""

import itertools
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType
from typing import Any

import jax
from rich.console import Console
from rich.markup import escape

from experiments.config import C, parse
from experiments.course import Stop, Stopped, run_streams
from experiments.plan import Conclude, Plan, RunFailed, Scenario, load_dataset, prepare
from experiments.serving import Run
from ugclu_jax import checkpoints, devices, oracle
from ugclu_jax.data.dataset import Dataset
from ugclu_jax.report.metrics import from_json
from ugclu_jax.report.tables import TABLE_WIDTH, request_table
from ugclu_jax.streaming import reading


def execute(plan: Plan, conclude: Conclude | None = None, stop: Stop | None = None) -> None:
    """Run every method and seed of a plan, then write the report, and print the table or what `conclude` prints.

    Raises:
        RunFailed: a run cannot go on; where one of them diverged, after the others and the report.
    """
    from ugclu_jax.report import page  # it draws: matplotlib is half a second that `--help` need not wait for

    run = Run(plan)
    diverged: list[str] = []
    lines: dict[tuple[str, int], list[dict[str, Any]]] = {}

    def publish(method: str, seed: int, so_far: list[dict[str, Any]]) -> None:
        lines[method, seed] = so_far
        if devices.is_first():
            plan.folder.write_metrics(list(itertools.chain.from_iterable(lines.values())))

    start = time.perf_counter()
    with plan.progress, reading(run.train_inputs):
        at_once = plan.devices.count if plan.config.over == "seeds" else 1
        seeds = plan.config.seeds
        for method, first in itertools.product(plan.config.methods, range(0, len(seeds), at_once)):
            diverged += [
                str(error)
                for error in run_streams(run, method, seeds[first : first + at_once], publish, stop or Stop())
            ]
    if not devices.is_first():
        if diverged:
            raise RunFailed("\n".join(diverged))
        return
    with run.spending("report"):
        report = page.write_html(plan.folder.path)
    # Never narrower than the table: squeezed, it would lose the names of the requests.
    wide = Console(file=plan.console.file, width=max(plan.console.width, TABLE_WIDTH))
    found = [from_json(line) for line in itertools.chain.from_iterable(lines.values())]
    if found and conclude is None:
        wide.print(request_table(found))
    elif found:
        conclude(plan, found)
    whole = time.perf_counter() - start
    run.spent["the rest"] = whole - sum(run.spent.values())
    spent = ", ".join(f"{name} {seconds:.1f}" for name, seconds in run.spent.items())
    plan.console.print(f"Seconds:    {spent}", highlight=False, soft_wrap=True)
    plan.console.print(f"Run folder: {plan.folder.path}", highlight=False, soft_wrap=True)
    plan.console.print(f"Report:     {report}", highlight=False, soft_wrap=True)
    if diverged:
        raise RunFailed("\n".join(diverged))


def main(
    kind: type[C],
    name: str,
    description: str,
    build_scenario: Callable[[C, Dataset], Scenario],
    arguments: list[str] | None = None,
    *,
    program: str | None = None,
    conclude: Conclude | None = None,
) -> int:
    """Command line of an experiment; another `program` may run it and end it in its own way.

    Returns:
        The exit code: 0 done, 1 a failed run, 2 wrong use, 130 interrupted, 143 terminated.
    """
    console, errors = Console(), Console(stderr=True)
    given = sys.argv[1:] if arguments is None else arguments
    command = f"python -m experiments.{program or name} {shlex.join(given)}".rstrip()
    try:
        config = parse(kind, name, description, given, program)
        if config.coordinator is not None:
            devices.join(config.coordinator, config.num_processes, config.process_id)
        if not devices.is_first():
            console = Console(quiet=True)
        plan = prepare(name, config, build_scenario(config, load_dataset(config)), console, command)
    except (ValueError, OSError, devices.NotJoinedError) as error:
        errors.print(f"[red]Error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        return 2
    with plan.lock or nullcontext(), stoppable() as stop:
        try:
            execute(plan, conclude, stop)
        except (RunFailed, oracle.DamagedCacheError, checkpoints.CorruptCheckpointError, OSError) as error:
            errors.print(f"[red]Run failed:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
            return 1
        except jax.errors.JaxRuntimeError as error:
            if jax.process_count() == 1:
                raise
            reason = str(error).splitlines()[0]
            message = f"a process of this run was lost ({reason}). Resume all of them with:\n  {plan.resume_command}"
            errors.print(f"[red]Run failed:[/] {escape(message)}", highlight=False, soft_wrap=True)
            os._exit(1)  # an orderly end would wait for the one that is lost
        except (KeyboardInterrupt, Stopped) as error:
            number = error.number if isinstance(error, Stopped) else signal.SIGINT
            how = "Terminated" if number == signal.SIGTERM else "Interrupted"
            message = f"{how}; what was finished is saved. Resume with:\n  {escape(plan.resume_command)}"
            errors.print(message, highlight=False, soft_wrap=True)
            return 128 + number
    return 0


@contextmanager
def stoppable() -> Iterator[Stop]:
    """SIGTERM and Ctrl-C wait here for the request and the save in hand; sent again, they act at once."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(number: int, frame: FrameType | None) -> None:
        stop.number = number
        signal.signal(number, before[number])

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
