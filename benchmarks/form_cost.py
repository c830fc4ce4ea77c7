"""How much dearer is a gradient evaluation of the preconditioned form than one of the paper's?

The same unlearn requests, networks, buffers and numbers of steps, served in turns by both; the plain form without its
mask, which the default has not either. Adam's two trees, the decay and the probe are what the quotient holds; the probe
is counted as the third of a gradient evaluation that a forward pass is.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax

from benchmarks import cases, document, timing
from benchmarks.document import Section, Table
from ugclu_jax import ug_clu, ug_clu_plain
from ugclu_jax.learner import CLUState, apply_request
from ugclu_jax.types import Info, Method
from ugclu_jax.ugclu_settings import UNLEARNING

REPEATS = 9


def served(program: Callable[..., tuple[CLUState, Info]], case: cases.Case, method: Method) -> Info:
    """The case's request by a method, when it is done."""
    return jax.block_until_ready(program(case.rng_key, case.state, method.hyper["unlearn"], case.task))[1]


def run(smoke: bool) -> Section:
    """One row a network."""
    rows = []
    networks = (cases.digits_mlp, cases.fashion_cnn, cases.random_resnet)
    for make in networks[:1] if smoke else networks:
        case = make(smoke)
        plain = dataclasses.replace(case.settings, mask="none")
        same = {"outer_steps": plain.outer_steps, "inner_steps": plain.inner_steps}
        sizes = {"task_batch_size": plain.task_batch_size, "remain_batch_size": plain.remain_batch_size}
        preconditioned = dataclasses.replace(UNLEARNING, **same, **sizes)
        classes = case.dataset.num_classes
        methods = {
            "plain": ug_clu_plain(case.apply_fn, unlearn_settings=plain, num_classes=classes),
            "preconditioned": ug_clu(case.apply_fn, unlearn_settings=preconditioned, num_classes=classes),
        }
        calls, evaluations = {}, {}
        for name, method in methods.items():
            program = jax.jit(functools.partial(apply_request, method, "unlearn"))
            calls[name] = functools.partial(served, program, case, method)
            evaluations[name] = float(calls[name]().gradient_evaluations)
        seconds = timing.interleaved(calls, 2 if smoke else REPEATS)
        each = {name: [value / evaluations[name] for value in found] for name, found in seconds.items()}
        quotient = timing.ratio(each["preconditioned"], each["plain"])
        milliseconds = [str(timing.spread([1000 * value for value in each[name]])) for name in methods]
        rows.append((case.name, *(f"{evaluations[name]:.1f}" for name in methods), *milliseconds, str(quotient)))
    header = (
        "network",
        "gradient evaluations, plain",
        "preconditioned",
        "ms each, plain",
        "preconditioned",
        "quotient",
    )
    return Section([Table("Milliseconds of a gradient evaluation", header, rows, "The goal is 1.08 at most.")])


if __name__ == "__main__":
    document.main("form_cost", __doc__, run)
