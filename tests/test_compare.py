"""Methods against each other: the ranking from made-up lines, and the command on embedded digits."""

import json
import math

import numpy as np
import pytest
from PIL import Image

from experiments import compare as command
from ugclu_jax.harness.catalogue import METHODS
from ugclu_jax.report.metrics import from_json
from ugclu_jax.report.ranking import rank, ranking_markdown, ranking_table

pytestmark = [
    pytest.mark.filterwarnings("ignore:Sharding info not provided"),
]
SMALL = ["--scenario", "class_wise", "--smoke", "--tasks", "2", "--unlearn-classes", "1", "6"]


def line(method, seed, request, test, unlearned, kind="unlearn", **changes):
    numbers = {
        "method": method,
        "seed": seed,
        "request": request,
        "kind": kind,
        "name": f"request {request}",
        "model": {"KL": {"test": test, "unlearned": unlearned, "retained": 0.1}, "LA": 0.5},
        "oracle": {"LA": 0.75},
        "noise_floor": {"KL": {"test": 0.25, "unlearned": 0.5, "retained": 0.05}},
        "cost": {"gradient_evaluations": 10.0},
    }
    return from_json({**numbers, **changes})


LINES = [
    # Two milestones and a learn request, which does not count.
    *(line("far", seed, 1, 2.0 + seed, 4.0) for seed in (0, 1)),
    *(line("far", seed, 2, 4.0 + seed, 6.0) for seed in (0, 1)),
    *(line("near", seed, 1, 0.5, 0.5) for seed in (0, 1)),
    *(line("near", seed, 2, 1.5, 1.5) for seed in (0, 1)),
    *(line("near", seed, 0, 99.0, 99.0, kind="learn") for seed in (0, 1)),
    *(line("broken", seed, 1, 0.1, 0.1) for seed in (0, 1)),
    line("broken", 0, 2, 0.1, 0.1),  # seed 1 never reached the last request
    *(line("nan", seed, request, math.nan, 0.1) for seed in (0, 1) for request in (1, 2)),
]


def test_rows_are_ranked_by_the_distance_and_what_failed_comes_last():
    rows = rank(LINES)
    assert [row.method for row in rows] == ["near", "far", "broken", "nan"]
    near, far, broken, _ = rows
    assert near.distance.mean == pytest.approx(2.0) and near.distance.std == 0
    # Seed 0: (2 + 4) / 2 + (4 + 6) / 2 = 8; seed 1: (3 + 5) / 2 + 5 = 9.
    assert far.distance.mean == pytest.approx(8.5)
    assert far.distance.std == pytest.approx(math.sqrt(0.5))
    assert near.floor.mean == pytest.approx(0.75)
    assert (broken.unfinished, broken.seeds) == (1, 2)


def test_the_tables_name_every_method_and_the_floor():
    rows = rank(LINES)
    text = ranking_markdown(rows)
    head, _, *body = text.splitlines()
    assert head.startswith("| method | distance | KL test |")
    assert body[0].startswith("| near | 2.00 ±.000 | 1.00 ±.000 | 1.00 ±.000 | .100 ±.000 | – | .500 ±.000 |")
    assert body[2].startswith("| broken (1 of 2 seeds failed) |")
    assert body[4].startswith("| *oracle · noise floor* | .750 | .250 | .500 | .050 | – | .750 |")
    assert all(line.count("|") == head.count("|") for line in body[:5])
    assert "over 2 seeds" in text
    assert ranking_table(rows).row_count == 5


def test_nothing_to_compare_with_is_refused():
    bare = [line("a", 0, 0, 1.0, 1.0, noise_floor=None)]
    with pytest.raises(ValueError, match="there is nothing to compare with"):
        rank(bare)


def test_the_command_compares_learners_and_unlearners(tmp_path, capsys):
    """Learn requests of one learner are served once, and are the same as when a method is alone."""
    methods = ["ug_clu", "neg_grad_plus", "retrain", "der_pp+salun", "do_nothing"]
    places = ["--cache-dir", str(tmp_path / "cache")]
    both = [*SMALL, *places, "--run-dir", str(tmp_path / "all"), "--methods", *methods]
    assert command.run(both) == 0
    said = capsys.readouterr().out
    lines = [json.loads(text) for text in (tmp_path / "all" / "metrics.jsonl").read_text().splitlines()]
    assert [line["method"] for line in lines[::3]] == methods and len(lines) == 3 * len(methods)
    by_method = {method: [line for line in lines if line["method"] == method] for method in methods}
    for method in ("neg_grad_plus", "retrain", "do_nothing"):
        for own, others in zip(by_method[method][:2], by_method["ug_clu"][:2], strict=True):
            assert own["model"] == others["model"] and own["cost"] == others["cost"]
        assert by_method[method][2]["model"] != by_method["ug_clu"][2]["model"]
    assert by_method["der_pp+salun"][0]["model"] != by_method["ug_clu"][0]["model"]
    spent = {method: by_method[method][2]["cost"]["gradient_evaluations"] for method in methods}
    assert (
        spent["do_nothing"] == 0 and spent["retrain"] == by_method["retrain"][2]["cost"]["oracle_gradient_evaluations"]
    )
    assert 0.9 * spent["ug_clu"] < spent["neg_grad_plus"] <= spent["ug_clu"]

    text = (tmp_path / "all" / "comparison.md").read_text()
    assert all(f"| {method} |" in text for method in methods) and "comparison.md" in said and "retrain" in said
    with Image.open(tmp_path / "all" / "comparison.png") as image:
        assert np.asarray(image).std() > 1, "something is drawn"

    alone = [*SMALL, *places, "--run-dir", str(tmp_path / "alone"), "--methods", "retrain"]
    assert command.run(alone) == 0
    again = [json.loads(text) for text in (tmp_path / "alone" / "metrics.jsonl").read_text().splitlines()]
    timeless = [
        [{k: v for k, v in line.items() if k != "timing"} for line in part] for part in (again, by_method["retrain"])
    ]
    assert timeless[0] == timeless[1]


def test_a_method_that_diverges_costs_the_others_nothing(tmp_path, capsys):
    arguments = ["--run-dir", str(tmp_path / "run"), "--cache-dir", str(tmp_path / "cache")]
    bad = ["--unlearn.hyper.remain-learning-rate", "1e30"]
    assert command.run([*SMALL, *arguments, *bad, "--methods", "ug_clu", "do_nothing"]) == 1
    captured = capsys.readouterr()
    assert "ug_clu, seed 0:" in captured.err and "non-finite" in captured.err
    lines = [json.loads(text) for text in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["method"] for line in lines] == ["ug_clu"] * 2 + ["do_nothing"] * 3
    assert "ug_clu (1 of 1 seeds failed)" in (tmp_path / "run" / "comparison.md").read_text()


def test_names_are_listed_and_wrong_ones_refused(capsys):
    assert command.run(["--list"]) == 0
    shown = capsys.readouterr().out
    assert all(f"{name} " in shown for name in METHODS) and "alone: ug_clu+salun" in shown
    assert command.run(["--scenario", "classwise"]) == 2
    assert "unknown scenario 'classwise'; did you mean class_wise?" in capsys.readouterr().err
