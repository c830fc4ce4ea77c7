"""What share of the machine's arithmetic does a whole unlearn request use?

Floating-point operations are those of the matrix products and convolutions in the gradients of the request, two for a
multiplication with its addition, counted in the program that JAX traces; the machine's rate is that of a large matrix
product, measured in turns with the request.
"""

import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import document, process, timing
from benchmarks.cases import CASES, Case, gradient
from benchmarks.document import Section, Table
from benchmarks.requests_against_torch import core_counts, ours
from ugclu_jax.types import EVALUATION_EXAMPLES

MEASURE = "benchmarks.machine:measure"


def _inner(value: Any) -> Iterator[Any]:
    """The programs among the parameters of an operation."""
    for item in value if isinstance(value, tuple | list) else (value,):
        if hasattr(item, "eqns"):
            yield item
        elif hasattr(item, "jaxpr"):
            yield item.jaxpr


def operations(program: Any) -> int:
    """Floating-point operations of the products and convolutions in a traced program, loops counted through.

    Raises:
        ValueError: a loop of unknown length, or a branch.
    """
    total = 0
    for equation in program.eqns:
        name, parameters = equation.primitive.name, equation.params
        if name in ("while", "cond"):
            raise ValueError(f"the program has a {name}: how often it runs is not known before it runs")
        if name == "dot_general":
            (contracted, _), _ = parameters["dimension_numbers"]
            left = equation.invars[0].aval.shape
            total += 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in contracted)
        elif name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            taps = math.prod(kernel) // kernel[parameters["dimension_numbers"].rhs_spec[0]]
            # Zeros that dilate the input are not counted.
            zeros = math.prod(parameters["lhs_dilation"])
            total += 2 * math.prod(equation.outvars[0].aval.shape) * taps // zeros
        elif name in ("fast_convolution", "fast_convolution_weight_gradient"):
            of_sum = name == "fast_convolution"
            kernel, outputs = (equation.invars[1], equation.outvars[0])[:: 1 if of_sum else -1]
            zeros = math.prod(parameters["dilation"])
            total += 2 * math.prod(outputs.aval.shape) * math.prod(kernel.aval.shape[:3]) // zeros
        repeats = parameters["length"] if name == "scan" else 1
        total += repeats * sum(operations(one) for value in parameters.values() for one in _inner(value))
    return total


def gradient_operations(case: Case) -> int:
    """Floating-point operations of one gradient evaluation, a batch of `EVALUATION_EXAMPLES`."""
    return operations(jax.make_jaxpr(gradient(case))(case.state.method.params).jaxpr)


def measure(cores: int, case: str, smoke: bool, repeats: int) -> dict[str, Any]:
    """Seconds of a case and of a matrix product, and the operations of both; arguments as in the comparison."""
    made = CASES[case](smoke)
    request, size = ours(made), 256 if smoke else 3072
    matrix = jax.random.normal(jax.random.key(0), (size, size))
    product = jax.jit(jnp.matmul)
    programs = {"request": request.serve, "product": lambda: jax.block_until_ready(product(matrix, matrix))}
    return {
        "name": f"{made.name}, {made.data}",
        "evaluation": gradient_operations(made),
        "request": request.evaluations * gradient_operations(made),
        "product": 2 * size**3,
        "seconds": timing.interleaved(programs, repeats),
    }


def row(cores: int, found: dict[str, Any]) -> tuple[str, ...]:
    """One line of the table."""
    rates = {
        name: [found[name] / seconds / 1e9 for seconds in found["seconds"][name]] for name in ("request", "product")
    }
    share = timing.ratio(rates["request"], rates["product"])
    return (
        found["name"],
        str(cores),
        timing.number(found["evaluation"] / 1e9),
        timing.number(found["request"] / 1e9),
        str(timing.spread(rates["request"])),
        str(timing.spread(rates["product"])),
        f"{100 * share.median:.0f} % ({100 * share.lowest:.0f}–{100 * share.highest:.0f})",
    )


def run(smoke: bool) -> Section:
    """Every case at one and two cores."""
    header = (
        "network, data", "cores", "Gflop a gradient evaluation", "Gflop a request", "request, Gflop/s",
        "matrix product, Gflop/s", "share",
    )  # fmt: skip
    rows = [
        row(cores, process.call(MEASURE, cores=cores, case=case, smoke=smoke, repeats=timing.REPEATS)[0])
        for case in CASES
        for cores in core_counts(smoke)
    ]
    size = 256 if smoke else 3072
    note = (
        f"A gradient evaluation is a forward and backward pass over {EVALUATION_EXAMPLES} examples. The matrix product "
        f"is of {size}×{size} numbers in float32. What a request does besides products (updates, drawing, "
        "normalisation, ReLUs) counts in its time and not in its operations."
    )
    return Section([Table("Arithmetic of a request", header, rows, note)])


if __name__ == "__main__":
    document.main("machine", __doc__, run)
