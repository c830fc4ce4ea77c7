"""A pretrained network of which a part is trained: what begins as it was, what an update adds, what never moves."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from safetensors.numpy import save_file
from test_pretrained import CASES, CLASSES, inputs_of, state_dict

from ugclu_jax import buffer, ug_clu
from ugclu_jax.learner import CLUState, apply_request
from ugclu_jax.methods.finetune_remain import finetune_remain
from ugclu_jax.models import ModelOptions, part_functions
from ugclu_jax.models.adapters import linen_apply_fn
from ugclu_jax.stepping import BufferSettings
from ugclu_jax.types import Examples
from ugclu_jax.ugclu_settings import UNLEARNING

NETWORKS = {"vit": "vit timm", "lite": "efficientnet_lite0", "minilm": "minilm"}  # the case of test_pretrained
EVERY = pytest.mark.parametrize("name", NETWORKS)
RANK, ALPHA = 2, 3.0
ADAPTED = {  # what has an update, of the layers that the tiny networks have
    "vit": {f"layer{i}/attention/{layer}" for i in range(2) for layer in ("qkv", "out")},
    "lite": {"block0/project_conv", "block1/expand_conv", "block1/project_conv", "last_conv"},
    "minilm": {f"layer0/attention/{layer}" for layer in ("query", "key", "value", "out")},
}


def examples_of(name):
    generator = np.random.default_rng(5)
    shape = inputs_of(NETWORKS[name]).shape[1:]
    if name == "minilm":
        return jnp.asarray(generator.integers(1, 11, (12, *shape)))
    return jnp.asarray(generator.normal(size=(12, *shape)), jnp.float32)


@functools.cache
def whole(name):
    """Our trees of random weights, with sound variances, and the same as a file would have them."""
    (params, state), tensors = state_dict(NETWORKS[name])
    state = jax.tree.map(lambda leaf: 0.5 + np.abs(leaf), state)
    theirs = {key: 0.5 + np.abs(tensor) if "running" in key else tensor for key, tensor in tensors.items()}
    return params, state, theirs


@functools.cache
def part(name, train, folder):
    tensors = whole(name)[2]
    path = folder / f"{name}.safetensors"
    save_file(tensors, path)
    model, module = CASES[NETWORKS[name]][:2]
    of_lora = {"lora_rank": RANK, "lora_alpha": ALPHA} if train == "lora" else {}
    options = ModelOptions(pretrained=path, train=train, **of_lora)
    found = part_functions(model, module, lambda x: x, inputs_of(NETWORKS[name]), options)
    return found, jax.jit(found.init_fn)(jax.random.key(1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("weights")


def evaluated(apply_fn, params, state, inputs, train=False):
    def run(params, state):
        return apply_fn(params, state, inputs, train=train, rng_key=None)[0]

    return np.asarray(jax.jit(run)(params, state))


@pytest.mark.parametrize(("name", "train"), [*((name, "lora") for name in NETWORKS), ("lite", "head")])
def test_it_begins_as_the_pretrained_network_bit_for_bit(name, train, folder):
    params, state, _ = whole(name)
    found, (own, own_state) = part(name, train, folder)
    assert own_state == {} and set(own) == ({"head"} if train == "head" else {"head", "lora"})
    inputs = examples_of(name)
    # The head of the file, or a fresh one where the file has none.
    fresh = name == "minilm"
    assert fresh != all(np.array_equal(own["head"][leaf], params["head"][leaf]) for leaf in ("kernel", "bias"))
    pretrained = linen_apply_fn(CASES[NETWORKS[name]][1], lambda x: x)
    # Operation by operation: where XLA fuses a sum into another loop, that loop rounds otherwise, be the summand zero.
    expected, _ = pretrained({**params, **own_head(own)}, state, inputs, train=False, rng_key=None)
    assert np.ptp(expected) > 0.01
    # In training, too: BatchNorm keeps its statistics.
    np.testing.assert_array_equal(found.apply_fn(own, {}, inputs, train=True, rng_key=None)[0], expected)


def own_head(own):
    return {"head": own["head"]}


@EVERY
def test_an_update_is_its_product_added_to_the_kernel(name, folder):
    params, state, _ = whole(name)
    found, (own, _) = part(name, "lora", folder)
    flat = flatten_dict(own["lora"], sep="/")
    assert {path.rpartition("/")[0] for path in flat} == ADAPTED[name]
    generator = np.random.default_rng(7)
    drawn = jax.tree.map(lambda leaf: generator.normal(size=leaf.shape).astype(np.float32), own)
    flat, added = flatten_dict(drawn["lora"], sep="/"), flatten_dict({**params, **own_head(drawn)}, sep="/")
    for layer in ADAPTED[name]:
        rows, columns = flat[f"{layer}/a"], flat[f"{layer}/b"]
        product = np.zeros((rows.shape[1], columns.shape[1]))
        for r in range(RANK):
            product += ALPHA / RANK * np.outer(rows[r], columns[r])
        added[f"{layer}/kernel"] = (added[f"{layer}/kernel"] + product).astype(np.float32)
    changed = nested(added)
    inputs = examples_of(name)
    expected = evaluated(linen_apply_fn(CASES[NETWORKS[name]][1], lambda x: x), changed, state, inputs)
    np.testing.assert_allclose(evaluated(found.apply_fn, drawn, {}, inputs), expected, rtol=1e-4, atol=1e-4)


def nested(flat):
    tree = {}
    for path, leaf in flat.items():
        *above, last = path.split("/")
        functools.reduce(lambda node, key: node.setdefault(key, {}), above, tree)[last] = leaf
    return tree


@EVERY
def test_seeds_differ_in_what_is_trained_and_share_the_rest(name, folder):
    found, _ = part(name, "lora", folder)
    many, _ = jax.vmap(found.init_fn)(jax.random.split(jax.random.key(0), 3))
    flat = flatten_dict(many["lora"], sep="/")
    for path, leaf in flat.items():
        assert leaf.shape[:2] == (3, RANK)
        if path.endswith("/b"):
            assert not leaf.any()
        else:
            assert leaf[0].std() > 0 and not np.array_equal(leaf[0], leaf[1])
    # Gradients are of the part alone, whatever asks for them.
    gradient = jax.eval_shape(
        jax.grad(lambda p: found.apply_fn(p, {}, examples_of(name), train=True, rng_key=None)[0].sum()),
        jax.tree.map(lambda leaf: leaf[0], many),
    )
    assert jax.tree.structure(gradient) == jax.tree.structure(many)


METHODS = {
    "ug_clu": lambda apply_fn: ug_clu(
        apply_fn,
        unlearn_settings=dataclasses.replace(
            UNLEARNING, outer_steps=2, inner_steps=1, task_batch_size=4, remain_batch_size=4
        ),
        num_classes=CLASSES,
    ),
    "finetune_remain": lambda apply_fn: finetune_remain(
        apply_fn, BufferSettings(steps=4, remain_batch_size=4), num_classes=CLASSES
    ),
}


@pytest.mark.parametrize("method", METHODS)
def test_a_request_moves_the_part_and_nothing_else(method, folder):
    """What is frozen cannot be written; that nothing else decides the outputs is seen at the first head and update."""
    found, (own, _) = part("minilm", "lora", folder)
    inputs = examples_of("minilm")
    before = evaluated(found.apply_fn, own, {}, inputs)
    served = METHODS[method](found.apply_fn)
    examples = Examples(inputs, jnp.arange(12) % CLASSES, jnp.arange(8), jnp.array(8))
    memory = buffer.insert(buffer.init(12, inputs.shape[1:], inputs.dtype, jax.random.key(2)), examples._replace(
        ids=jnp.arange(12), count=jnp.array(12)
    ))  # fmt: skip
    state = CLUState(served.init(own, {}), memory)
    hyper = served.hyper["unlearn"]
    after, _ = jax.jit(functools.partial(apply_request, served, "unlearn"))(jax.random.key(3), state, hyper, examples)
    assert jax.tree.map(jnp.shape, after.method.params) == jax.tree.map(jnp.shape, own)
    assert after.method.model_state == {}
    moved = jax.tree.map(lambda a, b: not np.array_equal(a, b), after.method.params, own)
    # The first gradient of A is zero, for B is; what follows may be below its rounding.
    assert all(value for path, value in flatten_dict(moved).items() if path[-1] != "a")
    np.testing.assert_array_equal(evaluated(found.apply_fn, own, {}, inputs), before)


def test_a_rank_that_no_kernel_has_is_refused(folder):
    _, _, tensors = whole("vit")
    path = folder / "rank.safetensors"
    save_file(tensors, path)
    model, module = CASES[NETWORKS["vit"]][:2]
    options = ModelOptions(pretrained=path, train="lora", lora_rank=5)
    with pytest.raises(ValueError, match=r"lora_rank is 5: the kernel of layer0/attention/\w+, 4 x \d+, has no higher"):
        part_functions(model, module, lambda x: x, jnp.zeros((1, 8, 8, 3)), options)
