"""The study of hypergradients, on embedded digits at smoke size: its arms, its files, and what it refuses."""

import json
import math

import numpy as np
import pytest

from experiments import hypergradients as command

pytestmark = [
    pytest.mark.filterwarnings("ignore:Sharding info not provided"),
]
SMALL = ["--smoke", "--tasks", "2", "--unlearn-classes", "1", "--validation-examples", "200", "--methods", "ug_clu"]


@pytest.mark.parametrize(
    ("objective", "seeds", "tuning_seeds"), [("kl", ["1"], ["7"]), ("matched_energy", ["1", "2", "3"], ["7", "8"])]
)
def test_both_arms_are_scored_and_kept(tmp_path, capsys, objective, seeds, tuning_seeds):
    folder = tmp_path / "run"
    places = ["--run-dir", str(folder), "--cache-dir", str(tmp_path / "cache")]
    arguments = [*SMALL, "--steps", "2", "--seeds", *seeds, "--tuning-seeds", *tuning_seeds, *places]
    arguments += ["--objective", objective, "--oracle-seeds", "3", "--names", "output_budget", "kept_share"]
    assert command.run(arguments) == 0, capsys.readouterr().err
    found = json.loads((folder / "hypergradients.json").read_text())
    descent, random = found["arms"][command.DESCENT], found["arms"][command.RANDOM]
    assert len(descent["points"]) == 2
    assert descent["points"][0] == pytest.approx(random["points"][0]), "both start at the settings"
    assert descent["values"][0] == pytest.approx(random["values"][0], rel=1e-3)
    # As many trials as the seconds of descent pay.
    assert random["seconds"][-1] <= descent["seconds"][-1] + 1e-6 or len(random["points"]) == 1
    for arm in (descent, random):
        finite = [value if math.isfinite(value) else math.inf for value in arm["values"]]
        assert str(int(np.argmin(finite))) in arm["held_out"]
        for value, spread in arm["held_out"].values():
            assert math.isfinite(value) and (spread is None) == (objective == "kl"), "one seed has no spread"
    assert set(found["slopes"]) >= {"output_budget", "saliency_threshold"}
    assert found["slopes"]["output_budget"] != 0
    table = (folder / "hypergradients.md").read_text()
    assert table in capsys.readouterr().out and "| random search |" in table
    page = (folder / "report.html").read_text()
    assert "data:image/png;base64" in page and "random search" in page
    before = json.loads((folder / "descent.json").read_text())
    assert command.run(arguments) == 0  # takes up what is there
    assert json.loads((folder / "descent.json").read_text()) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--names", "fast_rate"], "unknown name 'fast_rate'"),
        (["--names", "clip_norm"], "names has 'clip_norm', which needs --unlearn.settings.fast-step rate"),
        (["--steps", "1"], "steps must be at least 2, got 1"),
        (["--rate", "0"], "rate must be positive and finite, got 0"),
        (["--objective", "matched_energy", "--seeds", "1"], "seeds has one seed, and the energy distance is of two"),
        (["--objective", "energy"], "energy"),
        (["--seeds", "7", "--tuning-seeds", "7"], "tuning-seeds and seeds must differ, both have 7"),
        (["--scenario", "class"], "unknown scenario 'class'"),
        (
            ["--names", "output_budget", "--unlearn.hyper.output-budget", "0"],
            "--unlearn.hyper.output-budget must be positive and finite to be tuned, got 0",
        ),
    ],
)
def test_wrong_use_is_refused_before_work(tmp_path, capsys, arguments, message):
    assert command.run([*SMALL, "--run-dir", str(tmp_path / "run"), *arguments]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run" / "descent.json").exists()
