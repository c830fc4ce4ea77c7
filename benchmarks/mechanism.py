"""Why did the paper's form of UG-CLU diverge, and learn badly where it did not?

Embedded digits, a small CNN, two curves. Left: a learn request whose fast step has a rate β_Q. Inner steps on the
buffer damp what the buffer is curved in; the curvature of what is new, λ_max of its loss, is not there, and a step of
more than 2 / λ_max overshoots. Shown are rectifiers that answer nothing any more, to no image at all: no gradient
brings them back. Right: inner steps of gradient descent when unlearning, whose rate meets the buffer's own λ_max.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import cases, document
from benchmarks.document import Section, Table
from benchmarks.figures import axes_of, png
from ugclu_jax import buffer as buffer_lib
from ugclu_jax import data, ug_clu, ug_clu_plain
from ugclu_jax.components import preserving_gradient
from ugclu_jax.learner import CLUState, apply_request
from ugclu_jax.models.adapters import linen_apply_fn
from ugclu_jax.models.cnn import CNN
from ugclu_jax.trees import global_norm
from ugclu_jax.types import ApplyFn, Array, Batch, Examples, ModelState, Params
from ugclu_jax.ugclu_plain import PLAIN, PLAIN_HYPER
from ugclu_jax.ugclu_settings import LEARNING_HYPER, UNLEARNING

FIRST, SECOND, GONE = range(5), range(5, 10), (5, 6)
CAPACITY, ITERATIONS = 200, 30


def largest_curvature(apply_fn: ApplyFn, params: Params, model_state: ModelState, batch: Batch) -> float:
    """λ_max of the Hessian of a batch's mean loss, by power iteration with Hessian-vector products."""

    def gradient(params: Params) -> Params:
        return preserving_gradient(apply_fn, params, model_state, batch).gradient

    def normalised(tree: Params) -> tuple[Params, Array]:
        size = global_norm(tree)
        return jax.tree.map(lambda x: x / size, tree), size

    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    drawn = [jax.random.normal(key, x.shape) for key, x in zip(keys, leaves, strict=True)]
    vector = normalised(jax.tree.unflatten(structure, drawn))[0]
    apart = jax.jit(lambda v: normalised(jax.jvp(gradient, (params,), (v,))[1]))
    size = jnp.zeros(())
    for _ in range(ITERATIONS):
        vector, size = apart(vector)
    return float(size)


def dead_share(module: CNN, params: Params, inputs: Array) -> float:
    """Share of convolution channels whose rectifier passes nothing of any input; 1 where they are not finite."""
    _, seen = module.apply({"params": params}, inputs, train=False, capture_intermediates=True)
    channels = [
        np.asarray(each["__call__"][0]).reshape(-1, each["__call__"][0].shape[-1]).max(0)
        for name, each in seen["intermediates"].items()
        if name.startswith("Conv")
    ]
    highest = np.concatenate(channels)
    return float(np.mean(~(highest > 0)))


class Setup:
    """A network, its data, and the state after a first request, by seed."""

    def __init__(self, smoke: bool) -> None:
        self.dataset = data.load("digits")
        self.labels = np.asarray(self.dataset.train_labels)
        self.module = CNN(num_classes=10, widths=(8, 16))
        self.apply_fn = linen_apply_fn(self.module, self.prepared)
        self.steps = 3 if smoke else 40
        self.learn = jax.jit(functools.partial(apply_request, ug_clu(self.apply_fn, num_classes=10), "learn"))

    @staticmethod
    def prepared(inputs: Array) -> Array:
        """Pixels in [0, 1]."""
        return inputs.astype(jnp.float32) / 255

    def task(self, classes: tuple[int, ...] | range) -> Examples:
        """All training examples of some classes."""
        return cases.examples(self.dataset, np.flatnonzero(np.isin(self.labels, list(classes))))

    def batch(self, classes: tuple[int, ...] | range) -> Batch:
        """The same as one batch, which λ_max is of."""
        rows = np.flatnonzero(np.isin(self.labels, list(classes)))
        return Batch(jnp.asarray(self.dataset.train_inputs[rows]), jnp.asarray(self.labels[rows]), jnp.ones(len(rows)))

    def after(self, seed: int, *requests: tuple[int, ...] | range) -> CLUState:
        """The state after learning these classes, by the default."""
        key, buffer_key = jax.random.split(jax.random.key(seed))
        inputs = self.dataset.train_inputs
        params = self.module.init(key, self.prepared(jnp.asarray(inputs[:1])), train=False)["params"]
        method = ug_clu(self.apply_fn, num_classes=10)
        state = CLUState(method.init(params, {}), buffer_lib.init(CAPACITY, inputs.shape[1:], np.uint8, buffer_key))
        for index, classes in enumerate(requests):
            state, _ = self.learn(jax.random.fold_in(key, index), state, LEARNING_HYPER, self.task(classes))
        return state


def fast_steps(setup: Setup, rates: np.ndarray, seeds: range) -> tuple[list[Table], bytes]:
    """Rectifiers that a learn request kills, by β_Q λ_max; by a budget of outputs; and without a fast step."""
    plain = dataclasses.replace(PLAIN, outer_steps=setup.steps, inner_steps=5, mask="none")
    budgeted = dataclasses.replace(UNLEARNING, outer_steps=setup.steps, inner_steps=5)
    inputs = setup.prepared(jnp.asarray(setup.dataset.test_inputs))
    task, batch = setup.task(SECOND), setup.batch(SECOND)
    free = dataclasses.replace(PLAIN_HYPER, loss_exponent=0.0, clip_norm=float("inf"), remain_learning_rate=0.05)
    served = {
        name: jax.jit(functools.partial(apply_request, method, "learn"))
        for name, method in (
            ("rate", ug_clu_plain(setup.apply_fn, plain, num_classes=10)),
            ("budget", ug_clu(setup.apply_fn, budgeted, num_classes=10)),
            ("none", ug_clu(setup.apply_fn, dataclasses.replace(budgeted, fast_step="none"), num_classes=10)),
        )
    }
    figure, axes = axes_of("β_Q λ_max at the start of the request", "rectifiers killed, share")
    rows: list[tuple[str, ...]] = []
    killed: dict[float, list[tuple[float, float]]] = {rate: [] for rate in rates}
    for seed in seeds:
        state = setup.after(seed, FIRST)
        curvature = largest_curvature(setup.apply_fn, state.method.params, {}, batch)
        before = dead_share(setup.module, state.method.params, inputs)
        key = jax.random.fold_in(jax.random.key(seed), 9)
        for rate in rates:
            hyper = dataclasses.replace(free, fast_learning_rate=float(rate))
            found, _ = served["rate"](key, state, hyper, task)
            killed[rate].append((rate * curvature, dead_share(setup.module, found.method.params, inputs) - before))
        shares = []
        for name in ("none", "budget"):
            found, _ = served[name](key, state, LEARNING_HYPER, task)
            shares.append(f"{dead_share(setup.module, found.method.params, inputs) - before:+.3f}")
        rows.append((str(seed), f"{curvature:.1f}", *shares))
    for each in killed.values():
        axes.plot(*zip(*each, strict=True), "o", markersize=3, color="#0072b2")
    axes.axvline(2, color="#d55e00", linewidth=1)
    axes.set(xscale="log")
    by_rate = [
        (f"{rate:.3g}", f"{np.mean([x for x, _ in each]):.1f}", f"{np.mean([share for _, share in each]):+.3f}")
        for rate, each in killed.items()
    ]
    note = (
        "Mean of the seeds, of the paper's form without clip and mask. The line in the figure is 2. Of parameters that "
        "are not finite every rectifier counts as dead."
    )
    other = (
        f"λ_max is of the new classes' loss at the start of the request. A budget of {LEARNING_HYPER.output_budget:g} "
        "nats holds the outputs, not the rectifiers: another reason why the default learns without a fast step."
    )
    header = ("seed", "λ_max", "without a fast step", "with one, by a budget")
    return [
        Table("Rectifiers that a learn request kills, by rate", ("β_Q", "β_Q λ_max", "killed"), by_rate, note),
        Table("The same by the preconditioned form", header, rows, other),
    ], png(figure)


def inner_rates(setup: Setup, rates: np.ndarray, seeds: range) -> tuple[Table, bytes]:
    """Highest loss on remaining data within an unlearn request of inner steps alone, by lr λ_max of the buffer."""
    kept = tuple(c for c in range(10) if c not in GONE)
    settings = {
        name: dataclasses.replace(
            UNLEARNING, outer_steps=setup.steps, inner_steps=5, fast_step="none", preconditioner=name
        )
        for name in ("sgd", "adam")
    }
    served = {
        name: jax.jit(
            functools.partial(apply_request, ug_clu(setup.apply_fn, unlearn_settings=own, num_classes=10), "unlearn")
        )
        for name, own in settings.items()
    }
    figure, axes = axes_of("lr λ_max of the buffer", "highest remaining loss")
    rows, peaks = [], {(name, rate): [] for name in served for rate in rates}
    for seed in seeds:
        state, key = setup.after(seed, FIRST, SECOND), jax.random.fold_in(jax.random.key(seed), 9)
        curvature = largest_curvature(setup.apply_fn, state.method.params, {}, setup.batch(kept))
        for (name, rate), found in peaks.items():
            hyper = dataclasses.replace(PLAIN_HYPER, remain_learning_rate=float(rate))
            _, info = served[name](key, state, hyper, setup.task(GONE))
            losses = np.asarray(info.remain_losses)
            found.append((rate * curvature, float(losses.max()) if np.isfinite(losses).all() else np.inf))
    for name, colour in (("sgd", "#0072b2"), ("adam", "#009e73")):
        points = [point for (own, _), found in peaks.items() if own == name for point in found]
        axes.plot(*zip(*points, strict=True), "o", markersize=3, color=colour, label=name)
    axes.axvline(2, color="#d55e00", linewidth=1)
    axes.set(xscale="log", yscale="log")
    axes.legend(frameon=False)
    for rate in rates:
        own = {name: peaks[name, rate] for name in served}
        highest = {name: f"{np.median([peak for _, peak in found]):.3g}" for name, found in own.items()}
        scaled = np.mean([x for x, _ in own["sgd"]])
        rows.append((f"{rate:.3g}", f"{scaled:.2f}", highest["sgd"], highest["adam"]))
    note = "Median of the seeds; λ_max is of the loss on what is retained, at the start of the request."
    header = ("lr", "lr λ_max", "highest loss, gradient descent", "highest loss, Adam")
    return Table("Highest loss on remaining data", header, rows, note), png(figure)


def run(smoke: bool) -> Section:
    """Both tables, both figures."""
    setup, seeds, number = Setup(smoke), range(1 if smoke else 5), 2 if smoke else 9
    killed, killed_figure = fast_steps(setup, np.geomspace(0.03, 10.0, number), seeds)
    peaks, peaks_figure = inner_rates(setup, np.geomspace(3e-3, 3.0, number), seeds)
    return Section([*killed, peaks], {"mechanism_rectifiers.png": killed_figure, "mechanism_rates.png": peaks_figure})


if __name__ == "__main__":
    document.main("mechanism", __doc__, run)
