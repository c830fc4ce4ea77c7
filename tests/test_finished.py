"""When a run counts as finished, and its lines are read back without work; all else is left to the run itself."""

from types import SimpleNamespace

import pytest

from ugclu_jax import checkpoints
from ugclu_jax.harness import finished

KINDS = ("learn", "unlearn", "learn")


@pytest.fixture
def plan(tmp_path):
    """Of three requests, the second of which unlearns; two checkpoints are kept, and both are there."""
    for request in (1, 2):
        (tmp_path / str(request)).mkdir()
    return SimpleNamespace(
        steps=[SimpleNamespace(index=i, request=SimpleNamespace(kind=kind)) for i, kind in enumerate(KINDS)],
        config=SimpleNamespace(keep=2),
        settings={"made_of": {"data": {"fingerprint": "f"}}},
        folder=SimpleNamespace(checkpoints=lambda method, seed: tmp_path, identity=lambda *whose: {"whose": whose}),
    )


@pytest.fixture
def stored(monkeypatch):
    """Metadata by request; None: damaged."""
    found = {request: {"lines": [f"line {i}" for i in range(request + 1)]} for request in range(3)}

    def restore(folder, request, like, identity):
        assert identity == {"whose": ("er", 7, "f"), "request": request}
        if found[request] is None:
            raise checkpoints.CorruptCheckpointError("flipped")
        return SimpleNamespace(metadata=found[request])

    monkeypatch.setattr(finished.checkpoints, "restore", restore)
    return found


def lines_of(plan):
    return finished._lines(plan, "er", 7, like=None)


def test_the_lines_are_those_of_the_last_checkpoint(plan, stored):
    assert lines_of(plan) == ["line 0", "line 1", "line 2"]


def test_an_earlier_checkpoint_that_was_purged_is_no_work(plan, stored, tmp_path):
    (tmp_path / "1").rename(tmp_path / "0")
    assert lines_of(plan) is None, "request 2 unlearned, and the checkpoint of request 1 does not say that it forgot"
    stored[0]["purged"] = [1]
    assert lines_of(plan) == ["line 0", "line 1", "line 2"]


@pytest.mark.parametrize("damaged", [1, 2])
def test_a_damaged_checkpoint_is_left_to_the_run(plan, stored, damaged):
    stored[damaged] = None
    assert lines_of(plan) is None


@pytest.mark.parametrize("left", ["3.orbax-checkpoint-tmp", ".partial-1", "file"])
def test_what_a_kill_left_is_left_to_the_run(plan, stored, tmp_path, left):
    (tmp_path / left).mkdir()
    assert lines_of(plan) is None


def test_a_run_that_has_requests_left_or_too_many_checkpoints_is_not_finished(plan, stored, tmp_path):
    plan.config.keep = 1
    assert lines_of(plan) is None
    plan.config.keep = 2
    (tmp_path / "2").rmdir()
    assert lines_of(plan) is None
    (tmp_path / "1").rmdir()
    assert lines_of(plan) is None
