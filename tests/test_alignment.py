"""Displacements of both forms on a quadratic, where they are known, and what the study makes of them."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import alignment, inner_steps
from ugclu_jax import curvature

RNG = np.random.default_rng(1)
FACTOR = RNG.normal(size=(5, 5))
HESSIAN = FACTOR @ FACTOR.T / 5 + 0.05 * np.eye(5)
OPTIMUM, GRADIENT = RNG.normal(size=5), RNG.normal(size=5)
RATE, TASK_RATE, INNER = 0.1, 0.3, 40


def remaining(matrices):
    def gradient(params, state, x):
        return x @ (params - OPTIMUM), state, jnp.zeros(())

    return alignment.Remaining(
        gradient, jnp.asarray(matrices), {"H": lambda v: HESSIAN @ v, "G": lambda v: HESSIAN @ v}
    )


def path(form, params, matrices=None, preconditioner=None, task_rate=TASK_RATE):
    return alignment.displacements(
        jnp.asarray(params),
        {},
        remaining(np.stack([HESSIAN] * INNER) if matrices is None else matrices),
        jnp.asarray(GRADIENT),
        form,
        preconditioner=preconditioner or optax.identity(),
        remain_rate=RATE,
        task_rate=task_rate,
    )


def filtered(steps):
    return np.linalg.matrix_power(np.eye(5) - RATE * HESSIAN, steps)


@pytest.mark.parametrize("begun", [OPTIMUM, np.zeros(5)])
def test_the_paper_s_form_is_a_filter_and_no_inverse(x64, begun):
    found = path("fast", begun)
    for steps in (0, 1, 7, INNER):
        np.testing.assert_allclose(found[steps], TASK_RATE * filtered(steps) @ GRADIENT, rtol=1e-9)
    # The more steps, the more of the flattest direction alone.
    flattest = np.linalg.eigh(HESSIAN)[1][:, 0]
    long = path("fast", begun, np.stack([HESSIAN] * 2000))[-1]
    assert abs(float(curvature.cosine(long, jnp.asarray(flattest)))) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("begun", [OPTIMUM, np.zeros(5)])
def test_a_gradient_in_every_step_becomes_the_inverse(x64, begun):
    found, inverse = path("every", begun), np.linalg.solve(HESSIAN, GRADIENT)
    for steps in (0, 1, 7, INNER):
        expected = TASK_RATE * (np.eye(5) - filtered(steps)) @ inverse
        np.testing.assert_allclose(found[steps], expected, rtol=1e-9, atol=1e-12)
    cosines = [float(curvature.cosine(found[steps], jnp.asarray(inverse))) for steps in (1, 7, INNER)]
    assert cosines == sorted(cosines)
    long = path("every", begun, np.stack([HESSIAN] * 4000))[-1]
    assert float(curvature.cosine(long, jnp.asarray(inverse))) == pytest.approx(1, abs=1e-9)
    np.testing.assert_allclose(long, TASK_RATE * inverse, rtol=1e-6)


def test_batches_of_their_own_multiply(x64):
    factors = RNG.normal(size=(3, 5, 5))
    matrices = factors @ factors.transpose(0, 2, 1) / 5
    expected = TASK_RATE * GRADIENT
    for matrix in matrices:
        expected = expected - RATE * matrix @ expected
    np.testing.assert_allclose(path("fast", np.zeros(5), matrices)[-1], expected, rtol=1e-9)


def test_a_fixed_preconditioner_makes_the_filter_that_of_p_h(x64):
    diagonal = np.array([1.0, 2.0, 0.5, 1.5, 0.25])
    scaled = optax.stateless(lambda updates, params: jnp.asarray(diagonal) * updates)
    filtered = np.linalg.matrix_power(np.eye(5) - RATE * np.diag(diagonal) @ HESSIAN, INNER)
    found = path("fast", np.zeros(5), preconditioner=scaled)
    np.testing.assert_allclose(found[-1], TASK_RATE * filtered @ GRADIENT, rtol=1e-9)


def programs(hessian, **options):
    def make(params, model_state, matrices):
        return remaining(matrices)._replace(products={"H": lambda v: hessian @ v, "G": lambda v: HESSIAN @ v})

    return alignment.Programs(make, alignment.AlignmentOptions(**options))


def test_exact_and_solved_references_agree_and_an_indefinite_matrix_has_none(x64):
    values, vectors = np.linalg.eigh(HESSIAN)
    bent = (vectors * np.r_[-0.02 * values[-1], values[1:]]) @ vectors.T
    own, at = programs(bent, dampings=(0.1, 0.01)), (jnp.zeros(5), {}, jnp.zeros((1, 5, 5)))
    exact, (largest, steepest) = own.references(at, jnp.asarray(GRADIENT))
    assert largest == pytest.approx(values[-1]) and steepest == pytest.approx(values[-1])
    assert [float(x) for x in own.scale(at, jnp.ones(5))] == pytest.approx([largest] * 2, rel=0.05)
    below = programs(-3 * HESSIAN).references(at, jnp.asarray(GRADIENT))[1]
    assert below == pytest.approx((values[-1], 3 * values[-1]))
    assert [(r.matrix, r.damping, r.solution is None) for r in exact] == [
        ("H", 0.1, False), ("H", 0.01, True), ("G", 0.1, False), ("G", 0.01, False)
    ]  # fmt: skip
    for one in exact:
        solved = own.solved(one.matrix, at, jnp.asarray(GRADIENT), one.damping, largest)
        assert (solved.solution is None) == (one.solution is None)
        if one.solution is not None:
            matrix = (bent if one.matrix == "H" else HESSIAN) + one.damping * largest * np.eye(5)
            np.testing.assert_allclose(one.solution, np.linalg.solve(matrix, GRADIENT), rtol=1e-8)
            np.testing.assert_allclose(solved.solution, one.solution, rtol=0.02, atol=0.01)


def test_the_measurement_on_a_quadratic(x64):
    at = (jnp.asarray(OPTIMUM + 1), {}, jnp.asarray(np.stack([HESSIAN] * INNER)))
    found = programs(HESSIAN, inner=(1, INNER), dampings=(0.01,)).measure(at, jnp.asarray(GRADIENT), 0.01)
    largest = np.linalg.eigvalsh(HESSIAN)[-1]
    rows = {(r["form"], r["by"], r["inner"], r["matrix"], r["damping"]): r for r in found["rows"]}
    inverse = np.linalg.solve(HESSIAN + 0.01 * largest * np.eye(5), GRADIENT)
    moved = np.linalg.matrix_power(np.eye(5) - HESSIAN / largest, INNER) @ GRADIENT
    own = rows["fast", "sgd", INNER, "H", 0.01]
    assert own["cosine"] == pytest.approx(moved @ inverse / np.linalg.norm(moved) / np.linalg.norm(inverse), rel=1e-6)
    assert own["quotient"] == pytest.approx(largest * np.linalg.norm(moved) / np.linalg.norm(inverse), rel=1e-6)
    alone = rows["gradient", "-", 0, "G", 0.01]["cosine"]
    assert alone == pytest.approx(GRADIENT @ inverse / np.linalg.norm(GRADIENT) / np.linalg.norm(inverse), rel=1e-6)


def test_means_over_seeds_and_where_it_holds(x64):
    def point(seed, cosine, quotient):
        row = {"form": "fast", "by": "sgd", "inner": 1, "matrix": "H", "damping": 0.01}
        return {"epochs": 1, "seed": seed, "rows": [{**row, "cosine": cosine, "quotient": quotient}]}

    ((_, mean),) = inner_steps.means([point(0, 0.9, 1.0), point(1, 1.0, 4.0)]).items()
    assert mean == (pytest.approx(0.95), pytest.approx(0.05), pytest.approx(2.0))
    ((_, none),) = inner_steps.means([point(0, None, None), point(1, 1.0, 4.0)]).items()
    assert none == (None, None, None)


def test_every_cell_pays_the_default_s_gradient_evaluations():
    from ugclu_jax.ugclu_settings import UNLEARNING, gradient_evaluations

    usual = gradient_evaluations(UNLEARNING, 0)
    for cell in inner_steps.cells(inner_steps.InnerStepsConfig()):
        if cell.program == "compare":
            sizes = cell.settings["unlearn"]["settings"]
            own = gradient_evaluations(UNLEARNING.__class__(**{**vars(UNLEARNING), **sizes}), 0)
            assert own == pytest.approx(usual, rel=0.02)


@pytest.mark.parametrize(
    ("program", "words", "told"),
    [
        ("alignment", ("--inner", "0"), "--inner must be one or more different positive values, got (0,)"),
        ("alignment", ("--rows", "1"), "--rows must be at least 2, got 1"),
        ("inner_steps", ("--slow", "1.5"), "--slow must be at most 1, got 1.5"),
    ],
)
def test_wrong_use_is_refused_in_a_sentence(program, words, told, tmp_path, capsys):
    run = importlib.import_module(f"experiments.{program}").run
    assert run([*words, "--run-dir", str(tmp_path / "run")]) == 2
    assert told in " ".join(capsys.readouterr().err.split())


def test_the_small_network_computes_in_the_type_of_its_parameters(x64):
    apply_fn, init_fn = alignment.small_network(3, (2, 2))
    params, state = init_fn(jax.random.key(0))
    doubled = jax.tree.map(lambda x: x.astype(jnp.float64), params)
    logits, _ = apply_fn(doubled, state, jnp.ones((1, 2, 2), jnp.uint8), train=True, rng_key=None)
    assert logits.dtype == jnp.float64
