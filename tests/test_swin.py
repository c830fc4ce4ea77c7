"""Windowed attention against NumPy loops over pixels, stochastic depth, and the settings for each image size."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ugclu_jax.models import SwinTransformer, create
from ugclu_jax.models.swin import SETTINGS, SwinBlock, WindowAttention, merge, partition, unpartition


def loops(x, params, heads, window, shifted):
    """Every pixel's output on its own, from the pixels that share its window on the plane that shifts leave in place.

    A shifted axis has window edges at s, s + w, s + 2w, … of the padded image, hence smaller windows at both ends.
    """
    batch, height, width, features = x.shape
    sides = [-(-side // window) * window for side in (height, width)]
    padded = np.zeros((batch, *sides, features))
    padded[:, :height, :width] = x
    moved = [window // 2 if shifted and side > window else 0 for side in sides]
    home = [[(place - shift) // window for place in range(side)] for side, shift in zip(sides, moved, strict=True)]
    qkv = padded @ params["qkv"]["kernel"] + params["qkv"]["bias"]
    query, key, value = np.moveaxis(qkv.reshape(batch, *sides, 3, heads, -1), 3, 0)
    out = np.zeros((batch, height, width, heads, features // heads))
    for b, y, x0, h in np.ndindex(batch, height, width, heads):
        near = [(v, u) for v, u in np.ndindex(*sides) if home[0][v] == home[0][y] and home[1][u] == home[1][x0]]
        scores = []
        for v, u in near:
            row = (y - v + window - 1) * (2 * window - 1) + (x0 - u + window - 1)
            scores.append(query[b, y, x0, h] @ key[b, v, u, h] / np.sqrt(features // heads))
            scores[-1] += params["relative_position_bias"][row, h]
        weights = np.exp(scores - np.max(scores))
        out[b, y, x0, h] = sum(w * value[b, v, u, h] for w, (v, u) in zip(weights / weights.sum(), near, strict=True))
    return out.reshape(batch, height, width, features) @ params["out"]["kernel"] + params["out"]["bias"]


@pytest.mark.parametrize(
    ("height", "width", "window", "shifted"),
    [
        (4, 6, 2, False),
        (4, 6, 2, True),
        (6, 6, 3, True),  # an odd window shifts by its half, rounded down
        (5, 7, 3, True),  # windows do not divide the sides
        (3, 6, 3, True),  # one side is covered and does not shift
        (2, 2, 3, True),  # one window, larger than the image
    ],
)
def test_window_attention_against_numpy_loops(height, width, window, shifted, x64):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(2, height, width, 4))
    module = WindowAttention(2, window, shifted, jnp.float64)
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), x)["params"])
    params = jax.tree.map(lambda leaf: generator.normal(size=leaf.shape), shapes)
    ours = jax.jit(module.apply)({"params": params}, x)
    np.testing.assert_allclose(ours, loops(x, params, 2, window, shifted), rtol=1e-9, atol=1e-9)


def test_partition_takes_windows_row_by_row_and_comes_back():
    x = np.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    windows = partition(jnp.asarray(x), 2)
    expected = np.stack([x[:, i : i + 2, j : j + 2].reshape(2, 4, 3) for i in (0, 2) for j in (0, 2, 4)], axis=1)
    np.testing.assert_array_equal(windows, expected)
    np.testing.assert_array_equal(unpartition(windows, 4, 6), x)


def test_merging_takes_each_square_column_by_column_and_appends_zeros():
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    padded = np.concatenate([x, np.zeros((2, 1, 4, 5))], axis=1)
    expected = np.zeros((2, 2, 2, 20))
    for y, left in np.ndindex(2, 2):
        square = [padded[:, 2 * y + row, 2 * left + column] for column in (0, 1) for row in (0, 1)]
        expected[:, y, left] = np.concatenate(square, axis=-1)
    np.testing.assert_array_equal(merge(jnp.asarray(x)), expected.astype(np.float32))


@functools.cache
def block(drop_rate, train):
    module = SwinBlock(1, 2, False, drop_rate, train)
    x = np.random.default_rng(0).normal(size=(600, 2, 2, 2)).astype(np.float32)
    params = jax.tree.map(
        lambda leaf: np.random.default_rng(leaf.size).normal(size=leaf.shape).astype(np.float32),
        jax.eval_shape(lambda: module.init({"params": jax.random.key(0), "dropout": jax.random.key(0)}, x)),
    )
    run = jax.jit(lambda key: module.apply(params, x, rngs={"dropout": key}))
    return run, x, params["params"]


def test_stochastic_depth_drops_a_branch_for_whole_examples():
    """x + a(x) with each branch 0 or 1 / (1 - p) times itself: four outcomes, with the probabilities of two draws."""
    rate = 0.4
    run, x, params = block(rate, True)
    dropped = np.asarray(run(jax.random.key(1)), np.float64)
    attended = WindowAttention(1, 2, False).apply

    def normed(x, layer):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return x * layer["scale"] + layer["bias"]

    def outcome(first, second):
        y = x + first / (1 - rate) * attended({"params": params["attention"]}, normed(x, params["attention_norm"]))
        layers = params["mlp"]
        hidden = normed(y, params["mlp_norm"]) @ layers["hidden"]["kernel"] + layers["hidden"]["bias"]
        mlp = jax.nn.gelu(hidden, approximate=False) @ layers["out"]["kernel"] + layers["out"]["bias"]
        return y + second / (1 - rate) * mlp

    branches = list(itertools.product((0, 1), (0, 1)))
    errors = np.stack([np.abs(outcome(*kept) - dropped).max((1, 2, 3)) for kept in branches])
    assert (errors.min(0) < 2e-3).all()  # two features: a norm can divide by nearly nothing
    shares = np.bincount(errors.argmin(0), minlength=4) / len(x)
    expected = [(1 - rate if a else rate) * (1 - rate if b else rate) for a, b in branches]
    np.testing.assert_allclose(shares, expected, atol=4 * np.sqrt(0.25 / len(x)))  # four standard deviations


def test_stochastic_depth_follows_the_key_and_rests_in_evaluation():
    run, _, _ = block(0.4, True)
    first, again, other = (run(jax.random.key(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)
    evaluated, without = (block(rate, train)[0](jax.random.key(1)) for rate, train in ((0.4, False), (0.0, True)))
    np.testing.assert_array_equal(evaluated, without)


def test_blocks_alternate_and_stochastic_depth_grows_evenly(monkeypatch):
    rates, shifts = [], []
    original = SwinBlock.__call__

    def spy(self, x):
        rates.append(self.drop_rate)
        shifts.append(self.shifted)
        return original(self, x)

    monkeypatch.setattr(SwinBlock, "__call__", spy)
    module = SwinTransformer(3, width=4, depths=(2, 1), patch=2, window=2, stochastic_depth=0.3)
    jax.eval_shape(lambda: module.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)), train=False))
    np.testing.assert_allclose(rates, [0, 0.15, 0.3])
    assert shifts == [False, True, False]


@pytest.mark.parametrize("side", SETTINGS)
def test_windows_divide_every_stage_and_the_last_is_one_window(side):
    module = create("swin_t", 3, input_shape=(side, side, 3))
    sides = [side / module.patch / 2**stage for stage in range(4)]
    assert all(patches % module.window == 0 for patches in sides)
    assert sides[-1] == module.window


def test_heads_must_divide_the_features():
    with pytest.raises(ValueError, match=r"layer of 40 features.* multiple of 32.* the next lower one is 32"):
        SwinTransformer(3, width=20, depths=(1, 1, 1))
    SwinTransformer(3, width=20, depths=(1,))
