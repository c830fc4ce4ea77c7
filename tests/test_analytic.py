"""Ridge heads from sums: against least squares of NumPy and scikit-learn, and through streams of any order."""

import doctest
import functools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ugclu_jax import analytic, fixed_point

N, F, C, RIDGE = 12, 5, 3, 0.3
RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(N, F)) + 2.0  # not centred: the bias has work to do
LABELS = RNG.integers(0, C, N)
change = jax.jit(fixed_point.change)
solve = jax.jit(analytic.solve, static_argnames="bias")
refit = jax.jit(analytic.refit, static_argnames=("num_classes", "bias"))


def least_squares(features, labels, ridge, bias=True):
    """The same head by an orthogonal factorisation of stacked rows: no Gram matrix, no Cholesky."""
    n, f = features.shape
    design = np.c_[features, np.full(n, float(bias))]
    stacked = np.r_[design, np.c_[np.sqrt(ridge) * np.eye(f), np.zeros(f)]]
    targets = np.r_[np.eye(C)[labels], np.zeros((f, C))]
    found = np.linalg.lstsq(stacked, targets, rcond=None)[0]
    return found[:-1], found[-1]


@functools.cache
def change_floats(update):
    return jax.jit(update)


def walk(steps, sums, features=FEATURES, labels=LABELS):
    """Learn (+) or unlearn (−) some rows at a time, padded to four."""
    for sign, rows in steps:
        padded = np.r_[rows, np.zeros(4 - len(rows), int)]
        weights = (np.arange(4) < len(rows)).astype(float)
        update = change_floats(analytic.update if sign > 0 else analytic.downdate)
        sums = update(sums, features[padded], labels[padded], weights)
    return sums


def walk_fixed(steps, features=FEATURES, labels=LABELS):
    sums = fixed_point.empty(features.shape[1], C)
    for sign, rows in steps:
        padded = np.r_[rows, np.zeros(4 - len(rows), int)]
        counts = np.where(np.arange(4) < len(rows), sign, 0).astype(np.int32)
        sums = change(sums, jnp.asarray(features[padded], jnp.float32), labels[padded], counts)
    return sums


def assert_same_bits(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def steps_to(retained, order):
    """A stream that visits all rows in an order, by twos, and leaves those that are not retained."""
    learn = [(1, order[i : i + 2]) for i in range(0, len(order), 2)]
    gone = [row for row in order if row not in retained]
    return learn + [(-1, gone[i : i + 3]) for i in range(0, len(gone), 3)]


# --- the head --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("ridge", [1e-3, 10.0])
def test_a_head_is_the_ridge_regression_of_numpy_and_of_scikit_learn(x64, ridge, bias):
    from sklearn.linear_model import Ridge

    head = refit(jnp.asarray(FEATURES), jnp.asarray(LABELS), ridge, num_classes=C, bias=bias)
    kernel, offset = least_squares(FEATURES, LABELS, ridge, bias)
    np.testing.assert_allclose(head.kernel, kernel, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(head.bias, offset if bias else np.zeros(C), rtol=1e-9, atol=1e-11)
    theirs = Ridge(alpha=ridge, fit_intercept=bias).fit(FEATURES, np.eye(C)[LABELS])
    np.testing.assert_allclose(head.kernel, theirs.coef_.T, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(head.bias, theirs.intercept_, rtol=1e-8, atol=1e-10)
    if bias:  # as the targets do, outputs sum to 1
        np.testing.assert_allclose((FEATURES @ np.asarray(head.kernel) + head.bias).sum(1), 1.0, rtol=1e-9)


@given(retained=st.sets(st.integers(0, N - 1)), order=st.permutations(range(N)))
@settings(max_examples=25, deadline=None)
def test_any_order_of_learning_and_unlearning_gives_the_refit(retained, order):
    rows = np.array(sorted(retained), int)
    with jax.enable_x64(True):
        sums = walk(steps_to(retained, order), analytic.empty(F, C, jnp.float64))
        kept = np.isin(np.arange(N), rows)
        again = refit(FEATURES, LABELS, RIDGE, num_classes=C, weights=kept * 1.0)
        head = solve(sums, RIDGE)
        if len(rows):
            kernel, offset = least_squares(FEATURES[rows], LABELS[rows], RIDGE)
            np.testing.assert_allclose(head.kernel, kernel, rtol=0, atol=1e-8)
            np.testing.assert_allclose(head.bias, offset, rtol=0, atol=1e-8)
            np.testing.assert_allclose(head.kernel, again.kernel, rtol=0, atol=1e-8)
        else:
            np.testing.assert_allclose(head.kernel, 0, atol=1e-8)
    assert_same_bits(
        walk_fixed(steps_to(retained, order)), walk_fixed([(1, rows[i : i + 4]) for i in range(0, len(rows), 4)])
    )


def thousand(dtype):
    """A thousand requests of up to eight rows of a hundred: what they name joins if it is away, and leaves if there."""
    rng = np.random.default_rng(1)
    features, labels = (rng.normal(size=(100, 20)) + 1).astype(dtype), rng.integers(0, C, 100)
    there, signs, ids = np.zeros(100, bool), [], []
    for _ in range(1000):
        some = rng.choice(100, 8, replace=False)
        learn = there[some].mean() < 0.5
        count = np.where(there[some] != learn, 1 if learn else -1, 0)
        there[some] = learn
        signs.append(count), ids.append(some)
    return features, labels, np.array(ids), np.array(signs, np.int32), there


def test_a_thousand_requests_are_a_refit(x64):
    features, labels, ids, signs, there = thousand(np.float64)

    def step(sums, request):
        rows, sign = request
        floats, fixed = sums
        some = features[rows], labels[rows]
        floats = analytic.update(floats, *some, (sign > 0) * 1.0)
        floats = analytic.downdate(floats, *some, (sign < 0) * 1.0)
        return (floats, fixed_point.change(fixed, *some, sign)), None

    features, labels = jnp.asarray(features), jnp.asarray(labels)
    start = analytic.empty(20, C, jnp.float64), fixed_point.empty(20, C)
    (floats, fixed), _ = jax.lax.scan(step, start, (jnp.asarray(ids), jnp.asarray(signs)))
    assert 20 < there.sum() < 80 and (signs > 0).sum() > 2000
    kernel, offset = least_squares(np.asarray(features)[there], np.asarray(labels)[there], RIDGE)
    head = solve(floats, RIDGE)
    np.testing.assert_allclose(head.kernel, kernel, rtol=0, atol=1e-8)
    np.testing.assert_allclose(head.bias, offset, rtol=0, atol=1e-8)
    assert_same_bits(fixed, change(fixed_point.empty(20, C), features, labels, there.astype(np.int32)))
    on_grid = np.rint(np.asarray(features)[there] * 2**14) / 2**14
    kernel, offset = least_squares(on_grid, np.asarray(labels)[there], RIDGE)
    exact = solve(fixed_point.as_floats(fixed), RIDGE)
    np.testing.assert_allclose(exact.kernel, kernel, rtol=0, atol=1e-8)
    np.testing.assert_allclose(exact.bias, offset, rtol=0, atol=1e-8)


def test_in_float32_it_runs_and_is_near():
    """Its error over a thousand requests is measured by `python -m benchmarks.analytic_head`."""
    steps = steps_to({0, 1, 2, 5, 6, 7, 8}, list(range(N)))
    features = FEATURES.astype(np.float32)
    head = solve(walk(steps, analytic.empty(F, C), features), RIDGE)
    rows = [0, 1, 2, 5, 6, 7, 8]
    assert head.kernel.dtype == jnp.float32
    np.testing.assert_allclose(head.kernel, least_squares(FEATURES[rows], LABELS[rows], RIDGE)[0], rtol=0, atol=1e-3)


def test_of_nothing_the_head_is_zero():
    head = solve(analytic.empty(F, C), RIDGE)
    assert not np.any(head.kernel) and not np.any(head.bias)
    everything = [(1, np.arange(4)), (1, np.arange(4, 8)), (-1, np.arange(2, 6)), (-1, np.array([0, 1, 6, 7]))]
    sums = walk_fixed(everything)
    assert_same_bits(sums, fixed_point.empty(F, C))


def test_sums_do_not_know_what_they_hold(x64):
    """Twice learned counts twice; what was never learned leaves a negative direction: NaN, or the wrong sign."""
    one = jnp.array([[2.0]]), jnp.array([0]), jnp.ones(1)
    update, nothing = change_floats(analytic.update), analytic.empty(1, 2, jnp.float64)
    assert_same_bits(update(update(nothing, *one), *one), update(nothing, *one[:2], 2 * jnp.ones(1)))
    never = change_floats(analytic.downdate)(nothing, *one)
    assert np.isnan(solve(never, 1.0, bias=False).kernel).all()  # 1 − 4 < 0
    np.testing.assert_allclose(solve(never, 5.0, bias=False).kernel, [[-2.0, 0.0]])  # −2 / (5 − 4)


def test_derivatives_in_closed_form_and_a_sweep_over_the_ridge(x64):
    features, labels = jnp.array([[2.0], [1.0]]), jnp.array([0, 1])

    def weight(ridge, w):
        sums = analytic.update(analytic.empty(1, 2, jnp.float64), features, labels, jnp.array([w, 1.0]))
        return analytic.solve(sums, ridge, bias=False).kernel[0, 0]  # 2w / (4w + 1 + λ)

    by_ridge, by_weight = jax.jit(jax.grad(weight, (0, 1)))(0.5, 3.0)
    np.testing.assert_allclose(by_ridge, -6 / 13.5**2, rtol=1e-12)
    np.testing.assert_allclose(by_weight, (2 * 13.5 - 6 * 4) / 13.5**2, rtol=1e-12)
    ridges = jnp.array([0.1, 1.0, 10.0])
    sums = walk([(1, np.arange(4))], analytic.empty(F, C, jnp.float64))
    together = jax.jit(jax.vmap(analytic.solve, (None, 0)))(sums, ridges)
    for i, ridge in enumerate(ridges):
        np.testing.assert_allclose(together.kernel[i], solve(sums, ridge).kernel, rtol=1e-10)


def test_padding_may_hold_anything(x64):
    features = jnp.asarray(np.r_[FEATURES[:2], np.full((2, F), np.nan)])
    labels, weights = np.array([0, 1, -1, 7]), np.array([1.0, 1, 0, 0])
    sums = change_floats(analytic.update)(analytic.empty(F, C, jnp.float64), features, labels, weights)
    assert np.isfinite(sums.gram).all() and float(sums.gram[-1, -1]) == 2
    fixed = change(fixed_point.empty(F, C), features, labels, weights.astype(np.int32))
    np.testing.assert_allclose(fixed_point.as_floats(fixed).gram, sums.gram, rtol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (np.zeros((2, F + 1)), np.zeros(2, int), np.ones(2)),
            rf"features have shape \(2, 6\); they must be \[B, {F}\]",
        ),
        ((np.zeros((2, F)), np.zeros(3, int), np.ones(2)), r"labels and weights have shapes \(3,\) and \(2,\)"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        analytic.update(analytic.empty(F, C), *arguments)
    with pytest.raises(ValueError, match="num_classes must be at least 1, got 0"):
        analytic.empty(F, 0)


# --- integers --------------------------------------------------------------------------------------------------------


def test_sums_of_integers_are_those_of_python_far_beyond_32_bits():
    rng = np.random.default_rng(2)
    features = rng.uniform(-140, 140, (2048, 2)).astype(np.float32)
    features[:1024] = np.abs(features[:1024])
    labels, counts = rng.integers(0, C, 2048), np.ones(2048, np.int32)
    sums, times = fixed_point.empty(2, C), 5
    for _ in range(times):
        sums = change(sums, features, labels, counts)
    units = np.clip(np.rint(features.astype(np.float64) * 2**14), -(2**21 - 1), 2**21 - 1).astype(int)
    units = [[*map(int, row), 2**14] for row in units]

    def value(words, i, j):
        return int(words.high[i, j]) * 2**32 + int(words.low[i, j])

    for i in range(3):
        for j in range(3):
            assert value(sums.gram, i, j) == times * sum(row[i] * row[j] for row in units)
        for c in range(C):
            of_class = [row for row, label in zip(units, labels, strict=True) if label == c]
            assert value(sums.cross, i, c) == times * sum(row[i] for row in of_class)
    assert value(sums.gram, 0, 0) > 2**50 and value(sums.gram, 0, 1) % 2**32 != 0
    back = sums
    for _ in range(times):
        back = change(back, features, labels, -counts)
    assert_same_bits(back, fixed_point.empty(2, C))


def test_the_most_examples_fit_and_one_batch_more_than_is_exact_is_refused():
    assert fixed_point.MOST_EXAMPLES * fixed_point.LARGEST**2 < 2**63
    assert fixed_point.EXACT_ROWS * fixed_point.LARGEST**2 < 2**53
    with pytest.raises(ValueError, match="2049 examples at once; at most 2048"):
        fixed_point.change(fixed_point.empty(1, 2), jnp.zeros((2049, 1)), jnp.zeros(2049, int), jnp.ones(2049, int))


def test_the_page_about_it_runs():
    page = Path(__file__).parent.parent / "docs" / "analytic.md"
    (session,) = re.findall(r"```pycon\n(.*?)```", page.read_text(), re.DOTALL)
    test = doctest.DocTestParser().get_doctest(session, {}, page.name, str(page), 0)
    said: list[str] = []
    assert doctest.DocTestRunner().run(test, out=said.append).failed == 0, "".join(said)
