"""What every method must do, whatever it is: one battery over all of them."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ugclu_jax import buffer as buffer_lib
from ugclu_jax.descent import DescentHyper, DescentSettings
from ugclu_jax.learner import combine
from ugclu_jax.methods.agem import agem
from ugclu_jax.methods.bad_teacher import BadTeacherHyper, bad_teacher
from ugclu_jax.methods.clpu_der_pp import ClpuHyper, clpu_der_pp
from ugclu_jax.methods.der import DERHyper, DERPPHyper, der, der_pp
from ugclu_jax.methods.do_nothing import do_nothing
from ugclu_jax.methods.er import er
from ugclu_jax.methods.ewc import EWCHyper, EWCSettings, ewc
from ugclu_jax.methods.finetune import finetune
from ugclu_jax.methods.finetune_remain import finetune_remain
from ugclu_jax.methods.gradient_ascent import GradientAscentHyper, gradient_ascent
from ugclu_jax.methods.joint import joint
from ugclu_jax.methods.l1_sparse import L1SparseHyper, l1_sparse
from ugclu_jax.methods.lwf import LwFHyper, lwf
from ugclu_jax.methods.neg_grad_plus import NegGradPlusHyper, neg_grad_plus
from ugclu_jax.methods.random_label import RandomLabelHyper, random_label
from ugclu_jax.methods.retrain import retrain
from ugclu_jax.methods.salun import SalunHyper, SalunSettings, salun
from ugclu_jax.methods.scrub import ScrubHyper, ScrubSettings, scrub
from ugclu_jax.methods.sfron import SfronHyper, SfronSettings, sfron
from ugclu_jax.methods.uniclun import UniclunHyper, uniclun
from ugclu_jax.oracle import OracleSettings
from ugclu_jax.types import REQUEST_KINDS, Examples, Hyper, Info, MethodState
from ugclu_jax.ugclu import UGCLUSettings, ug_clu

INPUTS = np.random.default_rng(0).integers(0, 255, (60, 4)).astype(np.uint8)
LABELS = (np.arange(60) % 3).astype(np.int32)


def APPLY(params, model_state, inputs, *, train, rng_key):
    """A linear model with a running mean, as BatchNorm has: small, so that the battery compiles in seconds."""
    x = inputs / 255.0
    mean = x.mean(0) if train else model_state["mean"]
    new_state = {"mean": 0.9 * model_state["mean"] + 0.1 * mean} if train else model_state
    return (x - mean) @ params["kernel"] + params["bias"], new_state


# Compiling is most of the time of these tests.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
SMALL = UGCLUSettings(outer_steps=2, inner_steps=1, task_batch_size=4, remain_batch_size=4, saliency_batches=1)


def ug(**changes):
    unlearn = dataclasses.replace(SMALL, **changes)
    learn = dataclasses.replace(unlearn, inner_data="mixed", unlearn_loss="ascent", distillation=False)
    return ug_clu(APPLY, learn, unlearn, num_classes=3), Hyper()


SIZES = {"steps": 2, "task_batch_size": 4, "remain_batch_size": 4, "distillation": True}
PAIRS = DescentSettings(**SIZES)


def fresh_network(rng_key):
    return {"kernel": jax.random.normal(rng_key, (4, 3)), "bias": jnp.zeros(3)}, {"mean": jnp.zeros(4)}


DESCENT = DescentSettings(steps=2, task_batch_size=4, remain_batch_size=4)
DISTILLING = dataclasses.replace(DESCENT, distillation=True)
FINETUNE = finetune_remain(APPLY, DescentSettings(steps=2, remain_batch_size=4), num_classes=3)
METHODS = {
    "ug_clu": ug(),
    "ug_clu soft gradient": ug(mask="soft", saliency="gradient"),
    "ug_clu straight_through batch_fisher": ug(mask="straight_through", saliency="batch_fisher"),
    "ug_clu plain": ug(mask="none", inner_steps=0, coefficient_decay=False, remain_decay=False),
    "ug_clu keep statistics": ug(keep_fast_statistics=True),
    "ug_clu bounded": ug(mask="none", unlearn_loss="bounded", distillation=True),
    "ug_clu target euclidean": ug(mask="none", unlearn_loss="target", manifold="euclidean"),
    "finetune_remain": (FINETUNE, DescentHyper()),
    "gradient_ascent": (gradient_ascent(APPLY, PAIRS, num_classes=3), GradientAscentHyper()),
    "neg_grad_plus": (neg_grad_plus(APPLY, PAIRS, num_classes=3), NegGradPlusHyper()),
    "random_label": (random_label(APPLY, PAIRS, num_classes=3), RandomLabelHyper()),
    "l1_sparse": (l1_sparse(APPLY, PAIRS, num_classes=3), L1SparseHyper()),
    "salun": (salun(APPLY, SalunSettings(**SIZES, saliency_batches=1, optimizer="adamw"), num_classes=3), SalunHyper()),
    "sfron": (sfron(APPLY, SfronSettings(**SIZES, saliency_batches=1), num_classes=3), SfronHyper()),
    "do_nothing": (do_nothing(), ()),
    "combined": (combine(learn=FINETUNE, unlearn=do_nothing()), DescentHyper()),
    "scrub": (scrub(APPLY, ScrubSettings(2, 4, 4), num_classes=3), ScrubHyper(momentum=0.9)),
    "scrub adamw distilling": (
        scrub(APPLY, ScrubSettings(2, 4, 4, optimizer="adamw", distillation=True), num_classes=3),
        ScrubHyper(0.01, 0.9),
    ),
    "bad_teacher": (bad_teacher(APPLY, DESCENT, num_classes=3, init_fn=fresh_network), BadTeacherHyper()),
    "bad_teacher distilling": (bad_teacher(APPLY, DISTILLING, num_classes=3, init_fn=fresh_network), BadTeacherHyper()),
    "uniclun": (uniclun(APPLY, DISTILLING, num_classes=3, init_fn=fresh_network), UniclunHyper()),
    "clpu_der_pp": (
        clpu_der_pp(APPLY, DESCENT, num_classes=3, capacity=12, num_examples=60, init_fn=fresh_network),
        ClpuHyper(),
    ),
    "retrain": (
        retrain(APPLY, OracleSettings(1, 8), num_classes=3, init_fn=fresh_network, num_examples=60),
        (),
    ),
    "finetune": (finetune(APPLY, DESCENT, num_classes=3), DescentHyper()),
    "er": (er(APPLY, DISTILLING, num_classes=3), DescentHyper()),
    "agem": (agem(APPLY, DESCENT, num_classes=3), DescentHyper()),
    "der": (der(APPLY, DESCENT, num_classes=3, capacity=12), DERHyper()),
    "der_pp adamw": (
        der_pp(APPLY, dataclasses.replace(DESCENT, optimizer="adamw"), num_classes=3, capacity=12),
        DERPPHyper(momentum=0.9),
    ),
    "ewc": (ewc(APPLY, EWCSettings(2, 4, fisher_batches=1), num_classes=3), EWCHyper()),
    "lwf": (lwf(APPLY, DESCENT, num_classes=3), LwFHyper()),
    "joint": (joint(APPLY, DESCENT, num_classes=3, num_examples=60), DescentHyper()),
}
ONLY_UNLEARN = {"gradient_ascent", "neg_grad_plus", "random_label", "l1_sparse", "salun", "sfron"}
ONLY_UNLEARN |= {"scrub", "scrub adamw distilling", "bad_teacher", "bad_teacher distilling"}
ONLY_LEARN = {"finetune", "er", "agem", "der", "der_pp adamw", "ewc", "lwf"}
KINDS = {
    name: ["learn"] if name in ONLY_LEARN else ["unlearn"] if name in ONLY_UNLEARN else list(REQUEST_KINDS)
    for name in METHODS
}
SERVED = [(name, kind) for name, kinds in KINDS.items() for kind in kinds]
TASK = Examples(jnp.asarray(INPUTS), jnp.asarray(LABELS), jnp.arange(-4, 16)[::-1].at[16:].set(-1), jnp.asarray(16))


@pytest.fixture(scope="module")
def network():
    kernel = jax.random.normal(jax.random.key(0), (4, 3))
    return {"kernel": kernel, "bias": jnp.zeros(3)}, {"mean": jnp.zeros(4)}


@pytest.fixture(scope="module")
def filled_buffer():
    empty = buffer_lib.init(12, (4,), jnp.uint8, jax.random.key(0))
    return buffer_lib.insert(empty, TASK._replace(ids=jnp.arange(20, 40), count=jnp.asarray(20)))


def signature(tree):
    return jax.tree.map(lambda x: (jnp.shape(x), jnp.result_type(x)), tree)


@pytest.mark.parametrize(("name", "kind"), SERVED)
def test_contract(name, kind, network, filled_buffer):
    method, hyper = METHODS[name]
    update = getattr(method, kind)
    state = method.init(*network)
    # As the learner does: first what was learned before, then this request.
    before = TASK._replace(ids=jnp.arange(20, 40), count=jnp.asarray(20))
    state = state._replace(extra=method.track(kind, method.track("learn", state.extra, before), TASK))
    hyper = jax.tree.map(jnp.asarray, hyper)
    traces = 0

    def counted(key, state, hyper, task, buffer):
        nonlocal traces
        traces += 1
        return update(key, state, hyper, task, buffer)

    jitted = quick_jit(counted)
    keys = jax.random.split(jax.random.key(1), 2)
    new_state, info = jitted(keys[0], state, hyper, TASK, filled_buffer)

    assert isinstance(new_state, MethodState) and isinstance(info, Info)
    assert signature(new_state) == signature(state), "structure, shapes and types are kept"
    assert jax.tree.structure(info.mask_density) == jax.tree.structure(state.params)
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves((new_state, info)))
    assert float(info.gradient_evaluations) >= 0

    second, _ = jitted(keys[1], new_state, jax.tree.map(lambda x: x * 0.5, hyper), TASK, filled_buffer)
    assert traces == 1, "another key, state and hyper: the same program"

    mapped = quick_jit(jax.vmap(update, in_axes=(0, None, None, None, None)))
    stacked, _ = mapped(keys, state, hyper, TASK, filled_buffer)
    alone, _ = jitted(keys[1], state, hyper, TASK, filled_buffer)
    for s, single in enumerate((new_state, alone)):
        jax.tree.map(lambda a, b, s=s: np.testing.assert_allclose(a[s], b, rtol=2e-4, atol=2e-5), stacked, single)

    moved = any(bool(jnp.any(a != b)) for a, b in zip(jax.tree.leaves(second), jax.tree.leaves(new_state), strict=True))
    nothing = name == "do_nothing" or (name == "combined" and kind == "unlearn")
    assert moved != nothing


@pytest.mark.parametrize(("name", "kind"), [(name, kinds[-1]) for name, kinds in KINDS.items()])
def test_an_empty_buffer_harms_nothing(name, kind, network):
    method, hyper = METHODS[name]
    empty = buffer_lib.init(12, (4,), jnp.uint8, jax.random.key(0))
    state = method.init(*network)
    new_state, _ = quick_jit(getattr(method, kind))(jax.random.key(0), state, hyper, TASK, empty)
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(new_state))
    if name == "finetune_remain":  # nothing to fine-tune on
        jax.tree.map(np.testing.assert_array_equal, new_state, state)


@pytest.mark.parametrize("name", [name for name, kinds in KINDS.items() if len(kinds) == 1])
def test_a_request_that_a_method_does_not_serve_is_refused(name, network):
    method, hyper = METHODS[name]
    (kind,) = set(REQUEST_KINDS) - set(KINDS[name])
    with pytest.raises(ValueError, match=f"does not {kind}: combine it with a method that does"):
        getattr(method, kind)(jax.random.key(0), method.init(*network), hyper, TASK, None)


@pytest.mark.parametrize("name", METHODS)
def test_tracking_twice_is_tracking_once_and_leaves_others_alone(name, network):
    method, _ = METHODS[name]
    extra = method.init(*network).extra
    for kind in REQUEST_KINDS:
        once = method.track(kind, extra | {"another": 7}, TASK)
        jax.tree.map(np.testing.assert_array_equal, method.track(kind, once, TASK), once)
        assert once["another"] == 7 and signature(once) == signature(extra | {"another": 7})
        assert method.track(kind, {"another": 7}, TASK) == {"another": 7}
