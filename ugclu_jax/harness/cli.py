"""The command line of every program that works through a stream: what is asked, what is refused, how it ends."""

import dataclasses
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from types import FrameType
from typing import Any, NamedTuple

import jax
from rich.console import Console
from rich.markup import escape

from ugclu_jax import checkpoints, devices, oracle
from ugclu_jax.extras import MissingExtraError
from ugclu_jax.harness.command_line import defaults, first_words, parse
from ugclu_jax.harness.config import ExperimentConfig, nearest
from ugclu_jax.harness.execute import execute
from ugclu_jax.harness.plan import Plan, RunFailed, load_dataset, prepare
from ugclu_jax.harness.scenarios import SCENARIOS, Scenario, shortened
from ugclu_jax.harness.stream_run import Stop, Stopped

Handler = Callable[[int, FrameType | None], Any] | int | None
"""Of a signal, as `signal.signal` returns it."""


class Job(NamedTuple):
    """What a program makes of its options and its configuration."""

    name: str  # of the run: of its folder, and in its configuration
    config: ExperimentConfig
    work: Callable[[Plan, Stop], None]
    study: bool = False  # of the stream up to its first unlearn request, in one process
    check: Callable[[Scenario], None] | None = None  # of the stream, before work


def experiment(name: str, config: ExperimentConfig) -> Job:
    """Run every method and seed, write the report and print the table."""
    return Job(name, config, lambda plan, stop: execute(plan, stop=stop))


def main(
    program: str,
    description: str,
    arguments: Sequence[str] | None = None,
    *,
    options: Any = None,
    methods: tuple[str, ...] | None = None,
    job: Callable[[Any, Any], Job | None] = experiment,
) -> int:
    """Command line of all programs that work through a stream.

    Args:
        program: as in `python -m experiments.PROGRAM`; the name of its scenario, unless it has options.
        description: of the help.
        arguments: of the command line; None = the process's own.
        options: defaults of the program's own options, a frozen dataclass; one of them is `scenario`.
        methods: that it takes where none is named, in place of the settings file's.
        job: from options (or the scenario's name, without options) and configuration; None: nothing is left to do.

    Returns:
        The exit code: 0 done, 1 a failed run, 2 wrong use, 130 interrupted, 143 terminated.
    """
    console, errors = Console(), Console(stderr=True)
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = f"python -m experiments.{program} {shlex.join(given)}".rstrip()
    try:
        first = first_words(given, program)
        name = program if options is None else first.scenario or options.scenario
        if name not in SCENARIOS:
            raise ValueError(f"unknown scenario {name!r}; {nearest(name, SCENARIOS)}")
        scenario = SCENARIOS[name]
        start = defaults(scenario.config, name, first)
        if methods is not None:
            start = dataclasses.replace(start, methods=methods)
        *own, config = parse([start] if options is None else [options, start], given, program, description)
        asked = job(own[0] if own else name, config)
        if asked is None:
            return 0
        config = asked.config
        if config.coordinator is not None:
            if asked.study:
                raise ValueError(f"{program} runs in one process; leave --coordinator out")
            devices.join(config.coordinator, config.num_processes, config.process_id)
        if not devices.is_first():
            console = Console(quiet=True)
        built = scenario.build(config, load_dataset(config))
        if asked.study:
            built = built._replace(stream=shortened(built.stream))
        if asked.check is not None:
            asked.check(built)
        plan = prepare(asked.name, config, built, console, command)
    except (ValueError, OSError, devices.NotJoinedError, MissingExtraError) as error:
        errors.print(f"[red]Error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        return 2
    with plan.lock or nullcontext(), stoppable() as stop:
        try:
            asked.work(plan, stop)
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

    before: dict[int, Handler] = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
