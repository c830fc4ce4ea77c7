"""Runs beside one another, against means worked out here from the folders' own numbers."""

import csv
import json
import math
import statistics

import numpy as np
import pytest

from experiments.report import run
from tests.test_report import STREAM, plausible_line, write_run
from ugclu_jax.report import evidence
from ugclu_jax.report.evidence import Energy, Evidence, Pair
from ugclu_jax.report.side_by_side import as_csv, side_by_side

MATCHED = {"one": {"ug_clu": 0.04, "salun": 0.01}, "two": {"ug_clu": 0.01, "salun": 0.16, "er": 0.001}}
"""By run and method; each unlearn request has half of it on either side."""


def made(root, name, lost=()):
    """A run of three seeds, with evidence; `lost` methods did not finish their last seed."""
    rng, methods = np.random.default_rng(0), MATCHED[name]
    lines = [
        plausible_line(rng, method, 1.0, seed, request, *STREAM[request])
        for method in methods
        for seed in range(3)
        for request in range(len(STREAM) - (3 if method in lost and seed == 2 else 0))
    ]
    folder = write_run(root / name, lines, traces=False)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps(config | {"capacity": len(name), "rate": {"of": 0.1 * len(methods)}})
    )
    found = []
    for method, value in methods.items():
        pair = Pair(Energy(value / 2, 0.001), Energy(value / 2, 0.002))
        twice = Pair(Energy(value, 0.001), Energy(value, 0.002))
        found += [Evidence(method, at, (0, 1, 2), 3, twice, pair, twice, twice) for at in (3, 6)]
    evidence.write(folder, found)
    return folder


@pytest.fixture
def folders(tmp_path):
    return [made(tmp_path, name) for name in MATCHED]


def test_the_geometric_mean_orders_methods_and_a_gap_comes_last(folders):
    runs = side_by_side(folders)
    assert [row.method for row in runs.rows] == ["ug_clu", "salun", "er"]
    for row in runs.rows[:2]:
        wanted = statistics.geometric_mean(MATCHED[name][row.method] for name in MATCHED)
        assert row.mean == pytest.approx(wanted, rel=1e-12)
        assert row.finished == row.seeds == 6
    assert runs.rows[2].mean is None and runs.rows[2].cells[0] is None, "one run does not have it"
    assert runs.rows[0].cells[0] == Energy(pytest.approx(0.04), pytest.approx(0.003))


def test_a_lost_seed_stands_behind_all_that_lost_none(tmp_path):
    runs = side_by_side([made(tmp_path, "one"), made(tmp_path, "two", lost=["ug_clu"])])
    assert [(row.method, row.finished, row.seeds) for row in runs.rows[:2]] == [("salun", 6, 6), ("ug_clu", 5, 6)]


@pytest.mark.parametrize("by", ["E", "counterfactual", "KL"])
def test_other_distances(folders, by):
    runs = side_by_side(folders, by)
    cells = {row.method: row.cells for row in runs.rows}
    if by == "KL":
        assert all(cell.value > 0 for cell in cells["ug_clu"])
    else:
        assert [cell.value for cell in cells["ug_clu"]] == pytest.approx([0.08, 0.02])


def test_settings_that_differ_are_named_and_no_other(folders):
    assert side_by_side(folders).differences == {"rate.of": ("0.2", "0.3")}


def test_every_format_has_every_number(folders, tmp_path, capsys):
    files = [tmp_path / f"table{ending}" for ending in (".md", ".csv", ".tex")]
    assert run([*map(str, folders), "--out", *map(str, files)]) == 0
    out = capsys.readouterr().out
    assert "differs: rate.of 0.2 | 0.3" in out and "6 of 6" in out
    for path in files[0], files[2]:
        text = path.read_text()
        assert ".040" in text and ".160" in text and "6 of 6" in text, path
    assert r"ug\_clu & .020" in files[2].read_text() and r"$\pm$" in files[2].read_text()
    rows = list(csv.DictReader(files[1].read_text().splitlines()))
    assert [row["method"] for row in rows] == ["ug_clu", "salun", "er"]
    assert float(rows[0]["one"]) == pytest.approx(0.04) and rows[2]["one"] == "" == rows[2]["geometric mean"]
    assert as_csv(side_by_side(folders)) == files[1].read_text()
    assert run([*map(str, folders), "--markdown"]) == 0
    assert capsys.readouterr().out.strip() == files[0].read_text().strip()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "RUN_DIR is missing"),
        (["one", "one"], "a run stands there twice"),
        (["one", "nowhere"], "nowhere"),
        (["one", "two", "--out", "table.xlsx"], "--out is 'table.xlsx': it must end in .md, .csv, .tex"),
        (["one", "--out", "table.md"], "--out is for several runs"),
        (["one", "two", "--by", "accuracy"], "accuracy"),
    ],
)
def test_wrong_use_is_refused(folders, tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert message in " ".join((captured.out + captured.err).split())
    assert not list(tmp_path.glob("table.*"))


def test_nan_is_no_distance(tmp_path):
    folder = made(tmp_path, "one")
    nan = Pair(Energy(math.nan, None), Energy(math.nan, None))
    evidence.write(folder, [Evidence("ug_clu", at, (0, 1, 2), 3, nan, nan) for at in (3, 6)])
    assert side_by_side([folder]).rows[0].mean is None
