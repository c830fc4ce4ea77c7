"""What do a thousand requests do to an analytic head's accuracy, and what does an exact reference cost?

Accuracy: a thousand requests of eight rows of two hundred with 64 features, which join where they are away and leave
where they are there; the largest difference to the head that float64 solves from what is retained, by the form in which
the past is kept. Cost: features as many as Fashion-MNIST has examples, drawn at random.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.linalg import solve_triangular

from benchmarks import document, timing
from benchmarks.document import Section, Table
from ugclu_jax import analytic, fixed_point
from ugclu_jax.analytic import Head, Sums
from ugclu_jax.fixed_point import FixedSums
from ugclu_jax.types import Array

CLASSES, RIDGE = 10, 1.0


class Stream(NamedTuple):
    """Requests over some examples."""

    features: np.ndarray  # [N, F] float64
    labels: np.ndarray  # [N]
    ids: np.ndarray  # [T, B]
    counts: np.ndarray  # [T, B] 1 learned, −1 unlearned, 0 nothing
    retained: np.ndarray  # [N] bool, at the end


def stream(examples: int, features: int, requests: int, rows: int) -> Stream:
    """Rows drawn at random; what most of a request's rows are not, all of them become."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(examples, features)) + 1
    there, ids, counts = np.zeros(examples, bool), [], []
    for _ in range(requests):
        some = rng.choice(examples, rows, replace=False)
        learn = there[some].mean() < 0.5
        counts.append(np.where(there[some] != learn, 1 if learn else -1, 0))
        there[some] = learn
        ids.append(some)
    labels = rng.integers(0, CLASSES, examples)
    return Stream(inputs, labels, np.array(ids), np.array(counts, np.int32), there)


@jax.jit
def by_sums(start: Sums, features: Array, labels: Array, ids: Array, counts: Array) -> Sums:
    """Floating-point sums after the requests."""

    def step(sums: Sums, request: tuple[Array, Array]) -> tuple[Sums, None]:
        rows, count = request
        sums = analytic.update(sums, features[rows], labels[rows], (count > 0).astype(features.dtype))
        return analytic.downdate(sums, features[rows], labels[rows], (count < 0).astype(features.dtype)), None

    return jax.lax.scan(step, start, (ids, counts))[0]


@jax.jit
def by_integers(start: FixedSums, features: Array, labels: Array, ids: Array, counts: Array) -> FixedSums:
    """Sums in integers after the requests."""

    def step(sums: FixedSums, request: tuple[Array, Array]) -> tuple[FixedSums, None]:
        rows, count = request
        return fixed_point.change(sums, features[rows], labels[rows], count), None

    return jax.lax.scan(step, start, (ids, counts))[0]


def by_factor(given: Stream, dtype: Any) -> np.ndarray:
    """The weights by a Cholesky factor of `G + λ I` that is up- and downdated by rotations, row by row."""
    size = given.features.shape[1]
    factor, cross = (np.sqrt(RIDGE) * np.eye(size)).astype(dtype), np.zeros((size, CLASSES), dtype)
    for rows, counts in zip(given.ids, given.counts, strict=True):
        for row, count in zip(rows, counts, strict=True):
            if count:
                vector = given.features[row].astype(dtype)
                cross[:, given.labels[row]] += count * vector
                _rotate(factor, vector, count)
    return solve_triangular(factor, solve_triangular(factor, cross, lower=True), lower=True, trans=1)


def _rotate(factor: np.ndarray, vector: np.ndarray, sign: int) -> None:
    """`L Lᵀ ± v vᵀ`, in place (Golub & Van Loan, Matrix Computations, section 6.5.4)."""
    for k in range(len(vector)):
        radius = np.sqrt(factor[k, k] ** 2 + sign * vector[k] ** 2)
        c, s = radius / factor[k, k], vector[k] / factor[k, k]
        factor[k, k] = radius
        factor[k + 1 :, k] = (factor[k + 1 :, k] + sign * s * vector[k + 1 :]) / c
        vector[k + 1 :] = c * vector[k + 1 :] - s * factor[k + 1 :, k]


def errors(given: Stream) -> Table:
    """Largest difference of a weight to the refit in float64, by what is kept."""

    def solved(sums: Sums) -> np.ndarray:
        return np.asarray(analytic.solve(sums, RIDGE, bias=False).kernel, np.float64)

    def refitted(features: np.ndarray, dtype: Any) -> np.ndarray:
        some = jnp.asarray(features[given.retained], dtype), jnp.asarray(given.labels[given.retained])
        head = analytic.refit(*some, RIDGE, num_classes=CLASSES, bias=False)
        return np.asarray(head.kernel, np.float64)

    def streamed(dtype: Any) -> np.ndarray:
        start = analytic.empty(size, CLASSES, dtype)
        return solved(by_sums(start, jnp.asarray(given.features, dtype), given.labels, given.ids, given.counts))

    size, grid = given.features.shape[1], 2.0**fixed_point.FRACTION_BITS
    on_grid = np.rint(given.features * grid) / grid
    with jax.enable_x64(True):
        refit = refitted(given.features, jnp.float64)
        kept = by_integers(fixed_point.empty(size, CLASSES), on_grid, given.labels, given.ids, given.counts)
        integers = solved(fixed_point.as_floats(kept)) - refitted(on_grid, jnp.float64)
        off = {"integers (the method)": integers, "sums, float64": streamed(jnp.float64) - refit}
    off["Cholesky factor, float64"] = by_factor(given, np.float64) - refit
    off["sums, float32"] = streamed(jnp.float32) - refit
    off["Cholesky factor, float32"] = by_factor(given, np.float32) - refit
    off["no stream: refit, float32"] = refitted(given.features, jnp.float32) - refit
    largest = {name: np.abs(difference).max() for name, difference in off.items()}
    rows: list[tuple[str, ...]] = [
        (name, f"{value:.1e}", f"{value / np.abs(refit).max():.1e}") for name, value in largest.items()
    ]
    note = (
        f"{given.retained.sum()} examples of {len(given.labels)} are retained at the end; the ridge is {RIDGE:g}, "
        "without bias. Integers are compared with the refit on features rounded to their grid."
    )
    header = ("what is kept", "largest difference of a weight", "in parts of the largest weight")
    return Table(f"After {len(given.ids):,} requests", header, rows, note)


def costs(examples: int, widths: tuple[int, ...], requests: int, repeats: int) -> Table:
    """Seconds of the sums of all examples, of one request, of the solve, and of a stream."""
    rows: list[tuple[str, ...]] = []
    for width in widths:
        rng = np.random.default_rng(1)
        features = jnp.asarray(rng.normal(size=(examples, width)), jnp.float32)
        labels = jnp.asarray(rng.integers(0, CLASSES, examples))
        size = 500
        everything = jnp.arange(examples - examples % size).reshape(-1, size)
        ones = jnp.ones(everything.shape, jnp.int32)
        some = jnp.asarray(rng.choice(examples, (requests, 8)))
        all_of_them = by_integers(fixed_point.empty(width, CLASSES), features, labels, everything, ones)
        signs = jnp.where(jnp.arange(requests) % 2 == 0, -1, 1)[:, None] * jnp.ones((1, 8), jnp.int32)
        sums = {
            "all": functools.partial(
                by_integers, fixed_point.empty(width, CLASSES), features, labels, everything, ones
            ),
            "stream": functools.partial(by_integers, all_of_them, features, labels, some, signs),
            "solve": functools.partial(_solve, all_of_them),
        }
        calls: dict[str, Callable[[], object]] = {
            name: functools.partial(_finished, call) for name, call in sums.items()
        }
        seconds = timing.interleaved(calls, repeats)
        found = {name: timing.spread(values) for name, values in seconds.items()}
        a_request = timing.spread([value / requests for value in seconds["stream"]])
        rows.append((f"{width:,}", str(found["all"]), str(found["solve"]), str(found["stream"]), str(a_request)))
    header = (
        "features", "sums of all, s", "solve, s", f"{requests:,} requests of 8 rows, sums alone, s", "of one, s",
    )  # fmt: skip
    note = (
        f"{examples:,} examples, {CLASSES} classes. A refit is the sums of all and a solve; a request that wants its "
        "head is its own sums and a solve. The forward passes that make features are the network's and not in these."
    )
    return Table("Cost", header, rows, note)


@jax.jit
def _solve(sums: FixedSums) -> Head:
    with jax.enable_x64(True):
        return analytic.solve(fixed_point.as_floats(sums), RIDGE)


def _finished(call: Callable[[], object]) -> None:
    jax.block_until_ready(call())


def run(smoke: bool) -> Section:
    """Both tables."""
    given = stream(40, 8, 30, 8) if smoke else stream(200, 64, 1000, 8)
    cost = costs(1000, (8,), 10, 2) if smoke else costs(60_000, (64, 1024), 1000, 3)
    return Section([errors(given), cost])


if __name__ == "__main__":
    document.main("analytic_head", __doc__ or "", run)
