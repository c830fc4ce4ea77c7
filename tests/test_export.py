"""What other tools are given is what the run measured: their files are read back, by their formats."""

import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import export as command
from ugclu_jax.harness.export import scalars
from ugclu_jax.report.metrics import read_metrics

BLOCK, HEADER = 32768, 7
"""Of a W&B file: LevelDB's log format, after seven bytes of its own."""


@pytest.fixture
def run_dir(tmp_path):
    """A run of two methods and two seeds, by hand."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.json").write_text('{"run": "task_aware", "capacity": 7}')
    lines = [
        {
            "method": method,
            "seed": seed,
            "request": request,
            "kind": "learn",
            "name": f"L{request + 1}",
            "model": {"LA": value + request, "MIA": {"loss": 0.5}, "KL": {"test": 2 * value, "unlearned": None}},
            "cost": {"gradient_evaluations": 215.0},
        }
        for method, value in (("er", 0.125), ("ug_clu", 0.25))
        for seed in (0, 3)
        for request in (1, 0)  # in whatever order they stand
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def expected(run_dir: Path) -> dict[tuple[str, int, int], dict[str, float]]:
    return {(line.method, line.seed, line.request + 1): scalars(line) for line in read_metrics(run_dir)}


def tensorboard_steps(path: Path) -> dict[int, dict[str, float]]:
    """The scalars of an event file by step: records of a length, its checksum, an event and its checksum."""
    from tensorboardX.proto.event_pb2 import Event

    content, found, place = path.read_bytes(), {}, 0
    while place < len(content):
        (size,) = struct.unpack_from("<Q", content, place)
        event = Event.FromString(content[place + 12 : place + 12 + size])
        place += 12 + size + 4
        for value in event.summary.value:
            found.setdefault(event.step, {})[value.tag] = value.simple_value
    return found


def wandb_records(path: Path) -> list:
    """The records of an offline run."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, found, partial, place = path.read_bytes(), [], b"", HEADER
    while place + HEADER <= len(content):
        if BLOCK - place % BLOCK < HEADER:
            place += BLOCK - place % BLOCK
            continue
        size, kind = struct.unpack_from("<HB", content, place + 4)
        partial += content[place + HEADER : place + HEADER + size]
        place += HEADER + size
        if kind in (1, 4):  # whole, or the last part
            found.append(Record.FromString(partial))
            partial = b""
    return found


def test_tensorboard_has_every_number_of_every_request(run_dir, capsys):
    for _ in range(2):  # what was exported before is written anew
        assert command.run([str(run_dir)]) == 0
    assert f"4 runs, 8 steps: {run_dir / 'tensorboard'}" in capsys.readouterr().out
    found = {}
    for path in (run_dir / "tensorboard").rglob("events*"):
        method, seed = path.parts[-3], int(path.parts[-2].removeprefix("seed-"))
        found |= {(method, seed, step): numbers for step, numbers in tensorboard_steps(path).items()}
    assert found == expected(run_dir)


@pytest.mark.slow
def test_wandb_has_every_number_of_every_request_and_stays_offline(run_dir):
    # As a process: the tool writes what is left when that ends.
    words = [sys.executable, "-m", "experiments.export", str(run_dir), "--to", "wandb"]
    subprocess.run(words, cwd=Path(__file__).parent.parent, check=True)
    found, settings = {}, {}
    for path in (run_dir / "wandb").glob("offline-run-*/*.wandb"):
        records = wandb_records(path)
        (run,) = [r.run for r in records if r.WhichOneof("record_type") == "run" and r.run.config.update]
        settings = {item.key: json.loads(item.value_json) for item in run.config.update}
        for record in records:
            if record.WhichOneof("record_type") == "history":
                items = {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in record.history.item}
                step = record.history.step.num
                numbers = {name: value for name, value in items.items() if not name.startswith("_")}
                found[settings["method"], settings["seed"], step] = numbers
    assert found == expected(run_dir)
    assert settings["capacity"] == 7


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (lambda run_dir: (run_dir / "metrics.jsonl").unlink(), "does not exist"),
        (lambda run_dir: (run_dir / "tensorboard").write_text("mine"), "is no folder: delete it"),
    ],
)
def test_what_cannot_be_exported_is_refused(run_dir, prepare, said, capsys):
    prepare(run_dir)
    assert command.run([str(run_dir)]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
