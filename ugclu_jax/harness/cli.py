"""The command line of every program that works through a stream: what is asked, what is refused, how it ends."""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import jax
from rich.console import Console

from ugclu_jax import bank, checkpoints, devices
from ugclu_jax.extras import MissingExtraError
from ugclu_jax.harness import estimate
from ugclu_jax.harness.command_line import defaults, first_words, parse
from ugclu_jax.harness.config import ExperimentConfig, nearest
from ugclu_jax.harness.execute import execute
from ugclu_jax.harness.plan import DryRun, Plan, RunFailed, load_dataset, path_of, prepare
from ugclu_jax.harness.program_cache import keep_programs
from ugclu_jax.harness.refusals import check_devices, check_machine, check_names, check_needs
from ugclu_jax.harness.run_data import take_up
from ugclu_jax.harness.scenarios import SCENARIOS, Scenario, shortened
from ugclu_jax.harness.signals import Stop, Stopped, stoppable
from ugclu_jax.harness.terminal import consoles, ended, say
from ugclu_jax.report.visible import copyable


class Job(NamedTuple):
    """What a program makes of its options and its configuration."""

    name: str  # of the run: of its folder, and in its configuration
    config: ExperimentConfig
    work: Callable[[Plan, Stop], None]
    study: bool = False  # of the stream up to its first unlearn request, in one process
    check: Callable[[Scenario], None] | None = None  # of the stream, before work
    counterfactual: bool = False  # whether learners are also run without ever seeing what is unlearned


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
    return ended(lambda: _main(program, description, arguments, options, methods, job))


def _main(
    program: str,
    description: str,
    arguments: Sequence[str] | None,
    options: Any,
    methods: tuple[str, ...] | None,
    job: Callable[[Any, Any], Job | None],
) -> int:
    console, errors = consoles()
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = copyable(["python", "-m", f"experiments.{program}", *given])
    told: Callable[[BaseException], str] = str
    try:
        first = first_words(given)
        name = program if options is None else first.scenario or options.scenario
        if name not in SCENARIOS:
            raise ValueError(f"unknown scenario {name!r}; {nearest(name, SCENARIOS)}")
        scenario = SCENARIOS[name]
        start, file = defaults(scenario.config, name, first, {} if methods is None else {"methods": list(methods)})
        asked = parse([start] if options is None else [options, start], given, program, description, file)
        told = asked.origin.told_of
        *own, config = asked.configurations
        check_names(config)
        made = job(own[0] if own else name, config)
        if made is None:
            return 0
        config = made.config
        check_needs(config, asked.origin.given.typed)
        if config.coordinator is not None:
            if made.study:
                raise ValueError(f"{program} runs in one process; leave --coordinator out")
            devices.join(config.coordinator, config.num_processes, config.process_id)
        check_machine(os.environ)
        check_devices(config)
        keep_programs(config.cache_dir)
        estimate.check_counts(config)
        if not devices.is_first():
            console = Console(quiet=True)
        found = take_up(path_of(made.name, config), load_dataset(config), config)
        built = scenario.build(config, found.dataset, found.known)
        if made.study:
            built = built._replace(stream=shortened(built.stream))
        if made.check is not None:
            made.check(built)
        estimate.check(config, built.dataset, built.stream)
        plan = prepare(
            made.name,
            config,
            built,
            found,
            console,
            command,
            counterfactual=made.counterfactual,
            fitting=methods is not None and "methods" not in asked.origin.given.typed,
        )
    except DryRun:
        return 0
    except BrokenPipeError:
        raise
    except (ValueError, OSError, devices.NotJoinedError, MissingExtraError) as error:
        say(errors, "Error:", told(error))
        return 2

    def last_words(number: int) -> str:
        how = "Terminated" if number == signal.SIGTERM else "Interrupted"
        return f"{how}; what was finished is saved. Resume with:\n  {plan.resume_command}"

    with plan.lock or nullcontext(), stoppable(lambda message: say(errors, "", message), last_words) as stop:
        try:
            made.work(plan, stop)
        except BrokenPipeError:
            raise
        except (RunFailed, bank.DamagedCacheError, checkpoints.CorruptCheckpointError, OSError) as error:
            say(errors, "Run failed:", str(error))
            return 1
        except jax.errors.JaxRuntimeError as error:
            if jax.process_count() == 1:
                raise
            reason = str(error).splitlines()[0]
            message = f"a process of this run was lost ({reason}). Resume all of them with:\n  {plan.resume_command}"
            say(errors, "Run failed:", message)
            os._exit(1)  # an orderly end would wait for the one that is lost
        except (KeyboardInterrupt, Stopped) as error:
            number = error.number if isinstance(error, Stopped) else signal.SIGINT
            say(errors, "", last_words(number))
            return 128 + number
    return 0
