"""A model that the user names: Linen, NNX or a factory, taken as it is or refused in a sentence."""

import dataclasses
import importlib
import json
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ugclu_jax import data, named
from ugclu_jax.harness import cli
from ugclu_jax.harness.config import ExperimentConfig
from ugclu_jax.harness.network import describe, make_network
from ugclu_jax.models import ModelOptions, create, own

SOURCE = '''
import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx


class Plain(nn.Module):
    """No train, no num_classes."""

    @nn.compact
    def __call__(self, inputs):
        return nn.Dense(10)(inputs.reshape(len(inputs), -1))


class Normed(nn.Module):
    num_classes: int
    norm_axis: str | None = None

    @nn.compact
    def __call__(self, inputs, train):
        x = nn.Dense(8)(inputs.reshape(len(inputs), -1))
        x = nn.BatchNorm(use_running_average=not train, axis_name=self.norm_axis)(x)
        return nn.Dense(self.num_classes)(nn.Dropout(0.5, deterministic=not train)(nn.relu(x)))


class NNXNet(nnx.Module):
    def __init__(self, num_classes, input_shape, *, rngs):
        self.first = nnx.Linear(input_shape[0] * input_shape[1], 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.last = nnx.Linear(8, num_classes, rngs=rngs)

    def __call__(self, inputs):
        return self.last(self.dropout(nnx.relu(self.norm(self.first(inputs.reshape(len(inputs), -1))))))


class Seedless(nnx.Module):
    def __init__(self, num_classes):
        pass


class Needy(nn.Module):
    num_classes: int
    heads: int


def factory(num_classes, input_shape):
    def apply_fn(params, model_state, inputs, *, train, rng_key):
        return inputs.reshape(len(inputs), -1) / 16.0 @ params, model_state

    def init_fn(rng_key):
        return 0.1 * jax.random.normal(rng_key, (input_shape[0] * input_shape[1], num_classes)), {}

    return apply_fn, init_fn


def one_argument(num_classes):
    return None


def returns_a_module(num_classes, input_shape):
    return Plain()


def of_six_classes(num_classes, input_shape):
    return factory(6, input_shape)


def without_state(num_classes, input_shape):
    apply_fn, init_fn = factory(num_classes, input_shape)
    return apply_fn, lambda rng_key: init_fn(rng_key)[0]


def logits_alone(num_classes, input_shape):
    apply_fn, init_fn = factory(num_classes, input_shape)
    return lambda *a, **k: apply_fn(*a, **k)[0], init_fn


def growing(num_classes, input_shape):
    apply_fn, init_fn = factory(num_classes, input_shape)

    def counting(params, model_state, inputs, *, train, rng_key):
        logits, _ = apply_fn(params, model_state, inputs, train=train, rng_key=rng_key)
        return logits, {"calls": jnp.zeros(3)} if train else model_state

    return counting, init_fn


a_module = Plain()
a_number = 3
'''
DIGITS = data.load("digits")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with `mine/net.py`, where the user stands."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").touch()
    (tmp_path / "mine" / "net.py").write_text(SOURCE)
    (tmp_path / "broken.py").write_text("import no_such_package\n")
    monkeypatch.chdir(tmp_path)
    importlib.invalidate_caches()
    before, path = set(sys.modules), list(sys.path)
    yield tmp_path
    assert sys.path == path
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("mine", "broken"):
            del sys.modules[name]


def network(attribute, **changes):
    return make_network(ExperimentConfig(model=f"mine.net:{attribute}", **changes), DIGITS)


@pytest.mark.parametrize("attribute", ["Plain", "Normed", "NNXNet", "factory"])
def test_a_model_is_taken_as_it_is(folder, attribute):
    found = network(attribute)
    keys = jax.random.split(jax.random.key(0), 2)
    params, model_state = jax.jit(jax.vmap(found.init_fn))(keys)
    for s, key in enumerate(keys):
        alone = jax.jit(found.init_fn)(key)
        jax.tree.map(
            lambda one, all, s=s: np.testing.assert_allclose(one, all[s], rtol=1e-5), alone, (params, model_state)
        )
    first = jax.tree.map(lambda leaf: leaf[0], (params, model_state))
    leaves = jax.tree.leaves(params)
    assert any(np.any(leaf[0] != leaf[1]) for leaf in leaves), "another key, other weights"
    inputs = jnp.asarray(DIGITS.train_inputs[:5])
    logits, state = found.apply_fn(*first, inputs, train=False, rng_key=None)
    assert logits.shape == (5, 10) and state is first[1]
    logits, state = found.apply_fn(*first, inputs, train=True, rng_key=jax.random.key(1))
    assert logits.shape == (5, 10)
    moved = [np.any(a != b) for a, b in zip(*map(jax.tree.leaves, (state, first[1])), strict=True)]
    assert len(moved) == {"Normed": 2, "NNXNet": 2}.get(attribute, 0) and all(moved)


def test_a_module_without_train_has_one_mode(folder):
    found = network("Plain")
    inputs, start = jnp.asarray(DIGITS.train_inputs[:5]), found.init_fn(jax.random.key(0))
    for train in (False, True):
        logits, _ = found.apply_fn(*start, inputs, train=train, rng_key=jax.random.key(1))
        dense = start[0]["Dense_0"]
        normalised = (inputs / DIGITS.scale - jnp.array(DIGITS.mean)) / jnp.array(DIGITS.std)
        expected = normalised.reshape(5, -1) @ dense["kernel"] + dense["bias"]
        np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)


def test_train_reaches_a_module_that_has_it(folder):
    found = network("Normed")
    inputs, start = jnp.asarray(DIGITS.train_inputs[:5]), found.init_fn(jax.random.key(0))
    one, other = (found.apply_fn(*start, inputs, train=True, rng_key=jax.random.key(k))[0] for k in (1, 2))
    assert np.any(one != other), "dropout"


def test_a_factory_sees_inputs_as_stored_and_augmented_in_training(folder):
    plain, moved = network("factory"), network("factory", augment="crop_flip")
    start, inputs = plain.init_fn(jax.random.key(0)), jnp.asarray(DIGITS.train_inputs[:5])
    expected = inputs.reshape(5, -1) / 16.0 @ start[0]
    key = jax.random.key(1)
    for found, train in ((plain, False), (plain, True), (moved, False)):
        np.testing.assert_array_equal(found.apply_fn(*start, inputs, train=train, rng_key=key)[0], expected)
    assert np.any(moved.apply_fn(*start, inputs, train=True, rng_key=key)[0] != expected)


def test_what_many_devices_may_share(folder):
    for attribute, shared in {"Plain": True, "factory": True, "Normed": True, "NNXNet": False}.items():
        assert (network(attribute).shared_apply_fn is not None) == shared, attribute
    assert create("mine.net:Normed", 10, input_shape=(8, 8, 1)).num_classes == 10


REFUSED = {
    "net.py": r"unknown model 'net.py': it must be one of mlp, .*, or package.module:attribute of your own",
    "mine.net:": "it must be package.module:attribute, such as my_package.net:Net; correct it",
    "mine:net:Net": "it must be package.module:attribute",
    "yours.net:Net": "there is no module yours in .* run where it lies, or correct the name",
    "mine.nets:Net": "there is no module mine.nets in",
    "broken:Net": "broken imports no_such_package, which is not there; install it",
    "mine.net:Plane": "mine.net has no attribute Plane; did you mean Plain?",
    "mine.net:Zebra": "mine.net has no attribute Zebra; define it there, or correct the name",
    "mine.net:a_number": "it is a int; it must be a Flax Linen or NNX module class, or a function",
    "mine.net:a_module": "it is a Plain; it must be a Flax Linen or NNX module class, or a function",
    "mine.net:jnp": "it is a module; it must be",
    "collections:Counter": "it is the class Counter; it must be",
    "mine.net:Seedless": "Seedless takes no rngs, from which its weights are drawn; add that argument",
    "mine.net:Needy": "Needy needs heads, and is given num_classes, input_shape alone; give it a default",
    "mine.net:one_argument": r"it cannot be called with \(num_classes, input_shape\): too many positional arguments",
    "mine.net:returns_a_module": r"it returns Plain\(.*; it must return the functions \(apply_fn, init_fn\)",
    "mine.net:of_six_classes": r"its outputs for 2 examples have the shape \(2, 6\); it must be \(2, 10\)",
    "mine.net:without_state": r"its init_fn returns ShapeDtypeStruct.*; it must return \(params, model_state\)",
    "mine.net:logits_alone": r"its apply_fn returns ShapeDtypeStruct.*; it must return \(logits, model_state\)",
    "mine.net:growing": r"its model_state is .* from init_fn and .*float32\[3\].* from apply_fn; they must agree",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_model_is_refused(folder, name):
    with pytest.raises(ValueError, match=REFUSED[name]):
        make_network(ExperimentConfig(model=name), DIGITS)


def test_options_of_bundled_models_are_refused(folder):
    with pytest.raises(ValueError, match=r"depth is 2: mine\.net:Plain has no such option"):
        network("Plain", model_options=ModelOptions(depth=2))


def test_token_ids_go_to_a_class_that_asks_for_their_number(folder):
    (folder / "mine" / "text.py").write_text(
        "import flax.linen as nn\n\n\nclass Text(nn.Module):\n    num_classes: int\n    vocabulary_size: int\n"
    )
    importlib.invalidate_caches()
    assert create("mine.text:Text", 3, input_shape=(5,), vocabulary_size=9).vocabulary_size == 9
    with pytest.raises(ValueError, match="Text needs vocabulary_size, and is given num_classes, input_shape alone"):
        create("mine.text:Text", 3, input_shape=(5, 5, 1))


def test_the_description_has_the_name_and_the_source(folder):
    config = ExperimentConfig(model="mine.net:Plain")
    description = describe(config)
    assert json.loads(description)["model"] == "mine.net:Plain"
    assert describe(config) == description != describe(dataclasses.replace(config, model="mine.net:Normed"))
    (folder / "mine" / "blocks.py").write_text("WIDTH = 3\n")  # a model may be made of the files beside it
    assert describe(config) != description
    (folder / "mine" / "blocks.py").unlink()
    assert describe(config) == description
    assert named.source_digest("model", "collections:Counter") != named.source_digest(
        "model", "json.decoder:JSONDecoder"
    )


def test_a_file_alone_is_its_own_source(folder):
    (folder / "single.py").write_text(SOURCE)
    importlib.invalidate_caches()
    digest = named.source_digest("model", "single:Plain")
    (folder / "beside.py").touch()
    assert named.source_digest("model", "single:Plain") == digest
    (folder / "single.py").write_text(SOURCE + "\n")
    assert named.source_digest("model", "single:Plain") != digest
    del sys.modules["single"]


def test_functions_of_a_model(folder):
    model = create("mine.net:NNXNet", 4, input_shape=(2, 3, 1))
    apply_fn, init_fn = own.functions(model, lambda x: x, jnp.zeros((1, 2, 3, 1)))
    assert apply_fn(*init_fn(jax.random.key(0)), jnp.zeros((2, 2, 3, 1)), train=False, rng_key=None)[0].shape == (2, 4)


def main(*arguments):
    return cli.main("task_aware", "", arguments)


@pytest.mark.filterwarnings("ignore:Sharding info not provided")
def test_a_stream_is_served_with_it(folder, capsys):
    places = ["--run-dir", str(folder / "run"), "--cache-dir", str(folder / "cache")]
    assert main("--smoke", "--sequence", "L1 U1", "--model", "mine.net:Plain", *places) == 0
    lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 2 and json.loads(lines[0])["model"]["LA"] > 0.5
    assert json.loads((folder / "run" / "config.json").read_text())["model"] == "mine.net:Plain"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "mine.net:Plane"], "mine.net has no attribute Plane; did you mean Plain?"),
        (["--model", "mine.net:of_six_classes"], "have the shape (2, 6); it must be (2, 10)"),
        (
            ["--model", "mine.net:NNXNet", "--devices", "2"],
            "model is 'mine.net:NNXNet', whose state would differ from device to device: give it a field norm_axis",
        ),
    ],
)
def test_the_command_line_refuses_it_with_code_2(folder, capsys, arguments, said):
    places = ["--run-dir", str(folder / "run"), "--cache-dir", str(folder / "cache")]
    assert main("--smoke", *arguments, *places) == 2
    assert said in re.sub(r"\s+", " ", capsys.readouterr().err)
