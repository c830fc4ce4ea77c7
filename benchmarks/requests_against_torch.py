"""How long does a whole unlearn request of UG-CLU take, against a plain PyTorch program of the same algorithm?

The same weights, the same batches, the same gradient evaluations, as many threads. The library draws its batches and
removes the examples from its buffer within its time; PyTorch has its batches at hand. It runs eager and by
`torch.compile` (inductor), each with images channels first and channels last: the faster layout counts. On two cores
the library runs twice: on one device that has both, and divided over two host devices (`JAX_NUM_CPU_DEVICES=2`,
`--devices all`), the time to lay the state on them within it. Outputs are compared before anything is timed, in
float64.
"""

import dataclasses
import time
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks import document, process, timing
from benchmarks.cases import CASES, Case, in_float64
from benchmarks.document import Section, Table
from ugclu_jax import devices
from ugclu_jax.learner import CLUState, request_program
from ugclu_jax.programs import ONE_DEVICE

MEASURE = "benchmarks.requests_against_torch:measure"
AGREEMENT = "benchmarks.requests_against_torch:agreement"
TOLERANCE = 1e-9
"""Largest ‖ours − torch's‖ / ‖ours − start‖ over all parameters in float64, after `AGREED_STEPS` outer steps of as many
inner steps each."""
AGREED_STEPS = 2
WAYS = {"eager": False, "compiled": True}
LAST = "channels last"
LAYOUTS = {"channels first": False, LAST: True}


class Request(NamedTuple):
    """The library's program of a case, compiled, and what it gave."""

    serve: Any  # () -> CLUState
    state: CLUState
    task_losses: np.ndarray
    evaluations: float
    compile_seconds: float


def ours(case: Case, over: devices.Devices | None = None) -> Request:
    """The request as the library serves it, on one device or divided over several as an experiment divides it."""
    run, task = request_program(devices.layout(over) if over else ONE_DEVICE), case.task
    method = case.method(divided=over is not None)
    if over:
        task = task._replace(inputs=devices.shard_rows(np.asarray(task.inputs), over))

    def serve() -> CLUState:
        return run(method, "unlearn", case.rng_key, case.state, case.hyper, task)[0]

    state, info, cost = run(method, "unlearn", case.rng_key, case.state, case.hyper, task)
    return Request(serve, state, np.asarray(info.task_losses), float(info.gradient_evaluations), cost.compile_seconds)


def prepared(case: Case, channels_last: bool = False, device: str = "cpu") -> tuple[Any, Any]:
    """PyTorch's module with the case's weights, and its request with the case's batches, all of it on a device."""
    import torch

    from benchmarks import torch_loop, torch_networks
    from benchmarks.draws import draws

    drawn, dataset = draws(case), case.dataset
    network = case.state.method
    module = torch_networks.make(case.model, network.params, network.model_state, dataset.train_inputs.shape[1:])
    module = module.to(device)
    if channels_last:
        module = module.to(memory_format=torch.channels_last)
    kind = next(module.parameters()).dtype
    moments = (torch.tensor(v, dtype=kind, device=device)[:, None, None] for v in (dataset.mean, dataset.std))

    def pairs(inputs: np.ndarray, labels: np.ndarray) -> list[Any]:
        found = torch_loop.batches(inputs, labels, channels_last)
        return [(images.to(device), classes.to(device)) for images, classes in found]

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
    return module, request


def theirs(case: Case, channels_last: bool = False, device: str = "cpu", compiled: bool = False) -> Any:
    """`() -> (module, task losses)`: the request by PyTorch, eager or by a compiled module, from the case's weights.

    These are set back in place each time: CUDA graphs know their inputs by address, and a copy of the module would be
    compiled anew.
    """
    import torch

    from benchmarks import torch_loop

    module, request = prepared(case, channels_last, device)
    start = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    mode = "max-autotune" if device == "cuda" else None
    forward = torch.compile(module, mode=mode) if compiled else module

    def serve() -> Any:
        with torch.no_grad():
            for name, tensor in module.state_dict().items():
                tensor.copy_(start[name])
        losses = torch_loop.unlearn(module, request, forward)
        if device == "cuda":
            torch.cuda.synchronize()
        return module, losses

    return serve


def difference(case: Case, request: Request, module: Any) -> float:
    """`‖ours − torch's‖ / ‖ours − start‖` over all parameters."""
    from benchmarks import torch_networks

    def parameters(state: CLUState) -> dict[str, np.ndarray]:
        return {name: tensor.numpy() for name, tensor in torch_networks.tensors(state.method.params, {}).items()}

    start, end = parameters(case.state), parameters(request.state)
    other = {name: parameter.detach().cpu().numpy() for name, parameter in module.named_parameters()}
    assert set(other) == set(end)
    apart = sum(np.square(end[name] - other[name], dtype=np.float64).sum() for name in end)
    moved = sum(np.square(end[name] - start[name], dtype=np.float64).sum() for name in end)
    return float(np.sqrt(apart / moved))


def agreement(cores: int, case: str, smoke: bool, saliency_threshold: float | None = None) -> float:
    """Largest `difference` of the programs in float64 on the first steps of a case.

    Args:
        cores, case, smoke: as in `measure`.
        saliency_threshold: γ; None = the case's own. At 0 every weight is free: Winograd's convolution gives rounding
            where a statistic is 0, and whether 0 ≥ γ · 0 is then left to that.

    Raises:
        AssertionError: it is above `TOLERANCE`, or the losses are apart.
    """
    import torch

    torch.set_num_threads(cores)
    with jax.enable_x64(True):
        made = in_float64(CASES[case](smoke), AGREED_STEPS)
        if saliency_threshold is not None:
            threshold = jax.numpy.float64(saliency_threshold)
            made = made._replace(hyper=dataclasses.replace(made.hyper, saliency_threshold=threshold))
        module, losses = theirs(made)()
        largest = 0.0
        for name, request in requests(made, cores).items():
            apart = difference(made, request, module)
            assert apart <= TOLERANCE, (
                f"{case}, {name}: parameters differ by {apart:.2g}, relative to how far they moved"
            )
            np.testing.assert_allclose(losses, request.task_losses, rtol=TOLERANCE)
            largest = max(largest, apart)
    return largest


def requests(case: Case, cores: int) -> dict[str, Request]:
    """The library's programs by name: on one device, and on as many as there are cores where these are several."""
    made = {"ours": ours(case)}
    return made | ({"divided": ours(case, devices.select(cores))} if cores > 1 else {})


def measure(cores: int, case: str, smoke: bool, repeats: int) -> dict[str, Any]:
    """Seconds of one case by all programs, in a process with `cores` cores.

    Args:
        cores: threads of PyTorch, and host devices of JAX; XLA has as many threads as the process has cores.
        case: key of `CASES`.
        smoke: smallest size.
        repeats: of each program.
    """
    import torch

    torch.set_num_threads(cores)
    made = CASES[case](smoke)
    mine, begin = requests(made, cores), time.perf_counter()
    others = {
        f"{way}, {layout}": theirs(made, channels_last, compiled=compiled)
        for way, compiled in WAYS.items()
        for layout, channels_last in LAYOUTS.items()
        if not channels_last or (case != "mlp" and not (smoke and compiled))  # compiling is most of a smoke run
    }
    apart = [difference(made, request, serve()[0]) for serve in others.values() for request in mine.values()]
    torch_seconds = time.perf_counter() - begin
    programs = {name: request.serve for name, request in mine.items()} | others
    return {
        "name": made.name,
        "data": made.data,
        "steps": f"{made.settings.outer_steps} × (1 + {made.settings.inner_steps})",
        "mask": made.settings.saliency,
        "evaluations": mine["ours"].evaluations,
        "compile": [*(request.compile_seconds for request in mine.values()), torch_seconds],
        "difference": max(apart),
        "seconds": timing.interleaved(programs, repeats),
    }


def core_counts(smoke: bool) -> list[int]:
    """1 and 2, as far as there are so many; at smoke size the last of them."""
    counts = [count for count in (1, 2) if count <= process.cores_here()]
    return counts[-1:] if smoke else counts


def split(cores: int) -> dict[str, str]:
    """The environment in which JAX makes a host device of each core."""
    return {"JAX_NUM_CPU_DEVICES": str(cores)}


def row(cores: int, found: dict[str, Any]) -> tuple[str, ...]:
    """One line of the table."""
    seconds = found["seconds"]
    medians = {name: timing.spread(values).median for name, values in seconds.items()}
    best = {way: min((name for name in seconds if name.startswith(way)), key=medians.__getitem__) for way in WAYS}

    def shown(name: str) -> str:
        return str(timing.spread(seconds[name])) if name in seconds else "–"

    def faster(way: str, name: str) -> str:
        return str(timing.ratio(seconds[best[way]], seconds[name])) if name in seconds else "–"

    return (
        f"{found['name']}, {found['data']}",
        str(cores),
        found["steps"],
        f"{found['evaluations']:.3g}, {found['mask']}",
        *(shown(name) for name in ("ours", "divided")),
        *(f"{shown(name)}{'*' * name.endswith(LAST)}" for name in best.values()),
        *(faster(way, name) for name in ("ours", "divided") for way in WAYS),
        ", ".join(map(timing.number, found["compile"])),
        f"{found['difference']:.0e}",
    )


def run(smoke: bool) -> Section:
    """Every case at one and two cores."""
    header = (
        "network, data", "cores", "outer × (fast + inner) steps", "gradient evaluations, mask", "ours, s",
        "ours, a device a core, s", "PyTorch eager, s", "compiled, s", "faster than eager, times", "than compiled",
        "a device a core: than eager", "than compiled", "compilation, s: ours, PyTorch's", "parameters apart",
    )  # fmt: skip
    rows, apart = [], {}
    for case in CASES:
        free = None if case != "resnet18" or smoke else 0.0
        counts = core_counts(smoke)
        apart[case], _ = process.call(
            AGREEMENT,
            cores=counts[-1],
            environment=split(counts[-1]),
            case=case,
            smoke=smoke,
            saliency_threshold=free,
        )
        for cores in counts:
            found, _ = process.call(
                MEASURE, cores=cores, environment=split(cores), case=case, smoke=smoke, repeats=timing.REPEATS
            )
            rows.append(row(cores, found))
    note = (
        "With *: channels last. PyTorch's compilation is its first call of each program. "
        "Parameters apart: ‖ours − PyTorch's‖ / ‖ours − start‖ after the whole request in float32, where rounding "
        "flips rectifiers and batch normalisation spreads each flip. Before anything is timed the two must agree in "
        f"float64 after {AGREED_STEPS} × (1 + {AGREED_STEPS}) steps to {TOLERANCE:.0e}; found: "
        + ", ".join(f"{case} {value:.0e}" for case, value in apart.items())
        + " (resnet18 with all weights free: at a statistic of 0 rounding decides its mask)."
    )
    return Section([Table("A whole unlearn request", header, rows, note)])


if __name__ == "__main__":
    document.main("requests_against_torch", __doc__, run)
