"""The command line of an experiment, and how it ends."""

import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType

import jax
from rich.console import Console
from rich.markup import escape

from ugclu_jax import checkpoints, devices, oracle
from ugclu_jax.data.dataset import Dataset
from ugclu_jax.harness.config import C, parse
from ugclu_jax.harness.execute import execute
from ugclu_jax.harness.plan import Conclude, RunFailed, load_dataset, prepare
from ugclu_jax.harness.scenarios import Scenario
from ugclu_jax.harness.stream_run import Stop, Stopped


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
