"""Inputs in host memory give what inputs on the device give, bit for bit; how often they are read; files that are gone.

The network has BatchNorm and normalised inputs, where a step that is compiled
differently shows in the last bits.
"""

import dataclasses
import functools
import os
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ugclu_jax import buffer as buffer_lib
from ugclu_jax import streaming
from ugclu_jax.learner import CLUState, apply_request, predict_program, request_program
from ugclu_jax.methods.finetune_remain import finetune_remain
from ugclu_jax.oracle import OracleSettings, train_from_scratch
from ugclu_jax.stepping import BufferSettings, DescentHyper
from ugclu_jax.streaming import HostArray, chunk_of, read_ahead, reading, take
from ugclu_jax.types import Examples
from ugclu_jax.ugclu import ug_clu
from ugclu_jax.ugclu_plain import PLAIN, PLAIN_HYPER
from ugclu_jax.ugclu_settings import LEARNING, UNLEARNING, UNLEARNING_HYPER

STEPS, CLASSES, FEATURES = 7, 3, 5
INPUTS = np.random.default_rng(0).integers(0, 255, (60, FEATURES)).astype(np.uint8)
LABELS = (np.arange(60) % CLASSES).astype(np.int32)
LENGTHS = {1: [1] * 7, 7: [7], 3: [3, 2, 2], 64: [7]}
"""Steps that a read serves at most, and what 7 steps make of it: one, a divisor, no divisor, more than there are."""


class Counted:
    """Two layers with a running mean between them, which count how often they are traced."""

    traces = 0

    def __call__(self, params, model_state, inputs, *, train, rng_key):
        self.traces += 1
        x = (inputs / 255.0 - 0.4) / 0.3
        hidden = jnp.tanh(x @ params["first"])
        mean, var = (hidden.mean(0), hidden.var(0)) if train else (model_state["mean"], model_state["var"])
        new = {"mean": 0.9 * model_state["mean"] + 0.1 * mean, "var": 0.9 * model_state["var"] + 0.1 * var}
        logits = (hidden - mean) / jnp.sqrt(var + 1e-5) @ params["second"]
        return logits, new if train else model_state


def network(key=None):
    first, second = jax.random.split(jax.random.key(0) if key is None else key)
    params = {"first": jax.random.normal(first, (FEATURES, 8)), "second": jax.random.normal(second, (8, CLASSES))}
    return params, {"mean": jnp.zeros(8), "var": jnp.ones(8)}


def examples(inputs, ids, size=32) -> Examples:
    padded = np.full(size, -1, np.int32)
    padded[: len(ids)] = ids
    return Examples(inputs, jnp.asarray(LABELS), jnp.asarray(padded), jnp.int32(len(ids)))


def ug(apply_fn):
    unlearn = dataclasses.replace(
        PLAIN, outer_steps=STEPS, inner_steps=2, task_batch_size=4, remain_batch_size=4, saliency_batches=2, mask="hard"
    )
    learn = dataclasses.replace(unlearn, inner_data="mixed")
    return ug_clu(apply_fn, learn, unlearn, num_classes=CLASSES), PLAIN_HYPER


def budgeted(apply_fn, *, distillation=False, **unlearning):
    """The default form, with other settings for unlearning: it draws no statistics."""
    sizes = {"outer_steps": STEPS, "inner_steps": 2, "task_batch_size": 4, "remain_batch_size": 4}
    learn, unlearn = (dataclasses.replace(each, **sizes, distillation=distillation) for each in (LEARNING, UNLEARNING))
    unlearn = dataclasses.replace(unlearn, **unlearning)
    return ug_clu(apply_fn, learn, unlearn, num_classes=CLASSES), UNLEARNING_HYPER


def finetune(apply_fn):
    settings = BufferSettings(steps=STEPS, remain_batch_size=4)
    return finetune_remain(apply_fn, settings, num_classes=CLASSES), DescentHyper(momentum=0.5)


MAKERS = {"ug_clu": budgeted, "ug_clu_plain": ug, "finetune_remain": finetune}
"""UG-CLU's inner steps see the mix when it learns, and the buffer when it unlearns."""


def serve(run, method, hyper, inputs, ids=range(20)):
    """A learn and an unlearn request, with all that they leave."""
    empty = buffer_lib.init(12, (FEATURES,), jnp.uint8, jax.random.key(1))
    state = CLUState(method.init(*network()), buffer_lib.insert(empty, examples(inputs, range(30, 50))))
    learned = run(method, "learn", jax.random.key(2), state, hyper, examples(inputs, ids))
    unlearned = run(method, "unlearn", jax.random.key(3), learned[0], hyper, examples(inputs, list(ids)[:8]))
    return learned, unlearned


def without_cost(results):
    return [result[:2] for result in results]


def assert_same(streamed, resident):
    assert jax.tree.structure(streamed) == jax.tree.structure(resident)
    jax.tree.map(np.testing.assert_array_equal, streamed, resident)


@pytest.fixture
def reads(monkeypatch) -> list[tuple[int, ...]]:
    """Shapes of the rows that are read from host memory, read by read."""
    shapes, plain = [], HostArray.read

    def counted(self, rows):
        shapes.append(np.shape(rows))
        return plain(self, rows)

    monkeypatch.setattr(HostArray, "read", counted)
    return shapes


@functools.cache
def resident(name):
    return without_cost(serve(request_program(), *MAKERS[name](Counted()), jnp.asarray(INPUTS)))


@pytest.mark.parametrize(
    ("name", "chunk"),
    [
        ("ug_clu", 3),
        ("ug_clu_plain", 1),
        ("ug_clu_plain", 7),
        ("ug_clu_plain", 3),
        ("finetune_remain", 3),
        ("finetune_remain", 64),
    ],
)
def test_requests_are_the_same_bit_for_bit_and_one_read_serves_a_chunk(name, chunk, monkeypatch, reads):
    monkeypatch.setattr(streaming, "CHUNK_STEPS", chunk)
    model = Counted()
    method, hyper = MAKERS[name](model)
    run = request_program()
    host = HostArray(INPUTS)
    streamed = serve(run, method, hyper, host)
    assert_same(without_cost(streamed), resident(name))

    # A fast step reads 4 rows of the task, and each of 2 inner steps as many; the default learner takes no fast step.
    learn_rows, unlearn_rows = {"finetune_remain": (4, 0), "ug_clu": (2 * 4, 4)}.get(name, (4 + 2 * 4, 4))
    saliency = [(2, 4)] if name == "ug_clu_plain" else []
    insert = [(12,)]  # the whole capacity
    learn = [*saliency, *((length, learn_rows) for length in LENGTHS[chunk]), *insert]
    unlearn = [*saliency, *((length, unlearn_rows) for length in LENGTHS[chunk] if unlearn_rows)]
    # Before the requests, the buffer of `serve` is filled; where in a request the buffer is filled is XLA's choice.
    assert reads[0] == (12,) and sorted(reads[1 : 1 + len(learn)]) == sorted(learn)
    assert reads[1 + len(learn) :] == unlearn

    traces = model.traces
    again = serve(run, method, hyper, host, ids=range(3, 25))
    assert model.traces == traces and all(cost.compile_seconds < 0.01 for _, _, cost in again)


@pytest.mark.parametrize("chunk", [1, 2, 4, 64])
def test_oracles_are_the_same_bit_for_bit(chunk, monkeypatch, reads):
    """Two seeds, 50 examples, batches of 7: an epoch has 8 steps, the last of them filled up."""
    monkeypatch.setattr(streaming, "CHUNK_STEPS", chunk)
    settings = OracleSettings(epochs=2, batch_size=7)
    train = functools.partial(train_from_scratch, apply_fn=Counted(), init_fn=network, settings=settings)
    keys = jax.random.split(jax.random.key(5), 2)
    program = jax.jit(jax.vmap(train, in_axes=(0, None)))
    host, device = (program(keys, examples(x, range(50), 64)) for x in (HostArray(INPUTS), jnp.asarray(INPUTS)))
    assert_same(host, device)
    assert reads == [(2, chunk, 7)] * (2 * -(-8 // chunk)), "one read for both seeds"


def test_predictions_are_the_same_bit_for_bit(reads):
    predict = predict_program(Counted(), batch_size=16)
    assert_same(predict(*network(), HostArray(INPUTS)), predict(*network(), jnp.asarray(INPUTS)))
    assert sorted(reads) == [(12,)] + [(16,)] * 3


def test_a_buffer_holds_the_same(reads):
    empty = buffer_lib.init(4, (FEATURES,), jnp.uint8, jax.random.key(1))
    host, device = (buffer_lib.insert(empty, examples(x, [5, 9, 2, 7, 1])) for x in (HostArray(INPUTS), INPUTS))
    assert_same(host, device)
    assert reads == [(4,)] and set(np.asarray(host.ids)) < {5, 9, 2, 7, 1}


def test_seeds_share_their_reads(monkeypatch, reads):
    monkeypatch.setattr(streaming, "CHUNK_STEPS", 3)
    method, hyper = finetune(Counted())
    state = method.init(*network())
    empty = buffer_lib.init(4, (FEATURES,), jnp.uint8, jax.random.key(1))

    def learn(key, inputs):
        return method.learn(key, state, hyper, examples(inputs, range(20)), empty)

    keys = jax.random.split(jax.random.key(0), 2)
    mapped = jax.jit(jax.vmap(learn, in_axes=(0, None)))
    assert_same(mapped(keys, HostArray(INPUTS)), mapped(keys, jnp.asarray(INPUTS)))
    assert [shape[0] for shape in reads] == [2, 2, 2]


def test_a_request_of_no_steps_reads_nothing_and_derivatives_pass(reads):
    method = finetune_remain(Counted(), BufferSettings(steps=0), num_classes=CLASSES)
    state = method.init(*network())
    empty = buffer_lib.init(4, (FEATURES,), jnp.uint8, jax.random.key(1))
    task = examples(HostArray(INPUTS), range(20))
    after, info = jax.jit(method.learn)(jax.random.key(0), state, DescentHyper(), task, empty)
    assert_same(after, state)
    assert reads == [] and info.remain_losses.shape == (0, 1)

    method, hyper = finetune(Counted())

    def loss(rate, inputs):
        changed = dataclasses.replace(hyper, learning_rate=rate)
        return method.learn(jax.random.key(0), state, changed, examples(inputs, range(20)), empty)[1].remain_losses[
            -1, 0
        ]

    slopes = [jax.jit(jax.grad(loss))(0.1, inputs) for inputs in (HostArray(INPUTS), jnp.asarray(INPUTS))]
    np.testing.assert_allclose(*slopes, rtol=1e-5)
    assert float(slopes[0]) != 0


@pytest.mark.parametrize("name", MAKERS)
def test_a_resident_program_calls_no_host_and_draws_in_the_loop(name):
    method, hyper = MAKERS[name](Counted())
    state = CLUState(method.init(*network()), buffer_lib.init(12, (FEATURES,), jnp.uint8, jax.random.key(1)))

    def text(inputs):
        task = examples(inputs, range(20))
        return str(
            jax.make_jaxpr(functools.partial(apply_request, method, "learn"))(jax.random.key(0), state, hyper, task)
        )

    assert "callback" in text(HostArray(INPUTS))
    program = text(jnp.asarray(INPUTS))
    assert "callback" not in program
    # All batches of the request together, [7, …], are nowhere.
    assert not re.search(rf"u8\[{STEPS},[\d,]*{FEATURES}\]", program)


def test_reading_ahead_joins_the_reads_of_a_draw_and_keeps_arrays_apart(reads):
    first, second = HostArray(INPUTS), HostArray(INPUTS[::-1].copy())

    def draw(x):
        return take(first, x), take(second, x + jnp.arange(2)), take(first, jnp.stack([x, x + 1])[None])

    drawn = jax.jit(lambda xs: [read_ahead(draw, xs)(i, xs[i]) for i in range(3)])(jnp.array([4, 0, 7]))
    assert sorted(reads) == [(3, 2)] * 3 + [(3, 3)] * 3  # `read_ahead` is called three times
    for x, (one, two, three) in zip((4, 0, 7), drawn, strict=True):
        np.testing.assert_array_equal(one, INPUTS[x])
        np.testing.assert_array_equal(two, INPUTS[::-1][[x, x + 1]])
        np.testing.assert_array_equal(three, INPUTS[[[x, x + 1]]])


def test_chunks_are_bounded_in_bytes(monkeypatch):
    monkeypatch.setattr(streaming, "CHUNK_BYTES", 8 * FEATURES)
    host = HostArray(INPUTS)
    assert [chunk_of(lambda x: take(host, x), jnp.zeros(n, int)) for n in (1, 4, 100)] == [8, 2, 1]


def test_an_error_in_a_draw_leaves_reading_as_it_was():
    def broken(x):
        raise RuntimeError("in the draw")

    with pytest.raises(RuntimeError, match="in the draw"):
        chunk_of(broken, jnp.zeros(1))
    np.testing.assert_array_equal(take(HostArray(INPUTS), jnp.array([2])), INPUTS[[2]])


@pytest.mark.parametrize("dtype", [np.float64, np.int64, ">f4"])
def test_types_that_the_device_would_change_are_refused(dtype):
    with pytest.raises(ValueError, match=r"which the device would hold as .*; convert them with .astype first"):
        HostArray(INPUTS.astype(dtype))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("harm", "error"), [("gone", FileNotFoundError), ("shrunk", OSError)])
@pytest.mark.parametrize("view", [lambda x: x, lambda x: x[:40], lambda x: np.asarray(x)[1:]])
def test_a_file_that_vanished_or_shrank_is_named(tmp_path, harm, error, view, caplog):
    path = tmp_path / "train_inputs.npy"
    np.save(path, INPUTS)
    host = HostArray(view(np.load(path, mmap_mode="r")))
    predict = predict_program(Counted(), batch_size=16)
    assert_same(predict(*network(), host), predict(*network(), jnp.asarray(np.asarray(host.array))))
    if harm == "gone":
        path.unlink()
    else:
        os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(error, match=re.escape(str(path))) as caught, reading(host):
        jax.block_until_ready(predict(*network(), host))
    assert re.search("is gone|must have", str(caught.value)) and "start again" in str(caught.value)
    with pytest.raises((jax.errors.JaxRuntimeError, ValueError), match=re.escape(str(path))):
        jax.block_until_ready(predict(*network(), host))
