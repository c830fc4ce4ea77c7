"""`ugclu export --onnx`: another program computes from the file what the library computes, to 1e-4."""

import json
import shutil
import sys

import jax
import numpy as np
import onnx
import onnxruntime
import pytest
from living_cases import root

from ugclu_jax.extras import MissingExtraError
from ugclu_jax.living import onnx_file, serving
from ugclu_jax.living.__main__ import main
from ugclu_jax.living.held import Held, fresh_buffers, inserted
from ugclu_jax.living.model import LivingModel
from ugclu_jax.living.network import Described, network


def pictures(model, side=16, channels=1, **options):
    settings = {"model": model, "model_options": options, "capacity": 20}
    normal = {"scale": 255.0, "mean": (0.4,) * channels, "std": (0.2,) * channels}
    return Described(
        ("a", "b", "c"), "pictures", (side, side, channels), "uint8", **normal, settings=settings, held_out=10
    )


def texts(model, **options):
    settings = {"model": model, "model_options": options, "capacity": 20}
    return Described(
        ("a", "b", "c"), "texts", (12,), "int32", 1.0, (), (), vocabulary_size=50, settings=settings, held_out=10
    )


CASES = {
    "mlp": pictures("mlp"),
    "cnn": pictures("cnn"),
    "cnn_bn": pictures("cnn_bn"),
    "resnet18": pictures("resnet18", channels=3, width=8, depth=1),
    "text_encoder": texts("text_encoder", width=32, depth=1),
}


def inputs_of(described, number, seed=0):
    rng = np.random.default_rng(seed)
    found = rng.integers(0, described.vocabulary_size or 256, (number, *described.shape)).astype(described.dtype)
    if described.inputs == "texts":
        found[:, 1 + described.shape[0] // 2 :] = 0  # what is behind a text is padding
    return found


def held_of(described):
    """A network that is nowhere trivial, with a few examples in its buffer."""
    params, state = network(described).init_fn(jax.random.key(0))
    rng = np.random.default_rng(1)
    # Statistics that nobody has trained are 0 and 1: a file that leaves them out would not be told.
    state = jax.tree.map(lambda x: x + rng.uniform(0.1, 0.6, x.shape).astype(np.float32), state)
    params = jax.tree.map(lambda x: x + 0.05 * rng.normal(size=x.shape).astype(np.float32), params)
    buffer, held_out = fresh_buffers(described, jax.random.key(1))
    task = serving.examples(inputs_of(described, 9, 2), [0, 1, 2] * 3, described)
    return Held(described, params, state, inserted(buffer, task, np.arange(9)), held_out)


@pytest.mark.parametrize("name", CASES)
def test_another_program_computes_the_same_for_any_number_of_examples(name):
    held = held_of(CASES[name])
    content = onnx_file.packed(held)
    onnx.checker.check_model(onnx.load_from_string(content))
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (taken,), (given,) = session.get_inputs(), session.get_outputs()
    assert (taken.name, given.name, taken.shape[1:]) == ("inputs", "logits", list(held.described.shape))
    for number in (1, 7, 130):
        inputs = inputs_of(held.described, number, seed=number)
        (own,) = session.run(["logits"], {"inputs": inputs})
        wanted = held.logits(inputs)
        assert own.shape == (number, 3) and np.ptp(wanted) > 0.1
        np.testing.assert_allclose(own, wanted, atol=1e-4, rtol=0)


def patched(monkeypatch, apply_fn):
    held = held_of(CASES["mlp"])
    monkeypatch.setattr(onnx_file, "network", lambda described: network(described)._replace(apply_fn=apply_fn))
    return held


def test_a_file_that_says_something_else_is_refused(monkeypatch):
    own = network(CASES["mlp"]).apply_fn

    def other(params, state, inputs, *, train, rng_key):
        logits, state = own(params, state, inputs, train=train, rng_key=rng_key)
        return logits + 0.01, state

    with pytest.raises(ValueError, match=r"mlp cannot be written as ONNX \(outputs of the file and of the network"):
        onnx_file.packed(patched(monkeypatch, other))


def test_a_network_that_cannot_be_translated_is_refused(monkeypatch):
    def called(params, state, inputs, *, train, rng_key):
        like = jax.ShapeDtypeStruct((inputs.shape[0], 3), np.float32)
        return jax.pure_callback(lambda x: np.zeros((len(x), 3), np.float32), like, inputs), state

    with pytest.raises(ValueError, match=r"mlp cannot be written as ONNX .*: export safetensors, without --onnx"):
        onnx_file.packed(patched(monkeypatch, called))


@pytest.mark.parametrize("module", ["jax2onnx", "onnxruntime"])
def test_where_the_extra_is_missing_it_is_named(module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'ugclu_jax\[onnx\]'"):
        onnx_file.packed(held_of(CASES["mlp"]))


def test_from_the_command_line(tmp_path, capsys):
    shutil.copytree(root() / "model", tmp_path / "model")
    out = tmp_path / "out.onnx"
    assert main(["export", str(tmp_path / "model"), "-o", str(out), "--onnx", "--json"]) == 0
    printed = capsys.readouterr().out
    assert json.loads(printed) == {"written": [str(out), str(tmp_path / "out.json")]}
    stored = np.load(root() / "second.npz")
    session = onnxruntime.InferenceSession(out.read_bytes(), providers=["CPUExecutionProvider"])
    (own,) = session.run(None, {"inputs": stored["x"]})
    np.testing.assert_allclose(own, LivingModel.open(root() / "model").logits(stored["x"]), atol=1e-4, rtol=0)
    assert main(["export", str(tmp_path / "model"), "-o", str(tmp_path / "a.json")]) == 2
    assert "is where the configuration is written" in capsys.readouterr().err and not (tmp_path / "a.json").exists()
