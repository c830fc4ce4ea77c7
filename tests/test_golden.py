"""Today's numbers against those on file: every method on a stream, and the scenarios by a few."""

from collections.abc import Iterator

import golden_runs
import jax
import pytest

METHODS = golden_runs.read("methods")
SCENARIOS = list(golden_runs.SCENARIO_CASES)


@pytest.fixture
def x64_in_all_threads() -> Iterator[None]:
    """Checkpoints are read in threads of their own, which the context of `x64` does not reach."""
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def assert_within(found, expected, bound):
    apart = [
        (where, difference) for where, difference in golden_runs.differences(found, expected) if difference > bound
    ]
    assert not apart, apart[:10]


def test_the_cases_are_those_on_file():
    assert METHODS.keys() == {f"method {name}" for name in golden_runs.METHOD_CASES}
    for name, case in golden_runs.METHOD_CASES.items():
        assert METHODS[f"method {name}"]["configuration"] == case, name
    for name, case in golden_runs.SCENARIO_CASES.items():
        assert golden_runs.read(name)[f"scenario {name}"]["configuration"] == case, name


def test_a_difference_is_found_wherever_it_is():
    recorded = METHODS["method er"]["result"]
    assert golden_runs.differences(recorded, recorded) == []
    changed = [*recorded[:-1], {**recorded[-1], "buffer": [[1.0, 2.0]]}]
    assert {where.split(".")[-1] for where, _ in golden_runs.differences(changed, recorded)} >= {"buffer[0][0]"}
    assert golden_runs.differences(recorded[:-1], recorded)[0][1] == float("inf")


@pytest.mark.parametrize("name", METHODS)
def test_a_method_serves_a_stream_as_it_did(x64, name):
    on_file = METHODS[name]
    assert_within(golden_runs.run_method(on_file["configuration"]), on_file["result"], 1e-9)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "wrong_labels" else pytest.mark.slow) for name in SCENARIOS]
)
def test_an_experiment_ends_as_it_did(x64_in_all_threads, name):
    """Logits pass through float32, hence the larger bound."""
    on_file = golden_runs.read(name)[f"scenario {name}"]
    assert_within(golden_runs.run_scenario(on_file["configuration"]), on_file["result"], 1e-6)
