"""Convolution transpose: what is turned, requests against a loop, what it is without effect, and what it refuses."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from small_stream import LABELS

import ugclu_jax as clu
from ugclu_jax import buffer as reservoir
from ugclu_jax.methods.ct import check, ct, transposed
from ugclu_jax.methods.finetune_remain import finetune_remain
from ugclu_jax.stepping import BufferSettings, DescentHyper
from ugclu_jax.types import Examples, MethodState

CLASSES, PICTURES = 3, np.random.default_rng(0).normal(size=(12, 2, 2, 1))
RATES = {"learning_rate": 0.3, "momentum": 0.7, "weight_decay": 0.05}
HYPER = DescentHyper(**RATES, distillation_weight=0.4)
SETTINGS = BufferSettings(steps=3, remain_batch_size=4)
KERNEL, BIAS = np.random.default_rng(1).normal(size=(2, 2, 1, CLASSES)), np.random.default_rng(2).normal(size=CLASSES)
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def apply_fn(params, model_state, inputs, *, train, rng_key):
    """One convolution whose kernel is as large as the picture."""
    out = jax.lax.conv_general_dilated(
        inputs, params["kernel"], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return out.reshape(len(inputs), -1) + params["bias"], model_state


def flat(params):
    return {"kernel": np.asarray(params["kernel"]).reshape(4, CLASSES), "bias": np.asarray(params["bias"])}


def examples(ids):
    padded = np.r_[np.asarray(ids, np.int32), np.full(5 - len(ids), -1, np.int32)]
    return Examples(jnp.asarray(PICTURES), jnp.asarray(LABELS, jnp.int32), jnp.asarray(padded), jnp.int32(len(ids)))


def unlearn(method, kernel=KERNEL, kept=(9,)):
    empty = reservoir.init(6, (2, 2, 1), jnp.asarray(PICTURES).dtype, jax.random.key(0))
    buffer = reservoir.insert(empty, examples(kept))
    before = MethodState({"kernel": kernel, "bias": BIAS}, {}, {"another": 7})
    return jit(method.unlearn)(jax.random.key(0), before, HYPER, examples([4]), buffer)


def test_each_kernel_of_a_convolution_is_turned_and_nothing_else():
    rng = np.random.default_rng(4)
    shapes = {"a": (3, 3, 2, 5), "b": (4, 4), "c": (2, 2, 3)}
    params = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    found = transposed(params)
    for h, w in np.ndindex(3, 3):
        np.testing.assert_array_equal(found["a"][h, w], params["a"][w, h])
    assert (found["a"] != params["a"]).any()
    for name in "bc":
        np.testing.assert_array_equal(found[name], params[name])
    jax.tree.map(np.testing.assert_array_equal, transposed(found), params)


@pytest.mark.parametrize("distillation", [False, True])
def test_a_request_is_that_of_a_loop(x64, distillation):
    """The steps begin at the turned kernel; the teacher is the network before."""
    state, info = unlearn(ct(apply_fn, BufferSettings(steps=3, remain_batch_size=4, distillation=distillation)))
    old = flat({"kernel": KERNEL, "bias": BIAS})
    turned = np.array([[KERNEL[w, h] for w in range(2)] for h in range(2)])
    x = PICTURES[9].reshape(4)
    target = np.eye(CLASSES)[LABELS[9]]
    if distillation:
        logits = reference.REGRESSION.logits(old, x)
        target = reference.distilled(logits, LABELS[9], 0.4, departed=[LABELS[4]])

    def gradient(params):
        return reference.soft_gradient(reference.REGRESSION, params, x, target)

    expected = reference.sgd(flat({"kernel": turned, "bias": BIAS}), gradient, 3, **RATES)
    for name, leaf in flat(state.params).items():
        np.testing.assert_allclose(leaf, expected[name], rtol=1e-11, atol=1e-13)
    assert state.extra == {"another": 7} and info.remain_losses.shape == (3, 1)


@pytest.mark.parametrize("distillation", [False, True])
def test_a_symmetric_kernel_leaves_fine_tuning_bit_for_bit(distillation):
    symmetric = (KERNEL + np.swapaxes(KERNEL, 0, 1)) / 2
    settings = BufferSettings(steps=3, remain_batch_size=4, distillation=distillation)
    found, expected = (
        unlearn(method, symmetric, kept=(9, 2, 1, 7))
        for method in (ct(apply_fn, settings), finetune_remain(apply_fn, settings, num_classes=CLASSES))
    )
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert (np.asarray(unlearn(ct(apply_fn, settings))[0].params["kernel"]) != found[0].params["kernel"]).any()


def test_a_model_that_cannot_be_turned_is_refused_at_every_door(regression):
    """By name, before work: by `init` of a notebook, by a combination, and by the method itself."""
    wide = {"conv": {"kernel": np.zeros((3, 5, 1, 2))}}
    with pytest.raises(ValueError, match=r"\['conv'\]\['kernel'\] has shape \[3, 5, 1, 2\]: take msg"):
        check(wide, {}, PICTURES)
    params = jax.tree.map(np.float32, regression.params)
    data = clu.Data(np.zeros((4, 3), np.float32), np.array([0, 1, 2, 0]))
    method = ct(regression.apply_fn, SETTINGS)
    message = r"the model has no leaf \[height, width, in, out\]: take msg"
    for each in (method, clu.combine(learn=clu.do_nothing(), unlearn=method)):
        with pytest.raises(ValueError, match=message):
            clu.init(jax.random.key(0), each, params, data, capacity=3)
    state = MethodState(params, {})
    with pytest.raises(ValueError, match=message):
        method.unlearn(
            jax.random.key(0), state, HYPER, data[:2], reservoir.init(3, (3,), np.float32, jax.random.key(0))
        )
