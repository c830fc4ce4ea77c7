"""Many models of one stream: each is what it is alone, a group is one program, and an experiment takes up a kill."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import many_models
from ugclu_jax import buffer as buffer_lib
from ugclu_jax import devices, programs
from ugclu_jax.ensemble import ensemble, ensemble_program
from ugclu_jax.learner import CLUState, request_program
from ugclu_jax.methods.do_nothing import do_nothing
from ugclu_jax.methods.er import er
from ugclu_jax.types import Examples
from ugclu_jax.ugclu import ug_clu
from ugclu_jax.ugclu_plain import PLAIN

ROWS, CAPACITY = 24, 8
INPUTS = np.random.default_rng(0).normal(size=(ROWS, 3)).astype(np.float32)
LABELS = np.arange(ROWS) % 3


def linear(params, model_state, inputs, *, train, rng_key):
    return inputs @ params, model_state


def init_fn(rng_key):
    return jax.random.normal(rng_key, (3, 3)), {}


def examples(ids) -> Examples:
    padded = np.r_[np.asarray(ids, np.int32), np.full(ROWS - len(ids), -1, np.int32)]
    return Examples(jnp.asarray(INPUTS), jnp.asarray(LABELS, jnp.int32), jnp.asarray(padded), jnp.int32(len(ids)))


SMALL = dataclasses.replace(
    PLAIN, outer_steps=2, inner_steps=1, task_batch_size=4, remain_batch_size=4, saliency_batches=1
)
METHOD = ug_clu(linear, SMALL, SMALL, num_classes=3)
STREAM = [("learn", examples(range(20))), ("unlearn", examples(range(3, 9)))]
KEYS = jax.random.split(jax.random.key(7), 5)


SERVE = request_program()


def alone(key) -> np.ndarray:
    """Request by request, as a run serves it."""
    init_key, buffer_key = jax.random.split(key)
    empty = buffer_lib.init(CAPACITY, (3,), jnp.float32, buffer_key)
    state = CLUState(METHOD.init(*init_fn(init_key)), empty)
    for index, (kind, task) in enumerate(STREAM):
        state, *_ = SERVE(METHOD, kind, jax.random.fold_in(key, index), state, METHOD.hyper[kind], task)
    return INPUTS @ np.asarray(state.method.params)


@pytest.fixture(scope="module")
def expected() -> np.ndarray:
    return np.stack([alone(key) for key in KEYS])


def served(**how) -> list:
    return list(ensemble(KEYS, METHOD, STREAM, jnp.asarray(INPUTS), init_fn=init_fn, capacity=CAPACITY, **how))


@pytest.mark.parametrize(
    ("group", "lanes", "sizes"), [(5, None, [5]), (2, None, [2, 2, 1]), (4, 1, [3, 2]), (6, 5, [5])]
)
def test_each_model_is_what_it_is_alone(group, lanes, sizes, expected):
    layout, compiled = programs.mapped(1, lanes), []

    def counted(function, *arguments):
        compiled.append(len(arguments[0]))
        return layout.compile(function, *arguments)

    found = served(group=group, layout=layout._replace(compile=counted))
    assert [len(answers.logits) for answers in found] == sizes
    np.testing.assert_allclose(np.concatenate([a.logits for a in found]), expected, rtol=1e-4, atol=1e-5)
    assert compiled == [max(sizes)], "one program serves all groups"
    cost = sum(METHOD.cost(kind, CAPACITY, ROWS) for kind, _ in STREAM)
    assert all(answers.gradient_evaluations == pytest.approx(cost) for answers in found)


def test_models_are_spread_over_devices(expected):
    layout = devices.spread(devices.select(2), 1, at_once=1)
    run = ensemble_program(METHOD, init_fn, CAPACITY, layout)
    found = run(programs.filled_to(6, KEYS), STREAM, METHOD.hyper, jnp.asarray(INPUTS))
    np.testing.assert_allclose(found.logits[:5], expected, rtol=1e-4, atol=1e-5)


def test_what_cannot_be_served_is_refused_before_any_work():
    nothing = dict(init_fn=init_fn, capacity=CAPACITY)
    with pytest.raises(ValueError, match="stream has no request: give one at least"):
        ensemble(KEYS, METHOD, [], INPUTS, **nothing)
    with pytest.raises(ValueError, match="do_nothing was made for no model"):
        ensemble(KEYS, do_nothing(), STREAM, INPUTS, **nothing)
    with pytest.raises(ValueError, match="er does not unlearn"):
        ensemble(KEYS, er(linear), STREAM, INPUTS, **nothing)
    with pytest.raises(ValueError, match="most is 0: a group must have at least 1"):
        served(group=0)
    beyond = [("learn", examples([ROWS]))]
    with pytest.raises(ValueError, match="are not rows of the data"):
        ensemble(KEYS, METHOD, beyond, INPUTS, **nothing)


# The experiment.

FEW = ["--smoke", "--tasks", "1", "--learn.settings.outer-steps", "3"]
FEW += ["--unlearn.settings.outer-steps", "2", "--oracle.epochs", "1"]


def run(tmp_path, *arguments: str) -> int:
    places = ["--run-dir", str(tmp_path / "run"), "--cache-dir", str(tmp_path / "cache")]
    return many_models.run([*FEW, *places, *arguments])


def test_a_kill_loses_a_group_and_the_same_command_goes_on(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(many_models, "MOST_IN_A_GROUP", 2)
    program, calls = many_models.ensemble_program, []

    def killed(*arguments):
        serve = program(*arguments)

        def once(*asked):
            calls.append(asked)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return serve(*asked)

        return once

    monkeypatch.setattr(many_models, "ensemble_program", killed)
    arguments = ["--seeds", "0:5", "--oracle-seeds", "6"]
    assert run(tmp_path, *arguments) == 130
    there = {path.name for path in (tmp_path / "run" / "models" / "ug_clu").iterdir()}
    assert there == {"0.npz", "1.npz"}
    assert run(tmp_path, *arguments) == 0
    assert "ug_clu: 3 models in " in capsys.readouterr().out and len(calls) == 4
    found = json.loads((tmp_path / "run" / "measures.json").read_text())
    assert (found["models"], found["oracles"], found["examples"]) == (5, 6, 30)
    assert found["measures"].keys() == {"oracles, halves", "ug_clu"}
    values = [value for measured in found["measures"].values() for value in measured.values()]
    assert np.isfinite([value for value in values if not np.isnan(value)]).all()
    assert run(tmp_path, *arguments) == 0
    assert "ug_clu: all models were there" in capsys.readouterr().out and len(calls) == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--seeds", "3"], "--seeds are 1: distributions are compared, give 3 or more, such as 0:32"),
        (["--seeds", "0:4", "--oracle-seeds", "5"], "--oracle-seeds must be at least 6, got 5"),
        (["--seeds", "0:4", "--oracle-seeds", "6", "--methods", "cool"], "--methods has cool, which changes answers"),
        (["--seeds", "0:4", "--oracle-seeds", "6", "--devices", "2"], "--devices share batches: give --over seeds"),
        (["--seeds", "0:4", "--oracle-seeds", "6", "--regime", "joint"], "--regime trains its first request"),
    ],
)
def test_what_makes_no_ensemble_is_refused(arguments, said, tmp_path, capsys):
    assert run(tmp_path, *arguments) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_128_models_and_128_oracles_of_the_digits(tmp_path):
    """A quarter of what `docs/speed.md` times: two sets are told apart where there is something to tell."""
    places = ["--run-dir", str(tmp_path / "run"), "--cache-dir", str(tmp_path / "cache")]
    arguments = ["--tasks", "1", "--seeds", "0:128", "--oracle-seeds", "128", "--methods", "ug_clu", "do_nothing"]
    assert many_models.run([*arguments, *places]) == 0
    found = json.loads((tmp_path / "run" / "measures.json").read_text())
    assert (found["models"], found["oracles"]) == (128, 128)
    same, ours, kept = (found["measures"][name] for name in ("oracles, halves", "ug_clu", "do_nothing"))
    assert abs(same["energy distance"]) < 4 * same["its standard error"], "two halves are of one distribution"
    for measure in ("energy distance", "KLoM, mean", "Gaussian KLoM, mean", "U-LiRA, area"):
        assert kept[measure] > same[measure], "models that unlearned nothing are told from oracles"
    assert same["forgetting quality"] > kept["forgetting quality"] and abs(same["U-LiRA, area"] - 0.5) < 0.05
    assert kept["accuracy"] > 0.9 and all(0 <= one["accuracy"] <= 1 for one in (same, ours))
