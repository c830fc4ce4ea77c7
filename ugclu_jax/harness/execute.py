"""Every method and seed of a plan, then the report."""

import itertools
import time
from typing import Any

from ugclu_jax import devices
from ugclu_jax.harness import counterfactuals
from ugclu_jax.harness.at_once import wanted
from ugclu_jax.harness.catalogue import split_name
from ugclu_jax.harness.clock import Clock, peak_bytes
from ugclu_jax.harness.counterfactuals import Counterfactuals
from ugclu_jax.harness.finished import finished_lines
from ugclu_jax.harness.orbax_log import logged
from ugclu_jax.harness.plan import Conclude, Plan, RunFailed
from ugclu_jax.harness.remains import SHOWN, remains, shown_examples
from ugclu_jax.harness.run import start
from ugclu_jax.harness.shown import forget_shown
from ugclu_jax.harness.signals import Stop
from ugclu_jax.harness.stream_run import Publish, resumable, run_streams
from ugclu_jax.harness.terminal import say
from ugclu_jax.report import evidence
from ugclu_jax.report.ending import say_requests, say_verdicts
from ugclu_jax.report.metrics import from_json
from ugclu_jax.report.remains import remaining
from ugclu_jax.streaming import reading


def serve(plan: Plan, clock: Clock, publish: Publish, stop: Stop) -> list[str]:
    """Take every method and seed to the end of the stream; return why some did not get there."""
    diverged: list[str] = []
    with reading((run := start(plan, clock)).data.train_inputs):
        at_once, seeds = run.server.group_size, plan.config.seeds
        if at_once > 1:
            on = f" on each of {run.server.devices} devices" if run.server.devices > 1 else ""
            told = run.server.group.told(wanted(plan.config, run.server.devices))
            say(plan.console, "", f"Seeds:      {told}{on}")
        for method, first in itertools.product(plan.config.methods, range(0, len(seeds), at_once)):
            diverged += map(str, run_streams(run, method, seeds[first : first + at_once], publish, stop))
        if plan.counterfactuals:
            with resumable(plan):
                others = Counterfactuals(plan, run.data, run.predictions, run.server, clock)
                for learner, seed, step in counterfactuals.wanted(plan):
                    stop.check(f"counterfactual of {learner}, seed {seed}")
                    others.write(learner, seed, step)
    return diverged


def execute(plan: Plan, conclude: Conclude | None = None, stop: Stop | None = None) -> None:
    """Run every method and seed of a plan, then write the report, and print the table and the verdict.

    Args:
        plan: what is run.
        conclude: prints in place of the table of requests, from the plan and all lines.
        stop: asks for an end between two requests.

    Raises:
        RunFailed: a run cannot go on; where one of them diverged, after the others and the report.
    """
    from ugclu_jax.report import page  # it draws: matplotlib is half a second that `--help` need not wait for

    diverged: list[str] = []
    lines: dict[tuple[str, int], list[dict[str, Any]]] = {}

    def publish(method: str, seed: int, so_far: list[dict[str, Any]]) -> None:
        lines[method, seed] = so_far
        if devices.is_first():
            plan.folder.write_metrics(list(itertools.chain.from_iterable(lines.values())))

    if devices.is_first():
        plan.folder.write_lost([])
    begin, clock = time.perf_counter(), Clock()
    with clock, plan.progress:
        with logged(plan.folder.path / "orbax.log"), clock.spending("checkpoints"):
            finished = finished_lines(plan)
        if finished is None or (plan.counterfactuals and not counterfactuals.complete(plan)):
            finished = None
            diverged += serve(plan, clock, publish, stop or Stop())
        for (method, seed), saved in (finished or {}).items():
            publish(method, seed, saved)
    if not devices.is_first():
        if diverged:
            raise RunFailed("\n".join(diverged))
        return
    found = [from_json(line) for line in itertools.chain.from_iterable(lines.values())]
    with resumable(plan), clock.spending("report"):
        try:
            learners = {method: split_name(method)[0] for method in plan.config.methods}
            evidence.write(plan.folder.path, evidence.gather(plan.folder.path, found, learners))
            if not plan.config.show_unlearned:
                forget_shown(plan.folder.path)
            left = remains(plan.folder.path)
            report = page.write_html(plan.folder.path, left)
            others = [each for each in left or [] if each.what != SHOWN]
            left = [*others, *shown_examples(plan.folder.path)]  # the report is one by now
        except ValueError as error:  # a file of the run is damaged, a trace say
            raise RunFailed(f"the run is done, but its report cannot be written: {error}") from error
    if found and conclude is not None:
        say_verdicts(plan.console, found)  # first: a table of methods is what is read
        conclude(plan, found)
    elif found:
        say_requests(plan.console, found)
        say_verdicts(plan.console, found)
    whole = time.perf_counter() - begin
    clock.spent["the rest"] = whole - sum(clock.spent.values())
    spent = ", ".join(f"{name} {seconds:.1f}" for name, seconds in clock.spent.items())
    for line in (
        f"Seconds:    {spent}",
        f"Memory:     {peak_bytes() / 2**30:.2f} GiB at most",
        f"Run folder: {plan.folder.path}",
        f"Report:     {report}",
    ):
        say(plan.console, "", line)
    if any(step.request.kind == "unlearn" for step in plan.steps):
        for line in remaining(left or [], plan.folder.path):
            say(plan.console, "", line)
    if diverged:
        plan.folder.write_lost(diverged)
        raise RunFailed("\n".join(diverged))
