"""Methods against each other: the ranking from made-up lines, and the command on embedded digits."""

import io
import itertools
import json
import math
from typing import NamedTuple

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image
from rich.console import Console

from experiments import compare as command
from ugclu_jax.evaluation import as_dict
from ugclu_jax.harness.catalogue import METHODS
from ugclu_jax.harness.run_folder import RunFolder
from ugclu_jax.report.evidence import Energy, Evidence, Pair
from ugclu_jax.report.metrics import HEAD, from_json
from ugclu_jax.report.page import write_html
from ugclu_jax.report.picture import ranking_figure
from ugclu_jax.report.ranking import by_energy, rank, ranking_markdown, ranking_table, readings, reservations

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


def of_energy(method, request, unlearned, test, error=0.01):
    pair = Pair(Energy(unlearned, error), Energy(test, error))
    fresh = Pair(Energy(0.0, 0.02), Energy(0.0, 0.005))
    return Evidence(method, request, (0, 1), 5, energy=pair, matched=pair, counterfactual=pair, fresh=fresh)


EVIDENCE = [
    *(of_energy("far", request, 0.05 * request, 0.01) for request in (1, 2)),
    *(of_energy("near", request, 0.3, 0.1) for request in (1, 2)),
    *(of_energy("broken", request, 0.0, 0.0) for request in (1, 2)),
]


def test_the_energy_distance_ranks_and_kl_does_not():
    rows = rank(LINES, EVIDENCE)
    assert [row.method for row in rows] == ["far", "near", "broken", "nan"] and by_energy(rows)
    far = rows[0]
    assert far.energy.value == pytest.approx((0.05 + 0.1) / 2 + 0.01)
    assert far.energy.standard_error == pytest.approx(0.02)  # of the two sides together, at most
    text = ranking_markdown(rows)
    assert "| far | .085 ±.020 | .075 | .010 | .085 | .085 | 8.50 ±.707 | 11.3 | 2 |" in text
    assert "| *oracle · noise floor* | .000 ±.025 | .000 | .000 | .000 | – | .750 | 1.00 | – |" in text
    assert "ranked by E = E test + E unlearned" in text and "below it a model is smoother" in text
    assert not readings(rows)


def test_a_method_without_a_distribution_at_one_milestone_has_no_distance_and_comes_last():
    gone = Evidence("far", 2, (0,), 5, undefined="one seed is no distribution of models")
    rows = rank(LINES, [EVIDENCE[0], gone, *EVIDENCE[2:]])
    assert [row.method for row in rows if row.energy] == ["near", "broken"]
    assert rows[0].method == "near" and next(row for row in rows if row.method == "far").energy is None


def test_what_is_smoother_than_an_oracle_is_named_unless_it_may_be_one():
    smooth = [line(method, seed, 1, 0.1, 0.1) for method in ("smooth", "fresh") for seed in (0, 1)]
    evidence = [of_energy("smooth", 1, 0.2, 0.1), of_energy("fresh", 1, -0.01, 0.01)]
    rows = rank([*smooth, *(line("near", seed, 1, 0.5, 0.5) for seed in (0, 1))], evidence)
    (sentence,) = readings(rows)
    assert sentence.startswith("smooth is smoother than an oracle (KL below its floor")
    (alone,) = readings(rank([line("near", 0, 1, 0.5, 0.5)]))
    assert "ranked by KL, which smoothing can win" in alone


def test_the_picture_is_of_energy_with_the_region_of_fresh_oracles():
    figure = ranking_figure(rank(LINES, EVIDENCE))
    axes = figure.axes[0]
    assert "energy distance" in axes.get_xlabel() and "energy distance" in axes.get_ylabel()
    (region,) = axes.patches
    assert (region.get_width(), region.get_height()) == (pytest.approx(0.02), pytest.approx(0.08))
    assert [text.get_text() for text in axes.texts] == ["1  far", "2  near", "fresh oracles"]


def test_the_tables_name_every_method_and_the_floor():
    rows = rank(LINES)
    text = ranking_markdown(rows)
    head, _, *body = text.splitlines()
    assert head.startswith(
        "| method | E | E unlearned | E test | E matched | E counterfactual | KL | KL / floor | place by KL |"
    )
    known = "2.00 ±.000 | 2.67 | 1 | 1.00 ±.000 | 1.00 ±.000 | .100 ±.000 | – | .500 ±.000 |"
    assert body[0].startswith(f"| near | – | – | – | – | – | {known}")
    assert body[2].startswith("| broken (1 of 2 seeds failed) |")
    assert body[4].startswith(
        "| *oracle · noise floor* | – | – | – | – | – | .750 | 1.00 | – | .250 | .500 | .050 | – | .750 |"
    )
    assert all(line.count("|") == head.count("|") for line in body[:5])
    assert "over 2 seeds" in text
    assert len(ranking_table(rows).rows) == 5


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
    (why,) = RunFolder(tmp_path / "run").lost()
    assert why in captured.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--sequence", "L1 L2"], "the stream unlearns nothing, so there is nothing to rank methods by"),
        (["--sequence", "L1 U1"], "after no unlearn request of the stream is there a test example"),
    ],
)
def test_a_stream_with_nothing_to_rank_by_is_refused_before_work(tmp_path, capsys, arguments, said):
    places = ["--run-dir", str(tmp_path / "run"), "--cache-dir", str(tmp_path / "cache")]
    assert command.run(["--scenario", "task_aware", "--smoke", *places, *arguments]) == 2
    captured = capsys.readouterr()
    assert said in captured.err and captured.err.startswith("Error: ") and captured.err.count("\n") == 1
    assert captured.out == "" and not any(tmp_path.iterdir())


def test_where_no_method_came_as_far_as_an_unlearn_request_there_is_a_sentence(tmp_path):
    class Plan(NamedTuple):
        console: Console
        folder: RunFolder
        settings: dict

    console = Console(file=io.StringIO())
    command.conclude(
        Plan(console, RunFolder(tmp_path), {}), [line("a", 0, 0, 1.0, 1.0, kind="learn", noise_floor=None)]
    )
    assert console.file.getvalue() == "Nothing to rank: no method got as far as an unlearn request.\n"


def drawn_marks(rows):
    figure = ranking_figure(rows)
    points = [one for one in figure.axes[0].lines if one.get_linestyle() == "None" and len(one.get_xdata())]
    names = [text.get_text() for text in figure.axes[0].texts]
    listed = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert all(label in figure.axes[0].get_xlabel() for label in (row.label for row in rows if row.unfinished))
    return [(point.get_marker(), point.get_fillstyle()) for point in points], names, listed


def test_the_picture_tells_methods_apart_without_colour():
    rows = rank(LINES)
    marks, names, listed = drawn_marks(rows)
    assert len(set(marks)) == len(marks) == 3  # two methods and the floor
    assert names == ["1  near", "2  far", "noise floor"] and listed == []
    assert "Not in the picture: broken (1 of 2 seeds failed), nan" in ranking_figure(rows).axes[0].get_xlabel()
    many = [line(f"m{i}", 0, 1, 1.0 + i, 2.0) for i in range(34)]
    marks, names, listed = drawn_marks(rank(many))
    assert len(set(marks)) == 35
    assert sorted(names) == sorted([*map(str, range(1, 35)), "noise floor"]) and len(listed) == 34


def test_the_names_in_the_picture_do_not_overlap():
    close = [line(f"method {i}", 0, 1, 1.0 + 0.001 * i, 2.0 + 0.001 * i) for i in range(8)]
    figure = ranking_figure(rank(close))
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in figure.axes[0].texts]  # without the line to the point
    assert not [1 for a, b in itertools.combinations(boxes, 2) if a.overlaps(b)]


def test_a_distance_of_nothing_and_methods_that_all_failed_are_drawn():
    rows = rank([line("exact", 0, 1, 0.0, 0.0), line("other", 0, 1, 1.0, 1.0)])
    assert len(drawn_marks(rows)[0]) == 3
    assert drawn_marks(rank([line("nan", 0, 1, math.nan, 1.0)]))[1] == ["noise floor"]


def test_the_picture_and_its_reservations_are_in_the_report(tmp_path):
    notes = reservations({"smoke": True, "references": {"near": {}}}, ["near", "far+retrain", "do_nothing", "ug_clu"])
    assert [note.split()[0] for note in notes] == ["The", "Nobody"]
    assert "settings of far for these data" in notes[1]
    assert reservations({"smoke": False}, ["ug_clu", "ug_clu_bounded", "retrain"]) == []
    chosen = {"references": {"ug_clu_plain": {}}}
    assert reservations(chosen, ["ug_clu", "ug_clu_plain", "ug_clu+ug_clu_plain_bounded"]) == []
    assert "Nobody chose the settings of ug_clu_plain for" in reservations({}, ["ug_clu_plain"])[0]
    assert ranking_markdown(rank(LINES), notes).endswith("\n\n".join(notes))
    (tmp_path / "config.json").write_text(json.dumps({"experiment": "compare", "smoke": True}))
    lines = [json.dumps(as_line(each)) for each in LINES[:8]]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    page = write_html(tmp_path).read_text()
    assert 'aria-label="comparison"' in page and "1  near" in page
    assert "that of a smoke test" in page and "settings of far, near for these data" in page


def as_line(read):
    """A line as the file has it."""
    numbers = as_dict(read.numbers)
    return (
        {name: getattr(read, name) for name in HEAD}
        | {"model": {"KL": numbers["model"]["KL"]}}
        | {"noise_floor": {"KL": numbers["noise_floor"]["KL"]}}
    )


@pytest.mark.parametrize("width", [60, 80, 132, 200])
def test_no_row_of_the_ranking_is_torn(width):
    console = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None)
    rows = rank(LINES)
    console.print(ranking_table(rows), soft_wrap=True)
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= width
    blocks = len(ranking_table(rows).blocks(width))
    assert text.count("near ") == text.count("oracle, noise") == blocks
    assert "8.50 ±.707" in text and ".500 ±.000" in text


def test_names_are_listed_and_wrong_ones_refused(capsys):
    assert command.run(["--list"]) == 0
    shown = capsys.readouterr().out
    assert all(f"{name} " in shown for name in METHODS) and "alone: ug_clu+salun" in shown
    assert command.run(["--scenario", "classwise"]) == 2
    assert "unknown scenario 'classwise'; did you mean class_wise?" in capsys.readouterr().err


def test_methods_that_nobody_named_and_that_do_not_fit_are_left_out_and_said_to_be(tmp_path, capsys):
    places = ["--run-dir", str(tmp_path / "run"), "--cache-dir", str(tmp_path / "cache"), "--dry-run"]
    assert command.run([*SMALL, *places]) == 0
    said = capsys.readouterr().out
    assert "Left out: ct, which does not fit: " in said and said.count("Left out") == 1
    assert command.run([*SMALL, *places, "--methods", "ct", "ug_clu"]) == 2
    assert "ct" in capsys.readouterr().err
