"""Does a request cost the same however much was learned before, and how often is it compiled?

Noise images of 28×28 pixels and an MLP. A stream of 20 learn requests of 40 to 2,000 examples: compilations, and time
against what was learned before. Then the pass that makes the mask, by number of batches.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import numpy as np
from matplotlib.axes import Axes

from benchmarks import cases, document, timing
from benchmarks.document import Section, Table
from benchmarks.figures import axes_of, png
from ugclu_jax import buffer as buffer_lib
from ugclu_jax.at import At
from ugclu_jax.examples import bucket_size
from ugclu_jax.learner import CLUState, request_program
from ugclu_jax.models import ModelOptions
from ugclu_jax.programs import Layout, Program, compiled
from ugclu_jax.types import Array, Buffer, Examples, MethodState, ModelState, Params, PyTree
from ugclu_jax.ugclu import saliency_mask
from ugclu_jax.ugclu_plain import PLAIN
from ugclu_jax.ugclu_settings import UGCLUHyper, UGCLUSettings


def counting() -> tuple[Layout, list[Callable]]:
    """A layout on one device, and the functions that it was asked to compile."""
    asked: list[Callable] = []

    def compile_for(function: Callable, *arguments: PyTree) -> Program:
        asked.append(function)
        return compiled(function, *arguments)

    return Layout(compile_for), asked


def sizes_of(requests: int, largest: int) -> list[int]:
    """Sizes of the requests of a stream, the same at every call: from 40 to `largest`, evenly in their logarithms."""
    return np.random.default_rng(0).permutation(np.geomspace(40, largest, requests).astype(int)).tolist()


def stream(case: cases.Case, sizes: list[int], repeats: int) -> tuple[Table, bytes]:
    """Serve a stream of requests of these sizes: each is timed again from the state that it found.

    Raises:
        AssertionError: another number of compilations than of bucket sizes.
    """
    layout, asked = counting()
    run, method = request_program(layout), case.method()
    empty = buffer_lib.init(
        case.state.buffer.ids.shape[0], case.dataset.train_inputs.shape[1:], np.uint8, jax.random.key(1)
    )
    state = CLUState(MethodState(*case.state.method[:2]), empty)
    learned, before, seconds = 0, [], []
    for index, size in enumerate(sizes):
        task = cases.examples(case.dataset, np.arange(learned, learned + size))
        key = jax.random.fold_in(case.rng_key, index)
        costs = [run(method, "learn", key, state, case.hyper, task)[2].seconds for _ in range(repeats + 1)][1:]
        state = run(method, "learn", key, state, case.hyper, task)[0]
        before.append(learned)
        seconds.append(timing.spread(costs))
        learned += size
    buckets = {bucket_size(size) for size in sizes}
    assert len(asked) == len(buckets), f"{len(asked)} compilations for {len(buckets)} bucket sizes"
    late = range(len(sizes) // 2, len(sizes))
    early_median, late_median = (np.median([seconds[i].median for i in half]) for half in (range(late.start), late))
    line = np.polyfit(before, [found.median for found in seconds], 1)
    rows = [
        (
            str(len(sizes)),
            f"{min(sizes)}–{max(sizes)}",
            str(len(buckets)),
            str(len(asked)),
            timing.number(early_median),
            timing.number(late_median),
            f"{100 * line[0] * before[-1] / line[1]:+.1f} %",
        )
    ]
    header = (
        "requests", "examples each", "bucket sizes", "compilations", "first half, s", "second half, s",
        "fitted rise over the stream",
    )  # fmt: skip
    note = (
        f"Every request has {case.settings.outer_steps} outer steps. The rise is that of a straight line through all "
        f"requests, from nothing learned to {before[-1]:,} examples, in parts of its beginning."
    )
    figure, axes = axes_of("examples learned before the request", "seconds of a request")
    _points(axes, before, seconds)
    axes.set_ylim(0)
    return Table("A stream of requests", header, rows, note), png(figure)


def mask_pass(case: cases.Case, numbers: tuple[int, ...], repeats: int) -> tuple[Table, bytes]:
    """The saliency mask alone, by its number of batches."""
    settings = {n: dataclasses.replace(PLAIN, saliency_batches=n) for n in numbers}
    network = case.state.method
    calls = {}
    for n, chosen in settings.items():
        arguments = (case.rng_key, network.params, network.model_state, case.hyper, case.task, case.state.buffer)
        calls[str(n)] = functools.partial(_finish, _mask_program(case, chosen), *arguments)
    seconds = {name: timing.spread(values) for name, values in timing.interleaved(calls, repeats).items()}
    medians = [found.median for found in seconds.values()]
    each, fixed = np.polyfit(numbers, medians, 1)
    rows = [(name, str(found), timing.number(found.median / int(name))) for name, found in seconds.items()]
    rows.append(("slope, log-log", f"{timing.slope(numbers, medians):.2f}", "–"))
    rows.append(("fit", f"{timing.number(fixed)} + {timing.number(each)} × batches", "–"))
    note = "Batches of the task, and as many of the buffer, of 64 examples; the gradient of each example (`fisher`)."
    figure, axes = axes_of("saliency batches", "seconds of the mask pass")
    _points(axes, numbers, list(seconds.values()))
    axes.set(xscale="log", yscale="log")
    return Table("The mask pass", ("batches", "s", "s a batch"), rows, note), png(figure)


def _mask_program(case: cases.Case, settings: UGCLUSettings) -> Callable[..., PyTree]:
    def mask(
        rng_key: Array, params: Params, model_state: ModelState, hyper: UGCLUHyper, task: Examples, buffer: Buffer
    ) -> PyTree:
        return saliency_mask(rng_key, At(case.apply_fn, params, model_state), hyper, task, buffer, settings)

    return jax.jit(mask)


def _finish(program: Callable[..., PyTree], *arguments: PyTree) -> None:
    jax.block_until_ready(program(*arguments))


def _points(axes: Axes, x: list[int] | tuple[int, ...], seconds: list[timing.Spread]) -> None:
    medians = [found.median for found in seconds]
    below, above = zip(*((found.median - found.lowest, found.highest - found.median) for found in seconds), strict=True)
    axes.errorbar(x, medians, (below, above), fmt="o", markersize=4, linewidth=1, color="#0072b2")


def run(smoke: bool) -> Section:
    """Both tables, both figures."""
    requests, largest = (4, 100) if smoke else (20, 2000)
    sizes = sizes_of(requests, largest)
    dataset = cases.random_images("noise", sum(sizes), (28, 28, 1))
    settings = dataclasses.replace(
        PLAIN, outer_steps=2 if smoke else 60, inner_steps=2, saliency_batches=1 if smoke else 8
    )
    case = cases.make("MLP", "mlp", "noise", dataset, settings, 50 if smoke else 2000, ModelOptions())
    repeats = timing.REPEATS
    served, served_figure = stream(case, sizes, repeats)
    masked, mask_figure = mask_pass(case, (1, 2) if smoke else (1, 2, 4, 8, 16, 32), repeats)
    return Section([served, masked], {"growth_requests.png": served_figure, "growth_mask.png": mask_figure})


if __name__ == "__main__":
    document.main("growth", __doc__, run)
