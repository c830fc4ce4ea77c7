"""Many seeds by one program: how many, that each is what it is alone, and what becomes of those that fall behind."""

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ugclu_jax import programs
from ugclu_jax.data import from_arrays
from ugclu_jax.harness import at_once, stream_run
from ugclu_jax.harness.cli import main
from ugclu_jax.harness.config import ExperimentConfig
from ugclu_jax.harness.network import Network
from ugclu_jax.harness.options import KindConfig
from ugclu_jax.harness.plan import Diverged
from ugclu_jax.harness.run_folder import RunFolder
from ugclu_jax.ugclu_settings import UGCLUSettings

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # see test_checkpoints.py

# Programs.


@pytest.mark.parametrize("lanes", [None, 1, 2, 4])
def test_entries_of_one_program_are_what_they_are_alone(lanes):
    traces = []

    def one(key, start, scale):
        traces.append(1)
        return {"end": start + scale * jax.random.normal(key, (3,)), "key": jax.random.fold_in(key, 1)}

    program = programs.mapped(2, lanes).program(one)
    for number in (4, 3):  # the second time one is missing
        keys, starts = jax.random.split(jax.random.key(number), number), jnp.arange(3.0 * number).reshape(number, 3)
        found = program(*programs.filled_to(4, (keys, starts)), jnp.float32(2.0))
        for place in range(number):
            alone = one(keys[place], starts[place], 2.0)
            np.testing.assert_allclose(found["end"][place], alone["end"], rtol=1e-6)
            assert found["key"][place] == alone["key"]
        traces = traces[:-number]
    assert len(traces) == 1, "nothing was compiled for the smaller group"


@pytest.mark.parametrize(("number", "most"), [(1, 1), (7, 3), (12, 5), (32, 32), (33, 32), (512, 100)])
def test_groups_are_few_and_even(number, most):
    size = programs.group_size(number, most)
    groups = -(-number // size)
    assert size <= most and groups == -(-number // most), "no more groups than must be"
    assert groups * size - number < groups, "less than one place of a group is filled up"


def test_groups_of_nothing_are_refused():
    with pytest.raises(ValueError, match="most is 0: a group must have at least 1"):
        programs.group_size(3, 0)


# How many fit.

ROWS = np.zeros((20, 5), np.uint8)
DATA = from_arrays("toy", ROWS, np.arange(20) % 3, ROWS[:3], range(3))


def apply_fn(params, model_state, inputs, *, train, rng_key):
    return jax.nn.relu(inputs.astype(jnp.float32) @ params), model_state


NETWORK = Network(apply_fn, None, lambda key: (jnp.zeros((5, 3)), {}), "")


def config(number: int, **settings) -> ExperimentConfig:
    return ExperimentConfig(model="mlp", seeds=tuple(range(number)), **settings)


def test_what_an_example_leads_to_is_counted():
    assert at_once.activation_bytes(NETWORK, ROWS[0]) == 4 * (5 + 3 + 3), "as numbers, as outputs, as rectified outputs"


def test_the_memory_bounds_the_group(monkeypatch):
    def found(memory: int, number: int = 64, **settings):
        monkeypatch.setattr(at_once, "device_bytes", lambda: memory)
        return at_once.grouping(config(number, **settings), NETWORK, DATA, state_bytes=1000)

    assert found(10**9)[:2] == (64, 32)
    small = found(10**6)
    assert 1 < small.size < 64 and small.lanes <= small.size and small.bytes <= at_once.SHARE * 10**6
    assert found(10**3)[:2] == (1, 1), "one seed is served, whatever there is"
    assert [found(memory).size for memory in (10**5, 10**6, 10**7)] == sorted(
        found(memory).size for memory in (10**5, 10**6, 10**7)
    )
    masked = KindConfig(UGCLUSettings(mask="hard"))
    assert found(10**9).bytes < found(10**9, unlearn=masked).bytes, "the gradient of each example"
    assert found(10**9).bytes < found(10**9, methods=("ug_clu+ug_clu_plain",)).bytes, "whichever method has a mask"
    for number in (33, 40, 63):
        group = found(10**9, number)
        assert group.size % group.lanes == 0 and number <= group.size < number + 2


def test_oracles_of_one_program_fit_too(monkeypatch):
    found = []
    for memory in (10**3, 10**6, 10**9):
        monkeypatch.setattr(at_once, "device_bytes", lambda memory=memory: memory)
        found.append(at_once.oracles_at_once(config(1), NETWORK, DATA))
    assert found[0] == 1 < found[1] <= found[2] == at_once.LANES["mlp"]
    assert at_once.oracles_at_once(config(1), NETWORK, DATA, devices=2) == 2 * found[2]


# Whole runs.

SMALL = [
    "--smoke",
    "--oracles",
    "milestones",
    "--learn.settings.outer-steps",
    "6",
    "--unlearn.settings.outer-steps",
    "4",
]


def run(
    folder: Path, cache: Path, *arguments: str, methods: str = "ug_clu do_nothing", sequence: str = "L1 L2 U1"
) -> int:
    what = ["--methods", *methods.split(), "--sequence", sequence, "--run-dir", str(folder), "--cache-dir", str(cache)]
    return main("task_aware", "", [*SMALL, *what, *arguments])


def lines_of(folder: Path) -> dict[tuple, dict]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {(line["method"], line["seed"], line["request"]): line for line in lines}


def numbers(tree, path=()):
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from numbers(value, (*path, key))
    else:
        yield path, tree


def timeless(line: dict) -> dict:
    return {key: value for key, value in line.items() if key != "timing"}


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def together(tmp_path_factory, cache) -> Path:
    """Three seeds by one program."""
    folder = tmp_path_factory.mktemp("runs") / "together"
    assert run(folder, cache, "--seeds", "0:3") == 0
    return folder


@pytest.mark.parametrize("how", [["--seeds-at-once", "1"], ["--seeds-at-once", "2"]])
def test_metrics_are_those_of_one_at_a_time(how, together, cache, tmp_path, capsys):
    assert run(tmp_path / "run", cache, "--seeds", "0:3", *how) == 0
    said = capsys.readouterr().out
    assert ("2 of a method in one program, under one vmap" in said) == (how[-1] == "2")
    ours, theirs = lines_of(together), lines_of(tmp_path / "run")
    assert ours.keys() == theirs.keys() and len(ours) == 2 * 3 * 3
    for place, line in ours.items():
        expected = dict(numbers({key: theirs[place][key] for key in ("model", "cost", "buffer", "oracle")}))
        for path, value in numbers({key: line[key] for key in ("model", "cost", "buffer", "oracle")}):
            if isinstance(value, float) and not {"MIA", "MIA_AUC"} & set(path):
                assert expected[path] == pytest.approx(value, rel=2e-3, abs=2e-2), path
            elif value is None or isinstance(value, int):
                assert expected[path] == value, path
    kl = [line["model"]["KL"]["retained"] for line in ours.values() if line["kind"] == "unlearn"]
    assert len({round(value, 6) for value in kl}) == len(kl), "each seed has a result of its own"


def test_seeds_that_fell_behind_end_as_they_did(together, cache, tmp_path):
    """As a kill between the checkpoints of a group leaves it: two seeds must serve the last request again, one not."""
    shutil.copytree(together, tmp_path / "run")
    for seed in (0, 2):
        shutil.rmtree(RunFolder(tmp_path / "run").checkpoints("ug_clu", seed) / "2")
    assert run(tmp_path / "run", cache, "--seeds", "0:3") == 0
    ours, theirs = lines_of(together), lines_of(tmp_path / "run")
    assert {place: timeless(line) for place, line in ours.items()} == {
        place: timeless(line) for place, line in theirs.items()
    }


def test_a_seed_that_diverges_leaves_the_others(together, cache, tmp_path, capsys, monkeypatch):
    check = stream_run.check_finite

    def diverges(plan, method, seed, step, info):
        if (method, seed, step.index) == ("ug_clu", 1, 1):
            raise Diverged("ug_clu, seed 1: became non-finite")
        check(plan, method, seed, step, info)

    monkeypatch.setattr(stream_run, "check_finite", diverges)
    assert run(tmp_path / "run", cache, "--seeds", "0:3") == 1
    assert "ug_clu, seed 1: became non-finite" in capsys.readouterr().err
    ours, theirs = lines_of(together), lines_of(tmp_path / "run")
    assert ours.keys() - theirs.keys() == {("ug_clu", 1, 1), ("ug_clu", 1, 2)}
    assert all(timeless(ours[place]) == timeless(line) for place, line in theirs.items())


def test_another_group_compiles_nothing(cache, tmp_path, monkeypatch):
    compiled, compile_one = [], programs.compiled

    def noted(function, *arguments):
        compiled.append(len(jax.tree.leaves(arguments)[0]))
        return compile_one(function, *arguments)

    monkeypatch.setattr(programs, "compiled", noted)
    assert run(tmp_path / "run", cache, "--seeds", "0:5", "--seeds-at-once", "2", methods="do_nothing") == 0
    assert compiled == [2, 2], "one for each kind of request, for three groups, the last of which has one seed"


def test_a_convolutional_network_is_served_one_after_another_unless_asked(tmp_path, cache, capsys):
    few = ["--model", "cnn", "--seeds", "0:2"]
    for name, more, told in (("auto", [], ""), ("asked", ["--seeds-at-once", "2"], "one after another, about ")):
        assert run(tmp_path / name, cache, *few, *more, methods="do_nothing", sequence="L1") == 0
        said = capsys.readouterr().out
        assert told in said and ("Seeds:" in said) == bool(told)


def test_the_option_is_refused_where_it_would_change_nothing(tmp_path, cache, capsys):
    assert run(tmp_path / "run", cache, "--devices", "2", "--seeds-at-once", "2") == 2
    assert "--seeds-at-once needs --over seeds" in capsys.readouterr().err
    assert run(tmp_path / "run", cache, "--seeds-at-once", "0") == 2
    assert "--seeds-at-once must be at least 1, got 0" in capsys.readouterr().err


def test_devices_share_a_group(cache, tmp_path, together):
    assert run(tmp_path / "run", cache, "--seeds", "0:3", "--devices", "2", "--over", "seeds") == 0
    ours, theirs = lines_of(together), lines_of(tmp_path / "run")
    for place, line in ours.items():
        assert theirs[place]["model"]["RA"] == pytest.approx(line["model"]["RA"], abs=0.05)
