"""Tables of a grid: cut a run into cells, put them together, and not a byte differs."""

import io
import itertools
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ugclu_jax import seals
from ugclu_jax.harness.catalogue import split_name
from ugclu_jax.harness.cells import folder_of, prepare
from ugclu_jax.harness.collect import collect
from ugclu_jax.harness.grid_cells import cells_of
from ugclu_jax.harness.grid_file import from_json
from ugclu_jax.harness.standing import Standing
from ugclu_jax.report import evidence, outputs
from ugclu_jax.report.comparison import compared, write_comparison
from ugclu_jax.report.metrics import read_metrics
from ugclu_jax.report.side_by_side import side_by_side

ROOT = Path(__file__).parent.parent
METHODS, SEEDS, REQUESTS = ("finetune_remain", "er+salun", "do_nothing"), (3, 0, 11), (0, 1, 2)
GRID = from_json({"scenarios": ["class_wise"], "methods": list(METHODS), "seeds": list(SEEDS)})
KINDS = {0: "learn", 1: "unlearn", 2: "unlearn"}


def npz(folder, name, **arrays):
    content = io.BytesIO()
    np.savez(content, **arrays)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    seals.write(folder, name, content.getvalue())


def made(folder: Path, methods=METHODS, seeds=SEEDS, stop_at=None, shift=0.0, **over) -> Path:
    """A run's folder as `compare` leaves one, of numbers that depend on method, seed and request alone."""
    folder.mkdir(parents=True)
    lines = []
    for method, seed, request in itertools.product(methods, seeds, REQUESTS):
        rng = np.random.default_rng([METHODS.index(method), seed, request])
        if stop_at is not None and request >= stop_at:
            continue
        sides = {side: float(rng.random()) for side in ("retained", "unlearned", "test")}
        floor = {side: 0.01 * (1 + len(side)) for side in sides}
        lines.append(
            {
                "method": method, "seed": seed, "request": request, "kind": KINDS[request], "name": f"R{request}",
                "model": {"KL": sides, "LA": float(rng.random()), "UA": float(rng.random())},
                "noise_floor": {"KL": floor}, "timing": {"RTE": float(rng.random())},
                "cost": {"gradient_evaluations": float(rng.integers(1000))},
            }
        )  # fmt: skip
        if KINDS[request] == "unlearn":
            draw = {name: rng.normal(size=(5, 3)).astype(np.float32) for name in ("unlearned", "test", "retained")}
            npz(folder, outputs.model_file(method, seed, request), **draw)
            for replay in (True, False):
                learner = split_name(method)[0]
                rng = np.random.default_rng([replay, seed, request, *learner.encode()])
                draw = {name: rng.normal(size=(5, 3)).astype(np.float32) for name in ("unlearned", "test")}
                npz(folder, outputs.counterfactual_file(learner, replay, seed, request), **draw)
    for request in (1, 2):
        rng = np.random.default_rng(request)
        draw = {
            name: rng.normal(size=(4, 5, 3)).astype(np.float32) + shift for name in ("unlearned", "test", "retained")
        }
        npz(folder, outputs.oracle_file(request), **draw)
    config = {"run": "0" * 32, "experiment": "class_wise", "methods": list(methods), "seeds": list(seeds), **over}
    seals.write(folder, "config.json", json.dumps(config).encode())
    seals.write(folder, "stream.json", b"[1, 2, 3]\n")
    seals.write(folder, "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode())
    return folder


def concluded(folder: Path) -> Path:
    """What `compare` writes at a run's end."""
    lines = read_metrics(folder)
    evidence.write(folder, evidence.gather(folder, lines, {method: split_name(method)[0] for method in METHODS}))
    return write_comparison(folder, compared({"experiment": "class_wise"}, lines, evidence.read(folder)))


@pytest.fixture
def study(tmp_path):
    """A folder of finished cells."""
    cells = cells_of(GRID, tmp_path / "cache")
    prepare(tmp_path / "study", cells.cells)
    for (_, method, seed), cell in cells.by_place.items():
        made(folder_of(tmp_path / "study", cell), (method,), (seed,))
    return tmp_path / "study"


def collected(study, **states):
    cells = cells_of(GRID, study.parent / "cache")
    found = {cell.name: Standing(states.get(cell.name, "finished")) for cell in cells.cells}
    return list(collect(study, GRID, cells, found))


def test_not_a_byte_of_the_comparison_differs_from_that_of_one_run(study, tmp_path):
    whole = concluded(made(tmp_path / "whole"))
    (table,) = collected(study)
    assert "never learned, by" in whole.read_text() and "E counterfactual" in whole.read_text()
    assert table.path.read_bytes() == whole.read_bytes()
    assert table.failed == ()
    for name in ("evidence.json", "metrics.jsonl", "comparison.png"):
        assert (table.path.parent / name).read_bytes() == (whole.parent / name).read_bytes(), name
    assert collected(study)[0].path.read_bytes() == whole.read_bytes(), "and twice"


def test_the_order_is_the_grid_s_and_another_one_would_be_told(study, tmp_path):
    whole = concluded(made(tmp_path / "whole", METHODS[::-1], SEEDS[::-1]))
    (table,) = collected(study)
    assert (table.path.parent / "metrics.jsonl").read_bytes() != (whole.parent / "metrics.jsonl").read_bytes()


def test_a_table_is_a_run_s_folder_for_what_reads_one(study):
    (table,) = collected(study)
    assert {row.method for row in side_by_side([table.path.parent], "matched").rows} >= {"er+salun"}


def test_a_cell_that_failed_half_way_is_in_it_as_in_a_run(study, tmp_path):
    cells = cells_of(GRID, tmp_path / "cache")
    bad = cells.by_place["class_wise", "er+salun", 11]
    shutil.rmtree(folder_of(study, bad))
    made(folder_of(study, bad), ("er+salun",), (11,), stop_at=2)
    (table,) = collected(study, **{bad.name: "failed"})
    assert table.failed == (bad.name,)
    assert "er+salun (1 of 3 seeds failed)" in table.path.read_text()


@pytest.mark.parametrize("state", ["waiting", "running"])
def test_a_table_is_not_written_while_cells_of_it_are_on_their_way(study, state):
    with pytest.raises(
        ValueError, match=r"table class_wise: 1 of 9 cells have not ended, class_wise-er\+salun-0 for one"
    ):
        collected(study, **{"class_wise-er+salun-0": state})
    assert not (study / "tables").exists()


def changed(study, **options):
    cell = cells_of(GRID, study.parent / "cache").by_place["class_wise", "er+salun", 0]
    shutil.rmtree(folder_of(study, cell))
    return made(folder_of(study, cell), ("er+salun",), (0,), **options)


def test_cells_of_two_settings_are_no_table(study):
    changed(study, capacity=3)
    with pytest.raises(ValueError, match=r"not of one table; differing: capacity \(\"nothing\" there, 3 here\)"):
        collected(study)


def test_cells_with_other_oracles_are_no_table(study):
    changed(study, shift=1e-6)
    with pytest.raises(ValueError, match=r"of other oracles.*cache was not shared"):
        collected(study)


def test_cells_of_other_requests_are_no_table(study):
    seals.write(changed(study), "stream.json", b"[1, 2]\n")
    with pytest.raises(ValueError, match="served other requests"):
        collected(study)


def test_a_damaged_cell_is_named(study):
    (changed(study) / "metrics.jsonl").write_text("{}\n")
    with pytest.raises(ValueError, match=r"metrics\.jsonl is damaged"):
        collected(study)


def without_seconds(text: str) -> str:
    """A comparison without the one column that no two runs share: the seconds of a request."""
    head, *_ = (line for line in text.splitlines() if line.startswith("|"))
    place = [cell.strip().split(" ")[0] for cell in head.split("|")].index("RTE")
    rows = [line.split("|") for line in text.splitlines() if line.startswith("|")]
    return "\n".join("|".join(row[:place] + row[place + 1 :]) for row in rows) + text.rpartition("|\n")[2]


@pytest.mark.slow
def test_a_grid_of_which_a_third_is_killed_has_the_table_of_compare(tmp_path):
    """Cells of `compare` itself; but for measured seconds their table is that of one run, bit for bit."""
    words = ["finetune_remain", "do_nothing"]
    grid = {"scenarios": ["class_wise"], "methods": words, "seeds": [0, 1], "smoke": True}
    (tmp_path / "grid.json").write_text(json.dumps(grid))
    command = [sys.executable, "-m", "experiments.grid", str(tmp_path / "grid.json"), "--run-dir", str(tmp_path / "g")]
    command += ["--cache-dir", str(tmp_path / "cache")]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    killed: set[str] = set()
    while process.poll() is None and len(killed) < 2:  # of four
        for path in (tmp_path / "g" / "cells").glob("*/runs/*/seed-*/checkpoints/*"):
            cell = path.relative_to(tmp_path / "g" / "cells").parts[0]
            record = json.loads((tmp_path / "g" / "standing" / f"{cell}.json").read_text())
            if cell not in killed and record["code"] is None and path.name.isdigit():
                subprocess.run(["kill", f"-{int(signal.SIGKILL)}", str(record["process"])], check=False)
                killed.add(cell)
        time.sleep(0.05)
    said, _ = process.communicate(timeout=3600)
    assert process.returncode == 0 and len(killed) == 2, said
    assert said.count("died:") == 2 and said.count("it is started again") == 2
    status = subprocess.run([*command, "--status"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "4 cells: 0 waiting, 0 running, 4 finished, 0 failed" in status
    whole = [sys.executable, "-m", "experiments.compare", "--scenario", "class_wise", "--methods", *words]
    whole += ["--seeds", "0", "1", "--seeds-at-once", "1", "--smoke", "--run-dir", str(tmp_path / "whole")]
    subprocess.run([*whole, "--cache-dir", str(tmp_path / "other")], cwd=ROOT, capture_output=True, check=True)
    own, one = ((tmp_path / name / "comparison.md").read_text() for name in ("g/tables/class_wise", "whole"))
    assert without_seconds(own) == without_seconds(one)
    assert "never learned, by ug_clu" in own
    again = subprocess.run([*command, "--collect"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "Comparison:" in again.stdout and (tmp_path / "g/tables/class_wise/comparison.md").read_text() == own
