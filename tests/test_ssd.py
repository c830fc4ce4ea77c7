"""Selective synaptic dampening: importances and factors against NumPy, and what they leave alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from small_stream import INPUTS, LABELS, assert_close, buffer_of, examples, random_batch

from ugclu_jax.at import At
from ugclu_jax.methods.ssd import Importances, SSDHyper, SSDSettings, dampening_factors, importances, ssd
from ugclu_jax.types import Batch, Execution, MethodState

SETTINGS = SSDSettings(steps=3, task_batch_size=4, remain_batch_size=4)
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
FLOATS = st.floats(0, 2.0**10, width=32, allow_subnormal=False).map(np.float32)


def unlearn(tiny, hyper, task=(4,), kept=(9,), settings=SETTINGS, devices=None):
    update = ssd(tiny.apply_fn, settings).unlearn
    state = MethodState(tiny.params, {"mean": np.ones(2)}, {"another": 7})
    arguments = (jax.random.key(0), state, hyper, examples(task), buffer_of(kept))
    if devices is None:
        return jit(update)(*arguments)
    mapped = jax.vmap(lambda _: update(*arguments, where=Execution("device")), axis_name="device")
    return jit(mapped)(jnp.zeros(devices))


def dampened(params, task, remain, selection, dampening):
    """One weight at a time."""
    found = {name: p.copy() for name, p in params.items()}
    for name, p in found.items():
        for place in np.ndindex(p.shape):
            own, other = task[name][place], remain[name][place]
            if own > selection * other:
                p[place] *= min(dampening * other / own, 1.0)
    return found


@pytest.mark.parametrize("importance", ["fisher", "batch_fisher"])
def test_importances_are_those_of_a_loop(x64, mlp, importance):
    task, remain = random_batch(0, [1, 1, 0, 1]), random_batch(1, [1, 0, 1, 1])
    found = importances(At(mlp.apply_fn, mlp.params, {}), Batch(*task), Batch(*remain), importance)
    of = {"fisher": reference.fisher, "batch_fisher": reference.batch_fisher}[importance]
    assert_close(found.task, of(mlp.twin, mlp.params, [task]))
    assert_close(found.remain, of(mlp.twin, mlp.params, [remain]))


@pytest.mark.parametrize("importance", ["fisher", "batch_fisher"])
@pytest.mark.parametrize(("selection", "dampening"), [(1.0, 1.0), (2.0, 3.0), (0.0, 0.5)])
def test_a_request_is_that_of_a_loop(x64, mlp, importance, selection, dampening):
    """Task and buffer hold one example each, so every draw is known, and both importances are the squared gradient."""
    settings = SSDSettings(steps=3, task_batch_size=4, remain_batch_size=2, importance=importance)
    state, info = unlearn(mlp, SSDHyper(selection, dampening), settings=settings)
    task, remain = (
        {name: g**2 for name, g in mlp.twin.gradient(mlp.params, INPUTS[i], LABELS[i]).items()} for i in (4, 9)
    )
    expected = dampened(mlp.params, task, remain, selection, dampening)
    assert_close(state.params, expected)
    changed = {name: np.mean(expected[name] != p) for name, p in mlp.params.items()}
    assert_close(info.mask_density, changed, rtol=1e-6)
    assert sum(changed.values()) > 0
    assert state.model_state["mean"].tolist() == [1, 1] and state.extra == {"another": 7}
    assert float(info.gradient_evaluations) == pytest.approx(3 * 6 / 64)


def test_a_selection_without_end_changes_nothing(mlp):
    state, info = unlearn(mlp, SSDHyper(selection=1e30), task=(4, 5), kept=(9, 2, 1))
    assert_close(state.params, jax.tree.map(np.float32, mlp.params), rtol=0, atol=0)
    assert all(float(share) == 0 for share in info.mask_density.values())


def test_what_is_as_important_for_both_is_left_alone(x64, mlp):
    """The same example in task and buffer: the share of importance is 1, and more than 1 is asked for."""
    state, _ = unlearn(mlp, SSDHyper(selection=1.0, dampening=0.0), task=(4,), kept=(4,))
    assert_close(state.params, mlp.params, rtol=0, atol=0)


def test_no_dampening_left_removes_what_is_selected(x64, mlp):
    state, _ = unlearn(mlp, SSDHyper(selection=0.0, dampening=0.0))
    assert all(not leaf.any() for leaf in state.params.values())


def test_no_batches_tell_nothing(mlp):
    state, info = unlearn(mlp, SSDHyper(selection=0.0), settings=SSDSettings(steps=0))
    assert_close(state.params, jax.tree.map(np.float32, mlp.params), rtol=0, atol=0)
    assert float(info.gradient_evaluations) == 0


@settings(deadline=None, derandomize=True)
@given(FLOATS, FLOATS, FLOATS, FLOATS)
def test_no_weight_grows_and_only_selected_ones_shrink(task, remain, selection, dampening):
    factor = float(dampening_factors(Importances(task, remain), SSDHyper(selection, dampening)))
    assert 0 <= factor <= 1
    assert factor == 1 or task > selection * remain


def test_importances_are_means_over_all_batches(x64, mlp):
    """More batches of the same two examples come nearer to the mean over both: here against the exact one."""
    state, _ = unlearn(mlp, SSDHyper(0.0, 1e-3), task=(4, 5), settings=SSDSettings(steps=400, task_batch_size=8))
    batch = (INPUTS[[4, 5]], LABELS[[4, 5]], np.ones(2))
    kept = (INPUTS[[9]], LABELS[[9]], np.ones(1))
    task, remain = (reference.fisher(mlp.twin, mlp.params, [b]) for b in (batch, kept))
    assert_close(state.params, dampened(mlp.params, task, remain, 0.0, 1e-3), rtol=0.2)


def test_devices_agree_with_one(x64, mlp):
    drawn = {"task": (4, 5, 6), "kept": (9, 2, 1, 7)}
    for importance in ("fisher", "batch_fisher"):
        settings = SSDSettings(steps=2, task_batch_size=4, remain_batch_size=4, importance=importance)
        split = unlearn(mlp, SSDHyper(0.5), settings=settings, devices=2, **drawn)
        whole = unlearn(mlp, SSDHyper(0.5), settings=settings, **drawn)
        for shards, leaf in zip(jax.tree.leaves(split), jax.tree.leaves(whole), strict=True):
            np.testing.assert_allclose(shards, np.broadcast_to(leaf, shards.shape), rtol=1e-10, atol=1e-12)
