"""One device and eight: the same parameters to rounding, the same buffer, the same metrics."""

import dataclasses
import functools
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ugclu_jax import buffer as buffer_lib
from ugclu_jax import devices, models
from ugclu_jax.examples import bucket_size, pad_ids
from ugclu_jax.harness import cli
from ugclu_jax.learner import CLUState, apply_request, request_program
from ugclu_jax.methods import er, ewc, salun
from ugclu_jax.models.adapters import linen_apply_fn, linen_init
from ugclu_jax.stepping import DescentHyper, DescentSettings
from ugclu_jax.streaming import take
from ugclu_jax.types import Examples
from ugclu_jax.ugclu import ug_clu
from ugclu_jax.ugclu_plain import PLAIN, PLAIN_HYPER
from ugclu_jax.ugclu_settings import LEARNING, LEARNING_HYPER, UNLEARNING, UNLEARNING_HYPER

RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(60, 8, 8, 1))
LABELS = (np.arange(60) % 3).astype(np.int32)
SETTINGS = dataclasses.replace(
    PLAIN, outer_steps=3, inner_steps=2, task_batch_size=16, remain_batch_size=16, saliency_batches=2
)
DISTILLED = dataclasses.replace(SETTINGS, inner_data="buffer", distillation=True)
WAYS = [("pmap", 2), ("pmap", 4), ("shard_map", 8)]


def examples(ids, inputs=None) -> Examples:
    ids = np.asarray(ids, np.int32)
    padded = jnp.asarray(pad_ids(ids, bucket_size(len(ids))))
    return Examples(
        jnp.asarray(INPUTS) if inputs is None else inputs, jnp.asarray(LABELS), padded, jnp.asarray(len(ids), jnp.int32)
    )


def network(name: str, axis_name: str | None):
    """`(apply_fn, params, model_state)`; the parameters do not depend on the axis."""
    module = models.create(name, 3, input_shape=(8, 8, 1))
    if name == "cnn_bn":
        module = module.clone(widths=(4, 4))
    variables = linen_init(module, lambda x: x, jax.random.key(0), jnp.asarray(INPUTS[:1]))
    if axis_name is not None:
        module = models.over_devices(module, axis_name)
    as_double = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), variables)
    return linen_apply_fn(module.clone(dtype=jnp.float64), lambda x: x), *as_double


def make(method: str, apply_fn):
    """A method and its hyperparameters of each kind."""
    if method == "ug_clu":
        small = {"outer_steps": 3, "inner_steps": 2, "task_batch_size": 16, "remain_batch_size": 16}
        learn, unlearn = (dataclasses.replace(each, **small) for each in (LEARNING, UNLEARNING))
        hyper = {"learn": LEARNING_HYPER, "unlearn": UNLEARNING_HYPER}
        return ug_clu(apply_fn, learn, unlearn, num_classes=3), hyper
    if method == "ug_clu_plain":
        return ug_clu(apply_fn, SETTINGS, DISTILLED, num_classes=3), {"learn": PLAIN_HYPER, "unlearn": PLAIN_HYPER}
    if method == "salun":
        settings = salun.SalUnSettings(steps=3, task_batch_size=16, remain_batch_size=16, saliency_batches=2)
        return salun.salun(apply_fn, settings, num_classes=3), {"unlearn": salun.SalUnHyper()}
    module, hyper, settings = {
        "er": (er.er, DescentHyper(), DescentSettings(steps=3, task_batch_size=16, remain_batch_size=16)),
        "ewc": (ewc.ewc, ewc.EWCHyper(), ewc.EWCSettings(steps=3, task_batch_size=16)),
    }[method]
    return module(apply_fn, settings), {"learn": hyper}


def serve(method_name: str, model: str, layout=None, inputs=None):
    """Learn two requests and unlearn a third, as far as the method does; what is left, and the last report."""
    run = request_program() if layout is None else request_program(layout)
    apply_fn, params, model_state = network(model, None if layout is None else layout.axis_name)
    method, hypers = make(method_name, apply_fn)
    empty = buffer_lib.init(20, INPUTS.shape[1:], jnp.float64, jax.random.key(1))
    full = buffer_lib.insert(empty, examples(range(30)))
    state, info = CLUState(method.init(params, model_state), full), None
    for number, (kind, ids) in enumerate((("learn", range(30, 50)), ("learn", range(50, 60)), ("unlearn", range(10)))):
        if kind in hypers:
            state, info, _ = run(method, kind, jax.random.key(number), state, hypers[kind], examples(ids, inputs))
    return state, info


@functools.cache
def served_alone(method_name: str, model: str):
    return serve(method_name, model)


def assert_same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for path, leaf in jax.tree_util.tree_leaves_with_path(one):
        name = jax.tree_util.keystr(path)
        theirs = dict((jax.tree_util.keystr(p), x) for p, x in jax.tree_util.tree_leaves_with_path(other))[name]
        assert leaf.dtype == theirs.dtype, name
        np.testing.assert_allclose(np.asarray(leaf), np.asarray(theirs), rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize(("parallel", "count"), WAYS)
@pytest.mark.parametrize(
    ("method", "model"), [("ug_clu_plain", "cnn_bn"), ("ug_clu", "mlp"), ("salun", "mlp"), ("ewc", "mlp")]
)
def test_many_devices_end_where_one_does(method, model, parallel, count, x64):
    alone, alone_info = served_alone(method, model)
    chosen = devices.select(count, parallel)
    shared, shared_info = serve(method, model, devices.layout(chosen), devices.shard_rows(INPUTS, chosen))
    assert_same(alone.method, shared.method)
    assert_same(alone_info, shared_info)
    for one, other in zip(alone.buffer, shared.buffer, strict=True):
        assert np.array_equal(one, other)
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), alone.method.params, network(model, None)[1])
    assert max(jax.tree.leaves(moved)) > 1e-3, "a request that changes nothing proves nothing"


@pytest.mark.parametrize("parallel", ["pmap", "shard_map"])
def test_batchnorm_that_is_not_synchronised_ends_elsewhere(parallel, x64, monkeypatch):
    """So the test above would see it."""
    alone, _ = served_alone("er", "cnn_bn")
    monkeypatch.setattr(models, "over_devices", lambda module, axis_name: module)
    shared, _ = serve("er", "cnn_bn", devices.layout(devices.select(2, parallel)))
    with pytest.raises(AssertionError):
        assert_same(alone.method.params, shared.method.params)


def test_results_lie_on_one_device_uncommitted(x64):
    state, _ = serve("er", "mlp", devices.layout(devices.select(4)))
    for leaf in jax.tree.leaves(state):
        assert len(leaf.devices()) == 1 and not leaf.committed


@pytest.mark.parametrize("parallel", ["pmap", "shard_map"])
def test_other_values_need_no_other_program(parallel):
    traces = []

    def counted(params, model_state, inputs, *, train, rng_key):
        traces.append(inputs.shape)
        return inputs.reshape(len(inputs), -1) @ params, model_state

    run = request_program(devices.layout(devices.select(4, parallel)))
    method = er.er(counted, DescentSettings(steps=2, task_batch_size=8, remain_batch_size=8))
    empty = buffer_lib.init(20, INPUTS.shape[1:], jnp.float32, jax.random.key(1))
    state = CLUState(method.init(jnp.zeros((64, 3)), {}), empty)
    task = examples(range(20))._replace(inputs=jnp.asarray(INPUTS, jnp.float32))
    state, _, first = run(method, "learn", jax.random.key(0), state, DescentHyper(), task)
    seen = len(traces)
    _, _, second = run(method, "learn", jax.random.key(1), state, DescentHyper(0.5), task)
    assert len(traces) == seen and set(traces) == {(2, 8, 8, 1)}, "each device sees its share of a batch"
    assert first.compile_seconds > 0.01 > second.compile_seconds


def test_a_device_has_its_own_rows_and_gets_those_it_asks_for(x64):
    chosen = devices.select(8)
    divided = devices.shard_rows(INPUTS, chosen)
    assert divided.shape == INPUTS.shape and divided.dtype == INPUTS.dtype
    assert {shard.data.shape for shard in divided.local.addressable_shards} == {(1, 8, 8, 8, 1)}, "8 devices, 8 rows"
    asked = jnp.asarray(RNG.integers(0, 60, (8, 3, 2)))  # other rows on every device
    found = devices.spread(chosen).program(lambda rows, inputs: take(inputs, rows))(asked, divided)
    assert np.array_equal(found, INPUTS[asked])


@pytest.mark.parametrize("parallel", ["pmap", "shard_map"])
def test_runs_are_spread_without_a_word_between_them(parallel):
    chosen = devices.select(4, parallel)

    def run(key, start, scale):
        noise = jax.random.normal(key, (3,))
        return {"end": start + scale * noise, "key": jax.random.fold_in(key, 1)}

    keys, starts = jax.random.split(jax.random.key(0), 6), jnp.arange(18.0).reshape(6, 3)
    program = devices.spread(chosen, mapped=2).program(run)
    found = program(*devices.filled((keys, starts), chosen), jnp.float32(2.0))
    assert found["end"].shape == (8, 3), "six runs on four devices: two places are filled up"
    for s in range(6):
        wanted = run(keys[s], starts[s], 2.0)
        np.testing.assert_allclose(found["end"][s], wanted["end"], rtol=1e-5, atol=1e-5)  # XLA fuses the sum
        assert found["key"][s] == wanted["key"]
    assert np.array_equal(found["end"][5], found["end"][7])


@pytest.mark.parametrize("parallel", ["pmap", "shard_map"])
def test_seeds_spread_over_devices_are_those_run_alone(parallel, x64):
    apply_fn, params, model_state = network("cnn_bn", None)
    method, hypers = make("ug_clu_plain", apply_fn)
    run = request_program(devices.spread(devices.select(2, parallel), mapped=2))
    empty = buffer_lib.init(20, INPUTS.shape[1:], jnp.float64, jax.random.key(1))
    keys = jax.random.split(jax.random.key(5), 2)
    states = [
        CLUState(method.init(jax.tree.map(lambda x, s=s: x * (1 + s), params), model_state), empty) for s in range(2)
    ]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *states)
    ends, infos, _ = run(method, "learn", keys, stacked, hypers["learn"], examples(range(20)))
    for s in range(2):
        alone = apply_request(method, "learn", keys[s], states[s], hypers["learn"], examples(range(20)))
        assert_same(alone, jax.tree.map(lambda x, s=s: x[s], (ends, infos)))


def test_the_loss_of_a_whole_batch_is_not_counted_once_a_device(x64):
    """shard_map with its default check would make gradients D times too large."""
    apply_fn, params, model_state = network("mlp", devices.AXIS)
    hyper = DescentHyper(learning_rate=1.0)
    ends = []
    for count in (1, 8):
        run = request_program(devices.layout(devices.select(count, "shard_map")))
        method = er.er(apply_fn, DescentSettings(steps=1, task_batch_size=16, remain_batch_size=16))
        empty = buffer_lib.init(20, INPUTS.shape[1:], jnp.float64, jax.random.key(1))
        state = CLUState(method.init(params, model_state), empty)
        ends.append(run(method, "learn", jax.random.key(0), state, hyper, examples(range(20)))[0].method.params)
    lengths = []
    for end in ends:
        pairs = zip(*map(jax.tree.leaves, (params, end)), strict=True)
        lengths.append(sum(float(jnp.sum((a - b) ** 2)) for a, b in pairs))
    assert lengths[0] > 0 and lengths[1] == pytest.approx(lengths[0], rel=1e-9)


# The program as a whole.

SMOKE = ["--smoke", "--sequence", "L1 L2 U1", "--seeds", "0", "1", "2"]


def metrics_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def run_smoke(tmp_path, name, *arguments):
    folder = tmp_path / name
    places = ["--run-dir", str(folder), "--cache-dir", str(tmp_path / f"cache-{name}")]
    assert main([*SMOKE, *arguments, *places]) == 0
    return {(line["seed"], line["request"]): line for line in metrics_of(folder)}


def main(arguments):
    return cli.main("task_aware", "", arguments)


def numbers(tree, path=()):
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from numbers(value, (*path, key))
    else:
        yield path, tree


COMPARED = ("model", "oracle", "noise_floor", "cost", "buffer")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Sharding info not provided")
def test_an_experiment_measures_the_same_on_more_devices(tmp_path):
    alone = run_smoke(tmp_path, "alone")
    ways = {
        "batch": ("--devices", "4", "--parallel", "shard_map"),
        "seeds": ("--devices", "2", "--over", "seeds"),
    }
    for name, arguments in ways.items():
        found = run_smoke(tmp_path, name, *arguments)
        assert set(found) == set(alone) and len(alone) == 9
        for place, line in alone.items():
            theirs = dict(numbers({key: found[place][key] for key in COMPARED}))
            for path, value in numbers({key: line[key] for key in COMPARED}):
                if isinstance(value, float) and not {"MIA", "MIA_AUC"} & set(path):
                    assert theirs[path] == pytest.approx(value, rel=2e-3, abs=2e-2), (name, path)
                elif value is None or isinstance(value, int):
                    assert theirs[path] == value, (name, path)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--devices", "9"], "devices is 9 and there are 8: give at most that, or all"),
        (["--devices", "0"], "devices must be at least 1 or all, got 0"),
        (
            ["--devices", "6"],
            "--learn.settings.task-batch-size is 64, which 6 devices cannot share evenly; the nearest sizes are 60 "
            "and 66",
        ),
    ],
)
def test_wrong_use_is_refused(arguments, said, tmp_path, capsys):
    places = ["--run-dir", str(tmp_path / "r"), "--cache-dir", str(tmp_path / "c")]
    assert main(["--smoke", *arguments, *places]) == 2
    assert said in re.sub(r"\s+", " ", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--parallel", "pmap"], "parallel is pmap, which serves one process; several need shard_map"),
        (["--parallel", "shard_map", "--over", "seeds"], "start each with seeds of its own"),
    ],
)
def test_what_several_processes_cannot_do_is_refused(arguments, said, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    places = ["--run-dir", str(tmp_path / "r"), "--cache-dir", str(tmp_path / "c")]
    assert main(["--smoke", "--devices", "2", *arguments, *places]) == 2
    assert said in re.sub(r"\s+", " ", capsys.readouterr().err)


def test_a_batch_smaller_than_the_devices_has_one_nearest_size():
    devices.check_batch_sizes({"task_batch_size": 64}, 1)
    with pytest.raises(ValueError, match="the nearest size is 8"):
        devices.check_batch_sizes({"task_batch_size": 3}, 8)
