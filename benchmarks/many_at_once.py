"""What does it save to run many requests, or several oracles, in one program?

The unlearn request of the MLP on digits for many seeds, or at many points of `UGCLUHyper`: one compiled request after
another, against all of them under one `vmap`, one `lax.map`, a `lax.map` over `vmap`s of 32, or one `pmap` over two
host devices. Then three oracles, and a few steps of the requests of convolutional networks for several seeds.
`ugclu_jax/harness/at_once.py` chooses by these figures how a run serves its seeds.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import document, process, timing
from benchmarks.cases import CASES, Case, digits_mlp
from benchmarks.document import Section, Table
from ugclu_jax import devices
from ugclu_jax.learner import CLUState, apply_request
from ugclu_jax.oracle import OracleSettings, oracle_program
from ugclu_jax.programs import ONE_DEVICE, Layout, mapped
from ugclu_jax.types import MethodState, PyTree

MEASURE, ORACLES = "benchmarks.many_at_once:measure", "benchmarks.many_at_once:oracles"
RunAll = Callable[[PyTree], PyTree]
"""From points, every leaf with a leading axis S, to what their requests led to, likewise."""
TOLERANCE = 1e-3
"""Largest relative difference of parameters (norms over all of a point) between two ways: products of other shapes are
summed in another order, and ReLUs may flip, see `requests_against_torch`."""


LANES = 32
"""Of a `lax.map` over `vmap`s."""
SEEDS_OF: Mapping[str, tuple[int, int]] = {"cnn": (8, 5), "resnet18": (4, 1)}
"""Seeds and outer steps of the requests of convolutional networks."""


def at_once(devices_there: int, count: int) -> dict[str, Layout]:
    """Ways to run a function of a point and of what `count` points share, for all points in one program."""
    if devices_there > 1:
        chosen = devices.select(devices_there)
        return {"pmap of vmap": devices.spread(chosen), "pmap of lax.map": devices.spread(chosen, at_once=1)}
    ways = {"vmap": mapped(), "lax.map": mapped(at_once=1)}
    return ways | ({f"lax.map of vmap {LANES}": mapped(at_once=LANES)} if count > LANES else {})


def separately(one: Callable[[PyTree, PyTree], PyTree], shared: PyTree) -> RunAll:
    """One compiled program, called for one point after another."""
    program = ONE_DEVICE.program(one)

    def run_all(points: PyTree) -> PyTree:
        count = len(jax.tree.leaves(points)[0])
        each = [jax.tree.map(lambda x, s=s: x[s], points) for s in range(count)]
        results = [jax.block_until_ready(program(point, shared)) for point in each]
        return jax.tree.map(lambda *x: jnp.stack(x), *results)

    return run_all


def together(program: Callable[[PyTree, PyTree], PyTree], shared: PyTree) -> RunAll:
    """One program for all points."""
    return lambda points: program(points, shared)


def seeds_of(case: Case, count: int) -> tuple[Callable[[PyTree, PyTree], PyTree], PyTree, PyTree]:
    """`(one, points, shared)`: a fresh network, and other draws, for every seed."""
    keys = jax.random.split(case.rng_key, count)
    params, model_state = jax.jit(jax.vmap(case.init_fn))(keys)

    def one(point: PyTree, shared: PyTree) -> PyTree:
        (key, network), (buffer, hyper, task) = point, shared
        state, _ = apply_request(case.method(), "unlearn", key, CLUState(network, buffer), hyper, task)
        return state.method.params

    return one, (keys, MethodState(params, model_state)), (case.state.buffer, _traced(case.hyper), case.task)


def hypers_of(case: Case, count: int) -> tuple[Callable[[PyTree, PyTree], PyTree], PyTree, PyTree]:
    """`(one, points, shared)`: the same network and draws at `count` learning rates."""
    rates = jnp.geomspace(0.001, 0.03, count)
    same = jax.tree.map(lambda x: jnp.full(count, x, jnp.float32), case.hyper)
    hyper = dataclasses.replace(same, remain_learning_rate=rates)

    def one(hyper: PyTree, shared: PyTree) -> PyTree:
        key, state, task = shared
        return apply_request(case.method(), "unlearn", key, state, hyper, task)[0].method.params

    return one, hyper, (case.rng_key, case.state, case.task)


def _traced(hyper: PyTree) -> PyTree:
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), hyper)


def compare(
    ways: Mapping[str, RunAll], points: PyTree, repeats: int, tolerance: float | None = TOLERANCE
) -> dict[str, Any]:
    """Seconds of every way to run all points, once their results agree with those of the first way.

    Args:
        ways: by name.
        points: of all.
        repeats: of each.
        tolerance: of their difference; None = whatever it is, which the table shows.

    Raises:
        AssertionError: they do not agree.
    """
    results, compile_seconds = {}, {}
    for name, run_all in ways.items():
        start = time.perf_counter()
        results[name] = jax.block_until_ready(run_all(points))
        first = time.perf_counter() - start
        start = time.perf_counter()
        jax.block_until_ready(run_all(points))
        compile_seconds[name] = max(0.0, first - (time.perf_counter() - start))
    expected = next(iter(results.values()))
    apart = max(difference(expected, result) for result in results.values())
    assert tolerance is None or apart <= tolerance, (
        f"the ways {', '.join(ways)} give parameters that differ by {apart:.2g}"
    )
    programs = {name: lambda run_all=run_all: jax.block_until_ready(run_all(points)) for name, run_all in ways.items()}
    return {"seconds": timing.interleaved(programs, repeats), "compile": compile_seconds, "difference": apart}


def difference(expected: PyTree, found: PyTree) -> float:
    """Largest `‖a − b‖ / ‖a‖` of a point, over all its leaves."""

    def squares(tree: PyTree) -> np.ndarray:
        return sum(np.square(np.asarray(x, np.float64)).reshape(len(x), -1).sum(1) for x in jax.tree.leaves(tree))

    return float(np.sqrt(squares(jax.tree.map(jnp.subtract, expected, found)) / squares(expected)).max())


def measure(
    cores: int, kind: str, count: int, smoke: bool, repeats: int, devices_there: int, network: str = "mlp"
) -> dict[str, Any]:
    """All ways for `count` seeds or points of UGCLUHyper, in a process with so many cores and host devices."""
    case = CASES[network](smoke)
    if network in SEEDS_OF and not smoke:
        case = case._replace(settings=dataclasses.replace(case.settings, outer_steps=SEEDS_OF[network][1]))
    one, points, shared = (seeds_of if kind == "seeds" else hypers_of)(case, count)
    ways: dict[str, RunAll] = {"separately": separately(one, shared)}
    for name, layout in at_once(devices_there, count).items():
        ways[name] = together(layout.program(one), shared)
    # Batch normalisation spreads every flip of a rectifier, see `requests_against_torch`.
    return compare(ways, points, repeats, None if network == "resnet18" else TOLERANCE)


def oracles(cores: int, smoke: bool, repeats: int) -> dict[str, Any]:
    """Three oracles in one program, and one after another."""
    case = digits_mlp(smoke)
    settings = OracleSettings(epochs=1 if smoke else 40)
    program = oracle_program(case.apply_fn, case.init_fn, settings)
    keys = jax.random.split(jax.random.key(0), 3)

    def one_by_one(keys: PyTree) -> PyTree:
        each = [jax.block_until_ready(program(keys[s : s + 1], case.task)[0]) for s in range(len(keys))]
        return jax.tree.map(lambda *x: jnp.concatenate(x), *each)

    return compare({"separately": one_by_one, "vmap": lambda keys: program(keys, case.task)[0]}, keys, repeats)


def row(what: str, found: dict[str, Any], devices_there: int) -> list[tuple[str, ...]]:
    """A line for every way to run all in one program."""
    seconds = found["seconds"]
    return [
        (
            what,
            f"{name}, {devices_there} host device{'s' if devices_there > 1 else ''}",
            str(timing.spread(seconds["separately"])),
            str(timing.spread(seconds[name])),
            str(timing.ratio(seconds["separately"], seconds[name])),
            f"{timing.number(found['compile']['separately'])}, {timing.number(found['compile'][name])}",
            f"{found['difference']:.0e}",
        )
        for name in seconds
        if name != "separately"
    ]


def run(smoke: bool) -> Section:
    """Seeds and points on one device and spread over two, then oracles; all the cores that there are."""
    rows: list[tuple[str, ...]] = []
    cores, repeats = process.cores_here(), timing.REPEATS
    names = {"seeds": "seeds", "hypers": "points of UGCLUHyper"}
    for kind, name in names.items():
        for count in (4,) if smoke else (8, 32, 128):
            for there in (1, 2):
                environment = {"JAX_NUM_CPU_DEVICES": str(there)}
                arguments = {"kind": kind, "count": count, "smoke": smoke, "repeats": repeats, "devices_there": there}
                found, _ = process.call(MEASURE, cores=cores, environment=environment, **arguments)
                rows += row(f"{count} {name}", found, there)
    found, _ = process.call(ORACLES, cores=cores, smoke=smoke, repeats=repeats)
    rows += row("3 oracles", found, 1)
    for network, (count, _) in SEEDS_OF.items():
        for there in (1, 2):
            arguments = {"kind": "seeds", "count": count, "smoke": smoke, "repeats": repeats, "network": network}
            environment = {"JAX_NUM_CPU_DEVICES": str(there)}
            found, _ = process.call(MEASURE, cores=cores, environment=environment, devices_there=there, **arguments)
            rows += row(f"{count} seeds of {network}", found, there)
    header = (
        "what",
        "at once by",
        "one by one, s",
        "at once, s",
        "times faster",
        "compilation of both, s",
        "apart",
    )
    note = (
        f"On {cores} cores. Apart: largest relative difference of a network's parameters between the ways; up to "
        f"{TOLERANCE:g} is let pass (float32, ReLUs near 0). Compilation: the first call less the second."
    )
    return Section([Table("Many requests in one program", header, rows, note)])


if __name__ == "__main__":
    document.main("many_at_once", __doc__, run)
