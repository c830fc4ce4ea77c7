"""How long does a whole unlearn request of UG-CLU take, against a plain PyTorch program of the same algorithm?

The same weights, the same batches, the same gradient evaluations, as many threads. The library draws its batches and
removes the examples from its buffer within its time; PyTorch, eager, has its batches at hand. Outputs are compared
before anything is timed.
"""

import copy
import functools
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks import document, process, timing
from benchmarks.cases import CASES, Case
from benchmarks.document import Section, Table
from ugclu_jax.learner import CLUState, request_program
from ugclu_jax.models import ModelOptions

MEASURE = "benchmarks.requests_against_torch:measure"
TOLERANCE = {"mlp": 1e-3, "cnn": 0.02, "resnet18": 0.1}
"""Largest ‖ours − torch's‖ / ‖ours − start‖ over all parameters, in float32. Rounding flips ReLUs that are near 0, and
a flip changes a gradient: the more units, the more flips. In float64 the two agree to 1e-9, which the tests check."""


class Request(NamedTuple):
    """The library's program of a case, compiled, and what it gave."""

    serve: Any  # () -> CLUState
    state: CLUState
    task_losses: np.ndarray
    evaluations: float
    compile_seconds: float


def ours(case: Case) -> Request:
    """The request as the library serves it."""
    run, method = request_program(), case.method

    def serve() -> CLUState:
        return run(method, "unlearn", case.rng_key, case.state, case.hyper, case.task)[0]

    state, info, cost = run(method, "unlearn", case.rng_key, case.state, case.hyper, case.task)
    return Request(serve, state, np.asarray(info.task_losses), float(info.gradient_evaluations), cost.compile_seconds)


def theirs(case: Case, channels_last: bool = False) -> Any:
    """`() -> (module, task losses)`: the request by PyTorch, from the case's weights each time."""
    import torch

    from benchmarks import torch_loop, torch_networks
    from benchmarks.draws import draws

    drawn, dataset = draws(case), case.dataset
    network = case.state.method
    module = torch_networks.make(case.model, network.params, network.model_state, dataset.train_inputs.shape[1:])
    if channels_last:
        module = module.to(memory_format=torch.channels_last)
    kind = next(module.parameters()).dtype
    moments = (torch.tensor(values, dtype=kind)[:, None, None] for values in (dataset.mean, dataset.std))
    pairs = functools.partial(torch_loop.batches, channels_last=channels_last)
    names = set(torch_loop.Request._fields) - {"mask_task", "mask_remain", "task", "remain", "normalise", "saliency"}
    request = torch_loop.Request(
        mask_task=pairs(drawn.mask_task.inputs, drawn.mask_task.labels),
        mask_remain=pairs(drawn.mask_remain.inputs, drawn.mask_remain.labels),
        task=pairs(drawn.task.inputs, drawn.task.labels),
        remain=[pairs(x, y) for x, y in zip(drawn.remain.inputs, drawn.remain.labels, strict=True)],
        normalise=torch_loop.Normalise(*moments, dataset.scale),
        saliency=case.settings.saliency,
        **{name: float(getattr(case.hyper, name)) for name in names},
    )

    def serve() -> Any:
        fresh = copy.deepcopy(module)
        return fresh, torch_loop.unlearn(fresh, request)

    return serve


def difference(case: Case, request: Request, module: Any) -> float:
    """`‖ours − torch's‖ / ‖ours − start‖` over all parameters."""
    from benchmarks import torch_networks

    def parameters(state: CLUState) -> dict[str, np.ndarray]:
        return {name: tensor.numpy() for name, tensor in torch_networks.tensors(state.method.params, {}).items()}

    start, end = parameters(case.state), parameters(request.state)
    other = {name: parameter.detach().numpy() for name, parameter in module.named_parameters()}
    assert set(other) == set(end)
    apart = sum(np.square(end[name] - other[name], dtype=np.float64).sum() for name in end)
    moved = sum(np.square(end[name] - start[name], dtype=np.float64).sum() for name in end)
    return float(np.sqrt(apart / moved))


def measure(cores: int, case: str, smoke: bool, repeats: int, options: dict[str, Any] | None = None) -> dict[str, Any]:
    """Seconds of one case by both programs, in a process with `cores` cores.

    Args:
        cores: threads of PyTorch; XLA has as many as the process has cores.
        case: key of `CASES`.
        smoke: smallest size.
        repeats: of each program.
        options: of the network, as `ModelOptions` has them; None = the case's own.

    Raises:
        AssertionError: the programs do not agree.
    """
    import torch

    torch.set_num_threads(cores)
    made = CASES[case](smoke, None if options is None else ModelOptions(**options))
    request = ours(made)
    programs = {"ours": request.serve, "torch": theirs(made)}
    if case != "mlp":
        programs["channels_last"] = theirs(made, channels_last=True)
    apart = {}
    for name in list(programs)[1:]:
        module, losses = programs[name]()
        apart[name] = difference(made, request, module)
        assert apart[name] <= TOLERANCE[case], f"{case} by {name}: parameters differ by {apart[name]:.2g}"
        np.testing.assert_allclose(losses, request.task_losses, rtol=TOLERANCE[case])
    seconds = timing.interleaved(programs, repeats)
    return {
        "name": made.name,
        "data": made.data,
        "steps": f"{made.settings.outer_steps} × (1 + {made.settings.inner_steps})",
        "mask": made.settings.saliency,
        "evaluations": request.evaluations,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(made.state.method.params)),
        "compile": request.compile_seconds,
        "difference": max(apart.values()),
        "seconds": seconds,
    }


def core_counts(smoke: bool) -> list[int]:
    """1 and 2, as far as there are so many."""
    return [1] if smoke else [count for count in (1, 2) if count <= process.cores_here()]


def row(cores: int, found: dict[str, Any]) -> tuple[str, ...]:
    """One line of the table."""
    seconds = found["seconds"]
    spreads = {name: timing.spread(values) for name, values in seconds.items()}
    best = min((name for name in seconds if name != "ours"), key=lambda name: spreads[name].median)
    return (
        f"{found['name']}, {found['data']}",
        str(cores),
        found["steps"],
        f"{found['evaluations']:.3g}, {found['mask']}",
        str(spreads["ours"]),
        str(spreads["torch"]),
        str(spreads["channels_last"]) if "channels_last" in spreads else "–",
        f"{timing.ratio(seconds[best], seconds['ours'])}",
        timing.number(found["compile"]),
        f"{found['difference']:.0e}",
    )


def run(smoke: bool) -> Section:
    """Every case at one and two cores."""
    header = (
        "network, data", "cores", "outer × (fast + inner) steps", "gradient evaluations, mask", "ours, s", "PyTorch, s",
        "PyTorch channels_last, s", "faster than the better PyTorch, times", "compilation, s", "parameters apart",
    )  # fmt: skip
    rows = [
        row(
            cores,
            process.call(MEASURE, cores=cores, case=case, smoke=smoke, repeats=timing.REPEATS)[0],
        )
        for case in CASES
        for cores in core_counts(smoke)
    ]
    note = (
        "Parameters apart: ‖ours − PyTorch's‖ / ‖ours − start‖ after the request, in float32; at most "
        + ", ".join(f"{limit:g} ({case})" for case, limit in TOLERANCE.items())
        + " is let pass, because rounding flips ReLUs that are near 0 and a flip changes a gradient; in float64 the "
        "two agree to 1e-9 (tests)."
    )
    return Section([Table("A whole unlearn request", header, rows, note)])


if __name__ == "__main__":
    document.main("requests_against_torch", __doc__, run)
