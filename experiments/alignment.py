"""Does the displacement of a fast-slow step point where the theory says, along the exact `H_R^{-1} g`?

    python -m experiments.alignment --epochs 1 4 --seeds 0 1    # embedded digits
    python -m experiments.alignment --settings ugclu_jax/harness/settings/regimes/memorised.json

Reference: the paper's Proposition 3, `θ_k − θ^R ≈ β² H_R^{-1} g`. The study `inner_steps`
runs this program.

Networks are trained from scratch for some numbers of epochs. On some of what is retained, which stands for R in the
curvature as in the inner steps, an outer step is taken twice on the same batches, with the task gradient g of what is
to be unlearned and without; the ends differ by the displacement. Two forms:

    fast    the paper's: θ^Q = θ − β_Q g, then K_in inner steps.  On a quadratic β_Q (I − β_R H)^{K_in} g
    every   s g in every inner step instead.                      On a quadratic s (I − (I − β_R H)^{K_in}) H^{-1} g

each by gradient descent at 1/|λ|_max of H and G, and by Adam at the settings' rate. Beside the cosine with `(A +
λI)^{-1} g` stands the quotient of lengths, 1 where the theory's is right: of the displacement and `β_Q β_R (A +
λI)^{-1} g` (fast), or `s (A + λI)^{-1} g` (every). A is the Hessian H of the loss, where H + λI is positive definite,
and the softmax Gauss-Newton matrix G; λ is a share of λ_max(G), or `1 / (β_R K_in)`: both the filter and `λ (H +
λI)^{-1}` are then 1 where H is 0, with the same slope. Small networks are taken in float64 and solved exactly, others
by conjugate gradients, whose residual is kept. The slow step scales the displacement and turns nothing, so α is no
part of this.

The run folder gets alignment/SEED-EPOCHS.json. The same command takes up what is missing.
"""

import dataclasses
import functools
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from ugclu_jax import curvature
from ugclu_jax.components import unlearning_gradient, weighted_gradient
from ugclu_jax.fast_slow import preconditioned
from ugclu_jax.files import write
from ugclu_jax.harness.cli import Job, main
from ugclu_jax.harness.config import ExperimentConfig
from ugclu_jax.harness.device_data import DeviceData
from ugclu_jax.harness.options import Group, ScenarioName
from ugclu_jax.harness.plan import Plan
from ugclu_jax.harness.signals import Stop
from ugclu_jax.harness.stream_run import resumable
from ugclu_jax.oracle import oracle_program
from ugclu_jax.report import alignments
from ugclu_jax.report.format import markdown_table, number
from ugclu_jax.trees import descend
from ugclu_jax.types import ApplyFn, Array, Batch, InitFn, ModelState, Params
from ugclu_jax.ugclu_settings import Preconditioner
from ugclu_jax.ugclu_step import PRECONDITIONERS

SMALL = 2000
"""Parameters up to which a network is taken in float64 and its matrices are made and solved exactly."""
SOLVE_STEPS, TOLERANCE = 60, 1e-3
"""Conjugate gradient steps at most, and the relative residual that ends them earlier."""
LENGTH = 1e-3
"""Of all task steps of an outer step together, as a share of the parameters' norm."""
HIDDEN = 16
MATRICES = ("H", "G")
BY: tuple[Preconditioner, ...] = ("sgd", "adam")
At = tuple[Params, ModelState, Any]
"""θ, the model's statistics, and the data of a point."""


@dataclass(frozen=True)
class AlignmentOptions(Group):
    """What is measured, and where."""

    scenario: ScenarioName = "random_sample"
    """Whose stream is served; all other settings are those of this experiment."""
    epochs: tuple[int, ...] = (1, 5, 40)
    """Points of training: networks that were trained for so many epochs."""
    inner: tuple[int, ...] = (1, 2, 5, 10, 20)
    """K_in."""
    dampings: tuple[float, ...] = (0.1, 0.01, 0.001)
    """λ, as shares of λ_max(G)."""
    rows: int = 512
    """Examples of what is retained, and at most as many of what is to be unlearned."""

    def __post_init__(self) -> None:
        for name in ("epochs", "inner", "dampings"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values) or min(values) <= 0:
                raise ValueError(f"{name} must be one or more different positive values, got {values}")
        self.at_least(rows=2)
        super().__post_init__()


def small_network(num_classes: int, input_shape: tuple[int, ...]) -> tuple[ApplyFn, InitFn]:
    """A network of one hidden layer whose computation is of the type of its parameters: float64 where they are.

    >>> apply_fn, init_fn = small_network(10, (8, 8, 1))
    >>> params, state = init_fn(jax.random.key(0))
    >>> apply_fn(params, state, jnp.zeros((2, 8, 8, 1), jnp.uint8), train=True, rng_key=None)[0].shape
    (2, 10)
    """
    size = int(np.prod(input_shape))

    def apply_fn(
        params: Params, model_state: ModelState, inputs: Array, *, train: bool, rng_key: Array | None
    ) -> tuple[Array, ModelState]:
        x = inputs.reshape(len(inputs), -1).astype(params["first"].dtype) / 255
        return jnp.tanh(x @ params["first"] + params["bias"]) @ params["second"] + params["end"], model_state

    def init_fn(rng_key: Array) -> tuple[Params, ModelState]:
        first, second = jax.random.split(rng_key)
        return {
            "first": jax.random.normal(first, (size, HIDDEN)) / size**0.5,
            "bias": jnp.zeros(HIDDEN),
            "second": jax.random.normal(second, (HIDDEN, num_classes)) / HIDDEN**0.5,
            "end": jnp.zeros(num_classes),
        }, {}

    return apply_fn, init_fn


class Reference(NamedTuple):
    """What a displacement is compared with: `(A + λI)^{-1} g`."""

    matrix: str  # A
    damping: float  # λ over λ_max(G)
    solution: Params | None  # None: A + λI is not positive definite
    residual: float


class Scale(NamedTuple):
    """How curved the loss on what is retained is."""

    largest: float  # λ_max(G)
    steepest: float  # |λ|_max of H and G: with a rate of its inverse no direction is overshot, near θ


class Remaining(NamedTuple):
    """A loss on what is retained, by what the measurement asks of it.

    Attributes:
        gradient: `(params, model_state, batch) -> (gradient, model_state, loss)` of one inner step.
        inputs: its batches, leading axis K_in.
        products: of H and G at θ.
    """

    gradient: Callable[[Params, ModelState, Any], tuple[Params, ModelState, Array]]
    inputs: Any
    products: Mapping[str, curvature.Product]


def displacements(
    params: Params,
    model_state: ModelState,
    remaining: Remaining,
    direction: Params,
    form: str,
    *,
    preconditioner: optax.GradientTransformation,
    remain_rate: float,
    task_rate: float,
) -> Params:
    """What the task gradient changed after each number of inner steps: the ends without it less those with it.

    Args:
        params, model_state: θ_k.
        remaining: the loss on what is retained, and a batch for each inner step.
        direction: g.
        form: "fast" or "every", see the top of this file.
        preconditioner: of the inner steps.
        remain_rate: β_R.
        task_rate: β_Q, or s.

    Returns:
        A tree like params with a leading axis of K_in + 1: after 0 … K_in inner steps.

    References: arXiv 2505.15178, Proposition 3; the form "every" is ours, for its limit.
    """
    in_steps = task_rate if form == "every" else 0.0
    none = optax.tree.zeros_like(direction)

    def walk(begun: Params, push: Params) -> Params:
        def gradient(p: Params, state: ModelState, batch: Any) -> tuple[Params, ModelState, Array]:
            own, state, loss = remaining.gradient(p, state, batch)
            return optax.tree.add(own, push), state, loss

        def step(carry: tuple[Params, ModelState, optax.OptState], batch: Any) -> tuple[Any, Params]:
            p, state, memory = carry
            done = preconditioned(
                p,
                state,
                gradient,
                jax.tree.map(lambda x: x[None], batch),
                remain_learning_rate=remain_rate,
                preconditioner=preconditioner,
                preconditioner_state=memory,
            )
            return (done.params, done.model_state, done.preconditioner_state), done.params

        _, after = jax.lax.scan(step, (begun, model_state, preconditioner.init(begun)), remaining.inputs)
        return jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), begun, after)

    with_task = descend(params, direction, task_rate) if form == "fast" else params
    return optax.tree.sub(walk(params, none), walk(with_task, optax.tree.scale(in_steps, direction)))


def exact_references(
    matrices: Mapping[str, np.ndarray], gradient: Params, dampings: tuple[float, ...]
) -> tuple[list[Reference], "Scale"]:
    """All references of a small network from the eigenvectors of its matrices, and their scale."""
    flat, unravel = ravel_pytree(gradient)
    spectra = {name: np.linalg.eigh((matrix + matrix.T) / 2) for name, matrix in matrices.items()}
    largest, found = float(spectra["G"][0][-1]), []
    for name, (values, vectors) in spectra.items():
        for damping in dampings:
            damped, solution = values + damping * largest, None
            if damped[0] > 0:
                solution = unravel(jnp.asarray(vectors @ ((vectors.T @ np.asarray(flat)) / damped)))
            found.append(Reference(name, damping, solution, 0.0))
    return found, Scale(largest, max(float(np.abs(values).max()) for values, _ in spectra.values()))


class Programs:
    """What is measured of a network, compiled once for all points.

    Args:
        make: `(params, model_state, data) -> Remaining`, of whatever arrays a point has.
        options: what is asked of each point.
    """

    def __init__(self, make: Callable[[Params, ModelState, Any], Remaining], options: AlignmentOptions) -> None:
        self.options = options

        def product(name: str, at: At, vector: Params) -> Params:
            return make(*at).products[name](vector)

        def solve(name: str, at: At, vector: Params, damping: Array | float) -> curvature.Solved:
            own = functools.partial(product, name, at)
            return curvature.conjugate_gradients(own, vector, damping, steps=SOLVE_STEPS, tolerance=TOLERANCE)

        def matrix(name: str, at: At, vector: Params) -> Array:
            flat, unravel = ravel_pytree(vector)
            unit = jnp.eye(flat.size, dtype=flat.dtype)
            return jax.lax.map(lambda row: ravel_pytree(product(name, at, unravel(row)))[0], unit)

        def path(form: str, by: Preconditioner, at: At, vector: Params, remain_rate: float, task_rate: float) -> Params:
            rates = {"remain_rate": remain_rate, "task_rate": task_rate}
            return displacements(*at[:2], make(*at), vector, form, preconditioner=PRECONDITIONERS[by], **rates)

        def scale(at: At, vector: Params) -> tuple[Array, Array]:
            own = {name: functools.partial(product, name, at) for name in MATRICES}
            # H may be indefinite; its square is not.
            squared = curvature.largest_curvature(lambda v: own["H"](own["H"](v)), vector)
            return curvature.largest_curvature(own["G"], vector), jnp.sqrt(squared)

        self.solve = {name: jax.jit(functools.partial(solve, name)) for name in MATRICES}
        self.matrix = {name: jax.jit(functools.partial(matrix, name)) for name in MATRICES}
        self.path = {(form, by): jax.jit(functools.partial(path, form, by)) for form in alignments.FORMS for by in BY}
        self.scale = jax.jit(scale)

    def references(self, at: At, gradient: Params) -> tuple[list[Reference], Scale]:
        """What displacements are compared with: exact for small networks, else by conjugate gradients."""
        dampings = self.options.dampings
        if _size(gradient) <= SMALL:
            made = {name: np.asarray(self.matrix[name](at, gradient)) for name in MATRICES}
            return exact_references(made, gradient, dampings)
        draws = [jax.random.normal(jax.random.key(i), x.shape) for i, x in enumerate(jax.tree.leaves(gradient))]
        largest, own = map(float, self.scale(at, jax.tree.unflatten(jax.tree.structure(gradient), draws)))
        found = [self.solved(name, at, gradient, each, largest) for name in MATRICES for each in dampings]
        return found, Scale(largest, max(largest, own))

    def solved(self, name: str, at: At, gradient: Params, damping: float, largest: float) -> Reference:
        """One of them by conjugate gradients."""
        one = self.solve[name](at, gradient, damping * largest)
        solution = one.solution if float(one.least_curvature) > 0 else None
        return Reference(name, damping, solution, float(one.residual))

    def measure(self, at: At, gradient: Params, adam_rate: float) -> dict[str, Any]:
        """Every displacement of a point against every reference, as JSON-compatible values."""
        options = self.options
        references, (largest, steepest) = self.references(at, gradient)
        rates = {"sgd": 1 / steepest, "adam": adam_rate}
        natural = {j: self.solved("G", at, gradient, steepest / (j * largest), largest) for j in options.inner}
        along = float(optax.tree.norm(at[0]) / optax.tree.norm(gradient)) * LENGTH
        rows: list[dict[str, Any]] = []
        for form, by in self.path:
            # As long in all as the fast step is.
            task_rate = along if form == "fast" else along / (max(options.inner) * rates[by])
            scale = task_rate * rates[by] if form == "fast" else task_rate
            path = self.path[form, by](at, gradient, rates[by], task_rate)
            for inner in options.inner:
                moved = jax.tree.map(lambda x, j=inner: x[j], path)
                compared: list[tuple[str, float | None, Params | None]]
                compared = [(each.matrix, each.damping, each.solution) for each in references]
                if by == "sgd":
                    compared.append(("G", None, natural[inner].solution))
                rows += [
                    {"form": form, "by": by, "inner": inner, "matrix": matrix, "damping": damping}
                    | _compared(moved, solution, scale)
                    for matrix, damping, solution in compared
                ]
        # The gradient, to which nothing was done, for comparison.
        rows += [
            {"form": "gradient", "by": "-", "inner": 0, "matrix": each.matrix, "damping": each.damping}
            | _compared(gradient, each.solution, rates["sgd"])
            for each in references
        ]
        solved = [
            {"matrix": r.matrix, "damping": r.damping, "definite": r.solution is not None, "residual": r.residual}
            for r in (*references, *natural.values())
        ]
        sizes = {"parameters": _size(gradient), "largest_curvature": largest, "steepest": steepest, "rates": rates}
        return {**sizes, "references": solved, "rows": rows}


def _size(tree: Params) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def _compared(moved: Params, solution: Params | None, scale: float) -> dict[str, float | None]:
    if solution is None:
        return {"cosine": None, "quotient": None}
    quotient = optax.tree.norm(moved) / (scale * optax.tree.norm(solution))
    return {"cosine": float(curvature.cosine(moved, solution)), "quotient": float(quotient)}


class Points:
    """The points of a plan: networks by seed and length of training."""

    def __init__(self, plan: Plan, options: AlignmentOptions) -> None:
        self.plan, self.options, self.data = plan, options, DeviceData(plan)
        learned = np.concatenate([step.request.ids for step in plan.steps if step.request.kind == "learn"])
        self.learned, apply_fn = self.data.examples(learned), plan.network.apply_fn

        def make(params: Params, model_state: ModelState, data: tuple[Batch, Array]) -> Remaining:
            remain, places = data

            def gradient(p: Params, state: ModelState, rows: Array) -> tuple[Params, ModelState, Array]:
                found = weighted_gradient(apply_fn, p, state, jax.tree.map(lambda x: x[rows], remain))
                return found.gradient, found.model_state, found.loss

            at = (apply_fn, params, model_state, remain)
            products = {"H": curvature.hessian_product(*at), "G": curvature.gauss_newton_product(*at)}
            return Remaining(gradient, places, products)

        self.programs = Programs(make, options)

    def trained(self, epochs: int) -> Callable[[int], tuple[Params, ModelState]]:
        """From a seed, a network that was trained so long; compiled once, at the first."""
        settings = dataclasses.replace(self.plan.config.oracle, epochs=epochs)
        train = oracle_program(self.plan.network.apply_fn, self.plan.network.init_fn, settings)
        return lambda seed: jax.tree.map(lambda x: x[0], train(jax.random.key(seed)[None], self.learned))

    def measure(self, network: tuple[Params, ModelState], seed: int) -> dict[str, Any]:
        """What `Programs.measure` says of a network, and the lengths of its gradients."""
        step, config, apply_fn = self.plan.steps[-1], self.plan.config, self.plan.network.apply_fn
        rng = np.random.default_rng(seed)

        def drawn(ids: np.ndarray) -> Batch:
            rows = np.sort(rng.choice(ids, min(self.options.rows, len(ids)), replace=False))
            inputs, labels = self.plan.scenario.dataset.train_inputs[rows], self.data.train_labels[rows]
            return Batch(jnp.asarray(inputs), labels, jnp.ones(len(rows)))

        remain, task = drawn(step.situation.retained), drawn(step.request.ids)
        batch = config.unlearn.settings.remain_batch_size
        places = jnp.asarray(rng.integers(0, len(remain.labels), (max(self.options.inner), batch)), jnp.int32)
        exact = _size(network[0]) <= SMALL
        with jax.enable_x64(exact):
            if exact:
                network, remain, task = _float64((network, remain, task))
            gradient = unlearning_gradient(apply_fn, *network, task).gradient
            slope = weighted_gradient(apply_fn, *network, remain).gradient
            adam_rate = float(config.unlearn.hyper.remain_learning_rate)
            found = self.programs.measure((*network, (remain, places)), gradient, adam_rate)
            norms = {"remaining_gradient": float(optax.tree.norm(slope))}
            return {**norms, "task_gradient": float(optax.tree.norm(gradient)), **found}


def _float64(tree: Any) -> Any:
    # Of images nothing: they stay as they are stored.
    return jax.tree.map(lambda x: x.astype(jnp.float64) if x.dtype == jnp.float32 else x, tree)


def work(plan: Plan, stop: Stop, options: AlignmentOptions) -> None:
    """Measure every point that is missing, and say what was found."""
    asked = json.loads(json.dumps(dataclasses.asdict(options)))
    points = Points(plan, options)
    (plan.folder.path / "alignment").mkdir(exist_ok=True)
    with resumable(plan), plan.progress:
        for epochs in options.epochs:
            train = points.trained(epochs)
            for seed in plan.config.seeds:
                path = alignments.file_of(plan.folder.path, seed, epochs)
                if path.is_file() and json.loads(path.read_text())["options"] == asked:
                    continue
                stop.check(f"{epochs} epochs, seed {seed}")
                about = {"seed": seed, "epochs": epochs, "options": asked}
                write(path, json.dumps({**about, **points.measure(train(seed), seed)}, indent=1) + "\n")
    head = ["epochs", "seed", "form", "by", "K_in", "matrix", "damping", "cosine", "quotient"]
    rows = []
    for each in alignments.read(plan.folder.path):
        for row in each["rows"]:
            words = (row["form"], row["by"], str(row["inner"]), row["matrix"], number(row["damping"]))
            rows.append(
                [str(each["epochs"]), str(each["seed"]), *words, number(row["cosine"]), number(row["quotient"])]
            )
    # A row is whole at any width, in a pipe too.
    plan.console.print(markdown_table(head, rows, words=6), highlight=False, soft_wrap=True)


def job(options: AlignmentOptions, config: ExperimentConfig) -> Job:
    """The measurement as a job of the stream up to its first unlearn request."""
    name = f"alignment-{options.scenario}"
    return Job(name, config, lambda plan, stop: work(plan, stop, options), study=True)


def run(arguments: list[str]) -> int:
    """Command line; returns the exit code."""
    return main("alignment", __doc__ or "", arguments, options=AlignmentOptions(), job=job)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
