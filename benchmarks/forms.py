"""Is UG-CLU better with other inner steps, with another division of them, or along the theory's own direction?

Embedded digits, a small CNN trained on all of them, a buffer of a part of them; memorised random samples, or two
classes, are unlearned, and models of five seeds are compared with five oracles by the energy distance at matched
confidence. Everything is tabled and nothing chosen: the settings are the default's but for what a row names.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import cases, document
from benchmarks.document import Section, Table
from ugclu_jax import buffer as buffer_lib
from ugclu_jax import data, ug_clu
from ugclu_jax.batches import from_buffer, from_task
from ugclu_jax.coefficients import remaining_shares
from ugclu_jax.components import preserving_gradient, unlearning_gradient
from ugclu_jax.decay import decay_budget
from ugclu_jax.evidence import matched_energy_distance
from ugclu_jax.fast_slow import preconditioned
from ugclu_jax.learner import CLUState, apply_request
from ugclu_jax.models.adapters import linen_apply_fn
from ugclu_jax.models.cnn import CNN
from ugclu_jax.oracle import OracleSettings, train_from_scratch
from ugclu_jax.output_budget import FIRST_RELATIVE_STEP, kl_budget_step, mean_divergence
from ugclu_jax.prediction import predict
from ugclu_jax.trees import descend, global_norm
from ugclu_jax.types import Array, Batch, Examples, MethodState, ModelState, Params
from ugclu_jax.ugclu_settings import UNLEARNING, UNLEARNING_HYPER, UGCLUHyper
from ugclu_jax.ugclu_step import PRECONDITIONERS

CAPACITY, SHARE, CLASSES = 400, 0.1, (2, 7)
STEPS, INNER, BATCH = UNLEARNING.outer_steps, UNLEARNING.inner_steps, 64
DAMPING = 1e-2
"""λ of `(G_R + λI)⁻¹ g`; G_R is the softmax Gauss-Newton matrix of a batch of the buffer."""
GAUSS_NEWTON_ROWS = 256


def apply_fn_and_init() -> tuple[Callable[..., tuple[Array, ModelState]], Callable[[Array], tuple[Params, ModelState]]]:
    """The network."""
    module = CNN(num_classes=10, widths=(8, 16))

    def scaled(inputs: Array) -> Array:
        return inputs.astype(jnp.float32) / 255

    def init_fn(key: Array) -> tuple[Params, ModelState]:
        return module.init(key, scaled(jnp.zeros((1, 8, 8, 1), jnp.uint8)), train=False)["params"], {}

    return linen_apply_fn(module, scaled), init_fn


class Regime(NamedTuple):
    """Models before a request, and what it is measured by."""

    states: tuple[CLUState, ...]
    task: Examples
    unlearned: Array  # [N, ...] inputs
    test: Array  # of what is retained
    oracles: tuple[np.ndarray, np.ndarray]  # logits [O, N, C] on both


class Setup:
    """Networks of both regimes."""

    def __init__(self, smoke: bool) -> None:
        dataset = data.load("digits")
        self.labels, self.test_labels = np.asarray(dataset.train_labels), np.asarray(dataset.test_labels)
        self.apply_fn, self.init_fn = apply_fn_and_init()
        self.seeds = range(2 if smoke else 5)
        settings = OracleSettings(epochs=2 if smoke else 60)
        train = functools.partial(train_from_scratch, apply_fn=self.apply_fn, init_fn=self.init_fn, settings=settings)
        self.train: Callable[[Array, Examples], tuple[Params, ModelState]] = jax.jit(train)
        self.predict = jax.jit(functools.partial(predict, self.apply_fn, batch_size=100))
        rows = np.arange(len(self.labels))
        inputs = dataset.train_inputs
        states = []
        for seed in self.seeds:
            params, model_state = self.train(jax.random.key(seed), cases.examples(dataset, rows, len(rows)))
            buffer = buffer_lib.init(CAPACITY, inputs.shape[1:], np.uint8, jax.random.key(100 + seed))
            buffer = buffer_lib.insert(buffer, cases.examples(dataset, rows))
            states.append(CLUState(MethodState(params, model_state), buffer))
        sampled = np.sort(np.random.default_rng(0).choice(rows, int(SHARE * len(rows)), replace=False))
        self.regimes: dict[str, Regime] = {}
        for name, gone, tested in (
            ("memorised samples", sampled, np.arange(len(self.test_labels))),
            ("two classes", np.flatnonzero(np.isin(self.labels, CLASSES)), ~np.isin(self.test_labels, CLASSES)),
        ):
            kept = cases.examples(dataset, np.setdiff1d(rows, gone), len(rows))
            unlearned, test = jnp.asarray(inputs[gone]), jnp.asarray(dataset.test_inputs[tested])
            oracles = [self.train(jax.random.key(1000 + seed), kept) for seed in self.seeds]
            outputs = self.outputs(oracles, unlearned, test)
            self.regimes[name] = Regime(tuple(states), cases.examples(dataset, gone), unlearned, test, outputs)

    def outputs(
        self, networks: list[tuple[Params, ModelState]], unlearned: Array, test: Array
    ) -> tuple[np.ndarray, np.ndarray]:
        """Logits of networks on unlearned and on test inputs."""
        found = [[np.asarray(self.predict(*network, x)) for network in networks] for x in (unlearned, test)]
        return np.stack(found[0]), np.stack(found[1])

    def matched(self, regime: Regime, networks: list[tuple[Params, ModelState]]) -> str:
        """Matched E of networks, the sum of both sides, and its standard error; in words where one is not finite."""
        own = self.outputs(networks, regime.unlearned, regime.test)
        if not all(np.isfinite(each).all() for each in own):
            return "diverged"
        pairs = zip(own, regime.oracles, strict=True)
        found = [matched_energy_distance(*pair, own[1], regime.oracles[1]) for pair in pairs]
        error = sum(each.standard_error for each in found)
        return f"{sum(each.value for each in found):.3f}" + (f" ±{error:.3f}" if np.isfinite(error) else "")


def convolution_dimensions(params: Params) -> Params:
    """What Muon takes for the matrix of a weight: all axes but the last, against the last."""
    number = optax.contrib.MuonDimensionNumbers
    return jax.tree.map(lambda x: number(tuple(range(x.ndim - 1)), x.ndim - 1) if x.ndim > 1 else None, params)


def muon() -> optax.GradientTransformation:
    """Steps whose matrices are orthogonalised, as Shampoo's are in the limit of no memory; vectors by Adam."""
    matrices = optax.contrib.scale_by_muon(weight_dimension_numbers=convolution_dimensions)
    return optax.partition(
        {"matrix": matrices, "vector": PRECONDITIONERS["adam"]},
        lambda params: jax.tree.map(lambda x: "matrix" if x.ndim > 1 else "vector", params),
    )


def served(setup: Setup, regime: Regime, preconditioner: optax.GradientTransformation | None, **changes: float) -> str:
    """A request of each seed by `ug_clu`, with other settings or hyperparameters than the default's."""
    fields = {field.name for field in dataclasses.fields(UGCLUHyper)}
    hyper = dataclasses.replace(UNLEARNING_HYPER, **{k: v for k, v in changes.items() if k in fields})
    settings = dataclasses.replace(UNLEARNING, **{k: int(v) for k, v in changes.items() if k not in fields})
    method = ug_clu(setup.apply_fn, unlearn_settings=settings, num_classes=10, preconditioner=preconditioner)
    request = jax.jit(functools.partial(apply_request, method, "unlearn"))
    networks = []
    for seed, state in zip(setup.seeds, regime.states, strict=True):
        found, _ = request(jax.random.fold_in(jax.random.key(seed), 1), state, hyper, regime.task)
        networks.append((found.method.params, found.method.model_state))
    return setup.matched(regime, networks)


def preconditioners(setup: Setup, rates: Mapping[str, tuple[float, ...]]) -> Table:
    """Of the inner steps, each at several rates."""
    others: dict[str, optax.GradientTransformation] = {
        "gradient descent": optax.identity(),
        "Adam (the default)": PRECONDITIONERS["adam"],
        "RMSprop": optax.scale_by_rms(decay=0.99),
        "Muon": muon(),
    }
    rows = [
        (name, f"{rate:g}", *(served(setup, each, others[name], remain_learning_rate=rate) for each in regimes))
        for regimes in [setup.regimes.values()]
        for name, tried in rates.items()
        for rate in tried
    ]
    note = (
        "Matched E ± standard error. Any transformation of optax can be given, which is how these were. K-FAC (of "
        "kfac-jax) is an optimizer of its own that wants the model's loss registered with it, and Shampoo is in no "
        "package that is kept up for this JAX: Muon, its limit without memory, stands for them."
    )
    return Table("Preconditioners of the inner steps", ("inner steps by", "rate", *setup.regimes), rows, note)


def divisions(setup: Setup, divided: tuple[tuple[int, int], ...]) -> Table:
    """Few outer and many inner steps, or the reverse: as many inner steps in all."""
    rows = []
    for outer, inner in divided:
        cells = [served(setup, each, None, outer_steps=outer, inner_steps=inner) for each in setup.regimes.values()]
        rows.append((str(outer), str(inner), *cells))
    return Table("How the steps are divided", ("outer steps", "inner steps each", *setup.regimes), rows)


Direction = Callable[[Params, Params, Batch], Params]
"""`(params, g, batch of the buffer) -> direction` of the fast step."""


def directions(apply_fn: Callable[..., tuple[Array, ModelState]], solves: tuple[int, ...]) -> dict[str, Direction]:
    """The gradient, Adam's diagonal of the remaining loss, and the theory's `(G_R + λI)⁻¹ g`."""

    def gauss_newton(params: Params, batch: Batch, vector: Params) -> Params:
        def logits(p: Params) -> Array:
            return apply_fn(p, {}, batch.inputs, train=False, rng_key=None)[0]

        z, tangent = jax.jvp(logits, (params,), (vector,))
        p = jax.nn.softmax(z)
        curved = p * (tangent - jnp.sum(p * tangent, axis=1, keepdims=True)) / len(z)
        (product,) = jax.vjp(logits, params)[1](curved)
        return optax.tree.add_scale(product, DAMPING, vector)

    def solved(params: Params, gradient: Params, batch: Batch, *, steps: int) -> Params:
        product = functools.partial(gauss_newton, params, batch)
        found, _ = jax.scipy.sparse.linalg.cg(product, gradient, maxiter=steps, tol=0.0)
        return found

    def diagonal(params: Params, gradient: Params, batch: Batch) -> Params:
        def one(x: Array, y: Array) -> Params:
            single = Batch(x[None], y[None], jnp.ones(1))
            return preserving_gradient(apply_fn, params, {}, single).gradient

        each = jax.vmap(one)(batch.inputs, batch.labels)
        return jax.tree.map(lambda g, e: g / (jnp.sqrt(jnp.mean(e**2, axis=0)) + 1e-3), gradient, each)

    found: dict[str, Direction] = {"the gradient": lambda params, gradient, batch: gradient, "diagonal": diagonal}
    return found | {f"{n} conjugate gradient steps": functools.partial(solved, steps=n) for n in solves}


def whole(inputs: Array, labels: Array) -> Batch:
    """All of them as one batch."""
    return Batch(inputs, labels, jnp.ones(len(labels)))


def damage(setup: Setup, regime: Regime, direction: Direction, seed: int) -> float:
    """KL on retained test inputs, before to after, of the step that halves the probability of unlearned labels."""
    state = regime.states[seed]
    params, count = state.method.params, int(regime.task.count)
    rows = np.asarray(regime.task.ids[:count])
    task = whole(regime.unlearned, jnp.asarray(setup.labels[rows]))
    remain = from_buffer(jax.random.key(seed), state.buffer, (GAUSS_NEWTON_ROWS,))
    gradient = unlearning_gradient(setup.apply_fn, params, {}, task).gradient
    found = direction(params, gradient, remain)

    def known(length: Array | float) -> Array:
        logits = setup.predict(descend(params, found, length), {}, task.inputs)
        return jnp.mean(jnp.take_along_axis(jax.nn.softmax(logits), task.labels[:, None], axis=1))

    unit, wanted = float(global_norm(params) / global_norm(found)), float(known(0.0)) / 2
    low, high = -12.0, 3.0  # of the logarithm of the length, in norms of the parameters
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if float(known(unit * np.exp(middle))) > wanted else (low, middle)
    before = setup.predict(params, {}, regime.test)
    after = setup.predict(descend(params, found, unit * np.exp(low)), {}, regime.test)
    return float(mean_divergence(before, after, jnp.ones(len(after))))


def in_the_loop(setup: Setup, regime: Regime, direction: Direction) -> str:
    """The default's loop with another direction of its fast steps, everything else alike."""
    adam, hyper = PRECONDITIONERS["adam"], UNLEARNING_HYPER
    total = (STEPS * INNER + 1) / 2

    def request(key: Array, params: Params, buffer: buffer_lib.Buffer) -> Params:
        def outer(carry: tuple[Params, optax.OptState, Array], x: tuple[Array, Array]) -> tuple[tuple, None]:
            (params, optimizer, relative), (key, share) = carry, x
            keys = jax.random.split(key, 3)
            task = from_task(keys[0], regime.task, (BATCH,))
            component = unlearning_gradient(setup.apply_fn, params, {}, task)
            found = direction(params, component.gradient, from_buffer(keys[1], buffer, (GAUSS_NEWTON_ROWS,)))
            p_y = jnp.take_along_axis(jax.nn.softmax(component.logits), task.labels[:, None], axis=1)

            def divergence(moved: Params) -> Array:
                logits, _ = setup.apply_fn(moved, {}, task.inputs, train=True, rng_key=None)
                return mean_divergence(component.logits, logits, task.weights)

            budget = hyper.output_budget * share * jnp.mean(p_y)
            fast = kl_budget_step(params, found, divergence, output_budget=budget, relative_step=relative)
            factors = share - (1.0 - remaining_shares(INNER)) / STEPS

            def remain_gradient(p: Params, state: ModelState, batch: Batch) -> tuple[Params, ModelState, Array]:
                remain = preserving_gradient(setup.apply_fn, p, state, batch)
                return remain.gradient, state, remain.loss

            inner = preconditioned(
                fast.fast_params,
                {},
                remain_gradient,
                from_buffer(keys[2], buffer, (INNER, BATCH)),
                remain_learning_rate=hyper.remain_learning_rate,
                preconditioner=adam,
                preconditioner_state=optimizer,
                rate_factors=factors,
                decay_factors=decay_budget(hyper.kept_share, factors / total),
            )
            return (inner.params, inner.preconditioner_state, fast.relative_step), None

        begun = (params, adam.init(params), jnp.asarray(FIRST_RELATIVE_STEP))
        shares = 1.0 - jnp.arange(STEPS) / STEPS
        return jax.lax.scan(outer, begun, (jax.random.split(key, STEPS), shares))[0][0]

    run = jax.jit(request)
    networks: list[tuple[Params, ModelState]] = []
    for seed, state in zip(setup.seeds, regime.states, strict=True):
        kept = buffer_lib.remove(state.buffer, regime.task.ids)
        networks.append((run(jax.random.fold_in(jax.random.key(seed), 1), state.method.params, kept), {}))
    return setup.matched(regime, networks)


def theory(setup: Setup, solves: tuple[int, ...]) -> Table:
    """Damage at equal forgetting, and E at the end of a request."""
    rows = []
    for name, own in directions(setup.apply_fn, solves).items():
        direction = jax.jit(own)
        hurt = [
            f"{np.mean([damage(setup, each, direction, seed) for seed in setup.seeds]):.3f}"
            for each in setup.regimes.values()
        ]
        rows.append((name, *hurt, *(in_the_loop(setup, each, direction) for each in setup.regimes.values())))
    header = ("direction", *(f"damage, {name}" for name in setup.regimes), *(f"E, {name}" for name in setup.regimes))
    note = (
        "Damage: KL on retained test inputs, before to after, of one step that halves the mean probability of the "
        "unlearned labels. E: matched, of whole requests whose fast steps have that direction and the default's "
        f"budget. Damping {DAMPING:g}, {GAUSS_NEWTON_ROWS} rows of the buffer for each system; a conjugate gradient "
        "step passes over these about as often as two gradients."
    )
    return Table("The direction of the theory, (G_R + λI)⁻¹ g", header, rows, note)


def run(smoke: bool) -> Section:
    """All tables."""
    setup = Setup(smoke)
    rates = {"Adam (the default)": (1e-2,)} if smoke else {
        "gradient descent": (0.03, 0.1, 0.3),
        "Adam (the default)": (3e-3, 1e-2, 3e-2),
        "RMSprop": (3e-3, 1e-2, 3e-2),
        "Muon": (3e-3, 1e-2, 3e-2),
    }  # fmt: skip
    tables = [
        preconditioners(setup, rates),
        divisions(setup, ((10, 20),) if smoke else ((5, 40), (10, 20), (20, 10), (40, 5), (100, 2))),
        theory(setup, (2,) if smoke else (5, 20, 50)),
    ]
    return Section(tables)


if __name__ == "__main__":
    document.main("forms", __doc__, run)
