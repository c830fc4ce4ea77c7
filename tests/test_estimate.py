"""What cannot fit is refused by a lower bound, by the setting to lower; what may fit is not."""

import dataclasses
from typing import get_args

import numpy as np
import pytest

from ugclu_jax import requests
from ugclu_jax.data import from_arrays
from ugclu_jax.harness import estimate
from ugclu_jax.harness.config import SETTINGS, ExperimentConfig, from_dict, hints_of
from ugclu_jax.harness.options import KindConfig
from ugclu_jax.harness.scenarios import SCENARIOS
from ugclu_jax.harness.settings_file import load_json, read
from ugclu_jax.oracle import OracleSettings
from ugclu_jax.ugclu_settings import UGCLUSettings

ROWS = np.zeros((40, 8, 8, 1), np.uint8)
DATA = from_arrays("toy", ROWS, np.arange(40) % 4, ROWS[:4], range(4))
STREAM = requests.task_aware(DATA.train_labels, [(0, 1), (2, 3)], "L1 L2 U1")


@pytest.fixture
def gigabyte(monkeypatch):
    monkeypatch.setattr(estimate, "memory_bytes", lambda: 10**9)
    monkeypatch.setattr(estimate, "device_bytes", lambda: 10**9)


def refused(**settings) -> str:
    with pytest.raises(ValueError) as error:
        estimate.check(ExperimentConfig(**settings), DATA, STREAM)
    return str(error.value)


def test_the_buffer_that_fits_and_the_one_that_does_not(gigabyte):
    row = 8 * 8 + 8  # bytes: pixels, label and id
    estimate.check(ExperimentConfig(capacity=(10**9 - 10**7) // row), DATA, STREAM)
    said = refused(capacity=10**9 // row + 1)
    assert said.startswith("capacity is 13888889: the buffer would need 1 GB of memory or more")
    assert said.endswith("this machine has 1 GB; give less")


def test_all_that_is_held_counts_together_and_the_largest_is_named(gigabyte):
    large = UGCLUSettings(task_batch_size=2_000_000)  # half of it each: 512 MB as float32
    said = refused(learn=KindConfig(large), unlearn=KindConfig(dataclasses.replace(large, task_batch_size=2_100_000)))
    assert said.startswith("unlearn.settings.task_batch_size is 2100000: a batch would need 538 MB")


def test_outputs_of_oracles_count_where_they_are_read(gigabyte):
    """Requests of 20 examples each, four classes: 960 bytes an oracle, 48 where one of each set is measured."""
    said = refused(oracle_seeds=2 * 10**6)
    assert said.startswith("oracle_seeds is 2000000: outputs of the oracles would need 1.92 GB")
    estimate.check(ExperimentConfig(oracle_seeds=2 * 10**6, evaluation_examples=1), DATA, STREAM)
    assert "1.28 GB" in refused(oracle_seeds=4 * 10**6, oracles="milestones"), "one of three requests unlearns"


def test_steps_that_run_over_a_counter_and_steps_of_ten_years():
    said = refused(oracle=OracleSettings(epochs=2**31 - 1, batch_size=8))
    assert said.startswith("oracle.epochs is 2147483647: with 40 examples in batches of 8 that is 10737418235 steps")
    long = KindConfig(UGCLUSettings(outer_steps=10**6, inner_steps=2**31 - 1))
    assert "learn.settings.inner_steps is 2147483647: 2 requests would take more than" in refused(learn=long)
    estimate.check(ExperimentConfig(learn=KindConfig(UGCLUSettings(outer_steps=10**6))), DATA, STREAM)


def test_counters_are_checked_before_any_data():
    for key, value in [("capacity", 2**31), ("oracle_seeds", 2**31)]:
        with pytest.raises(ValueError, match=f"{key} must be at most 2147483647, got 2147483648"):
            estimate.check_counts(ExperimentConfig(**{key: value}))


def test_a_container_with_less_memory_than_its_machine(tmp_path, monkeypatch):
    (tmp_path / "max").write_text("max\n")
    monkeypatch.setattr("ugclu_jax.data.memory._LIMITS", (str(tmp_path / "max"), str(tmp_path / "absent")))
    machine = estimate.memory_bytes()
    (tmp_path / "max").write_text(f"{2**20}\n")
    assert estimate.memory_bytes() == 2**20 < machine


@pytest.mark.parametrize("path", sorted(SETTINGS.rglob("*.json")), ids=lambda path: path.stem)
def test_no_settings_of_ours_are_refused(path):
    values = load_json(path)
    own = values.keys() - {"experiments", "smoke"}

    def is_of(scenario):
        hints = hints_of(scenario.config)
        return own <= hints.keys() and ("regime" not in own or values["regime"] in get_args(hints["regime"]))

    experiment = next(name for name, scenario in SCENARIOS.items() if is_of(scenario))
    estimate.check_counts(from_dict(SCENARIOS[experiment].config, read(path, experiment, False).values))
