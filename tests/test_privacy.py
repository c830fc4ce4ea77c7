"""After a request to unlearn no unlearned example is in any file of the run, in whatever form, for any method."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scan import encodings, found

from ugclu_jax import buffer as buffer_lib
from ugclu_jax import checkpoints
from ugclu_jax.harness import remains
from ugclu_jax.harness.catalogue import METHODS, WITHOUT_STEPS, Setup, entry_of, make, of_defaults
from ugclu_jax.harness.cli import main
from ugclu_jax.harness.shown import thumbnail
from ugclu_jax.learner import CLUState
from ugclu_jax.methods.retrain import retrain
from ugclu_jax.prediction import predict
from ugclu_jax.types import Examples

pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # see test_checkpoints.py
    pytest.mark.filterwarnings("ignore:Sharding info not provided"),
]
SHAPE, CLASSES, NUMBER, CAPACITY = (8, 8, 1), 4, 40, 32
IMAGES = np.random.default_rng(7).integers(0, 256, (NUMBER, *SHAPE), dtype=np.uint8)  # no two alike
LABELS = np.arange(NUMBER) % CLASSES
GONE = np.arange(8)
NAMED = [name for name in METHODS if entry_of(name) is not None]
KEEPING = [name for name in NAMED if of_defaults(name).memories] + ["retrain", *WITHOUT_STEPS]


def apply_fn(params, model_state, inputs, *, train, rng_key):
    return inputs.reshape(len(inputs), -1).astype(jnp.float32) @ params, model_state


def init_fn(rng_key):
    return jax.random.normal(rng_key, (64, CLASSES)) / 100, {}


def examples(ids) -> Examples:
    padded = np.r_[np.asarray(ids, np.int32), np.full(NUMBER - len(ids), -1, np.int32)]
    return Examples(jnp.asarray(IMAGES), jnp.asarray(LABELS), jnp.asarray(padded), jnp.int32(len(ids)))


def made(name):
    setup = Setup(apply_fn, init_fn, CLASSES, NUMBER, CAPACITY)
    if name == "retrain":
        return make(retrain, setup)
    return make((entry_of(name) or WITHOUT_STEPS[name]).factory, setup)


def kept_after(method) -> tuple[CLUState, CLUState]:
    """What a method and its buffer keep after a request to learn, and after one to unlearn; the network stays."""
    empty = buffer_lib.init(CAPACITY, SHAPE, jnp.uint8, jax.random.key(0))
    states, state = [], CLUState(method.init(*init_fn(jax.random.key(1))), empty)
    for kind, ids in (("learn", np.arange(NUMBER)), ("unlearn", GONE)):
        task = examples(ids)
        change = {"learn": buffer_lib.insert, "unlearn": lambda buffer, task: buffer_lib.remove(buffer, task.ids)}[kind]
        before = state.method._replace(extra=method.track(kind, state.method.extra, task))
        buffer = change(state.buffer, task)
        state = CLUState(method.store(kind, before, buffer, task), buffer)
        states.append(state)
    return states[0], states[1]


def rows_of(state, width) -> set[bytes]:
    arrays = [np.asarray(leaf) for leaf in jax.tree.leaves(state.method.extra)]
    return {row.tobytes() for a in arrays if a.ndim == 2 and a.shape[1] == width and a.dtype.kind == "f" for row in a}


def test_the_catalogue_has_methods_that_keep_something():
    assert {"der", "der_pp", "clpu_der_pp", "uniclun", "retrain"} <= set(KEEPING)


@pytest.mark.parametrize("name", KEEPING)
def test_nothing_that_is_kept_holds_an_unlearned_example(name, tmp_path):
    method = made(name)
    learned, unlearned = kept_after(method)
    for request, state in enumerate((learned, unlearned)):
        checkpoints.save(tmp_path, request, state, {})
    assert {how for _, how in found(tmp_path / "0", IMAGES[GONE])} == {"uint8"}, "the scan sees the buffer"

    def without(state):
        kept = state.method._replace(extra=method.track("unlearn", state.method.extra, examples(GONE)))
        return CLUState(kept, buffer_lib.remove(state.buffer, examples(GONE).ids))

    checkpoints.purge(tmp_path, 1, learned, without)
    assert checkpoints.requests(tmp_path) == [0, 1]
    assert found(tmp_path, IMAGES[GONE]) == []
    retained = np.setdiff1d(np.asarray(unlearned.buffer.ids), [-1])
    assert len(retained) > 10
    places = {Path(where.split(" leaf ")[0]).name for where, _ in found(tmp_path, IMAGES[retained[:1]])}
    assert places >= {"0", "1"}, "what is retained is found in both"
    logits = np.asarray(predict(apply_fn, *learned.method[:2], jnp.asarray(IMAGES[GONE]), batch_size=64))
    for state in (unlearned, checkpoints.restore(tmp_path, 0, learned).state):
        assert not rows_of(state, CLASSES) & {row.tobytes() for row in logits}, "nor what the network said of it"


@pytest.mark.parametrize("how", encodings(IMAGES[0]))
def test_the_scan_finds_every_form(how, tmp_path):
    for number, way in enumerate(encodings(IMAGES[0])[how]):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "file").write_bytes(b"before" + way + b"after")
        assert how in {form for _, form in found(folder, IMAGES[:1])} and found(folder, IMAGES[1:3]) == []
        np.savez_compressed(folder / "file", inside=np.frombuffer(way, np.uint8))
        (folder / "file").unlink()
        assert how in {form for _, form in found(folder, IMAGES[:1])}, "unpacked"


@pytest.mark.slow
def test_no_method_leaves_an_unlearned_example_in_a_run(tmp_path):
    """The whole of a run, its caches and its report, after `experiments.purge`."""
    test = np.random.default_rng(8).integers(0, 256, (12, *SHAPE), dtype=np.uint8)
    arrays = {"x_train": IMAGES, "y_train": LABELS, "x_test": test, "y_test": np.arange(12) % CLASSES}
    np.savez(tmp_path / "toy.npz", **arrays)
    requests = [
        {kind: {"classes": list(names)}} for kind, names in (("learn", "01"), ("learn", "23"), ("unlearn", "1"))
    ]
    (tmp_path / "stream.json").write_text(json.dumps(requests))
    run, cache = tmp_path / "run", tmp_path / "cache"
    arguments = ["--dataset", "npz", "--data.directory", str(tmp_path / "toy.npz"), "--smoke", "--keep", "9"]
    arguments += ["--stream", str(tmp_path / "stream.json"), "--methods", "ug_clu", *KEEPING]
    arguments += ["--learn.settings.outer-steps", "60", "--unlearn.settings.outer-steps", "60"]
    arguments += ["--run-dir", str(run), "--cache-dir", str(cache)]
    assert main("task_aware", "", arguments) == 0
    from experiments import purge

    pictures = [thumbnail(image) for image in IMAGES[LABELS == 1]]
    page = run / "report.html"
    assert any(each in page.read_text() for each in pictures), "the report shows some"
    assert purge.run([str(run)]) == 0
    gone = IMAGES[LABELS == 1]
    assert found(run, gone) == [] and found(cache, gone) == []
    assert found(run, IMAGES[LABELS == 0][:3]) != [], "control"
    assert main("task_aware", "", arguments) == 0, "and the run goes on"
    assert page.is_file() and not any(each in page.read_text() for each in pictures)
    assert list(remains.shown_examples(run)) == []
