"""One setting for several searches: the choice, and what is refused."""

import json

import pytest

from experiments import one_default


def write(folder, **distances):
    folder.mkdir()
    lines = [
        json.dumps(
            {
                "method": method,
                "trial": trial,
                "point": {"rate": 0.1 * trial},
                "distance": distance,
                "settings": {"references": {method: {"hyper": {"rate": 0.1 * trial}}}},
            }
        )
        for method, found in distances.items()
        for trial, distance in enumerate(found)
    ]
    (folder / "trials.jsonl").write_text("\n".join(reversed(lines)) + "\n")  # in whatever order they ended
    return folder


def test_the_geometric_mean_decides_not_the_sum(tmp_path, capsys):
    # Trial 0 has the smallest sum, and is three times the best of the second search.
    a = write(tmp_path / "a", sfron=[10.0, 14.0, 99.0], er=[1.0, 2.0, 3.0])
    b = write(tmp_path / "b", sfron=[3.0, 1.5, 1.0])
    assert one_default.run(["--method", "sfron", "--searches", str(a), str(b)]) == 0
    out = capsys.readouterr().out
    assert f"Trial 1, geometric mean {(14.0 * 1.5) ** 0.5:.4f}: rate 0.1" in out
    assert [line.split()[-3:] for line in out.splitlines() if line.split()[:1] in (["a"], ["b"])] == [
        ["14.000", "10.000", "1.40"],
        ["1.500", "1.000", "1.50"],
    ]


def test_a_trial_that_diverged_anywhere_is_not_chosen(tmp_path):
    a = write(tmp_path / "a", sfron=[1.0, 5.0])
    b = write(tmp_path / "b", sfron=[float("inf"), 1.0])
    found = one_default.common_default([one_default.trials_of(folder, "sfron") for folder in (a, b)])
    assert found.trial == 1 and found.quotients == [5.0, 1.0]


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"er": [1.0, 1.0]}, "has no trial of sfron; it has er"),
        ({"sfron": [1.0]}, "drew different points"),
        ({"sfron": [float("inf"), 1.0]}, "every trial diverged in one of the searches"),
    ],
)
def test_searches_that_cannot_be_compared_are_refused(tmp_path, capsys, second, message):
    a = write(tmp_path / "a", sfron=[1.0, float("inf")])
    b = write(tmp_path / "b", **second)
    assert one_default.run(["--method", "sfron", "--searches", str(a), str(b)]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_what_chance_leaves_below_nothing_counts_as_the_least(tmp_path):
    a, b = write(tmp_path / "a", er=[-0.004, 0.02]), write(tmp_path / "b", er=[0.5, 0.1])
    found = one_default.common_default([one_default.trials_of(folder, "er") for folder in (a, b)])
    assert found.trial == 1 and found.quotients == [4.0, 1.0]
    assert one_default.geometric_mean([-0.004, 0.5]) == pytest.approx((0.005 * 0.5) ** 0.5)


def test_the_choice_enters_settings_files_beside_what_they_hold(tmp_path, capsys):
    a, b = write(tmp_path / "a", er=[0.4, 0.2]), write(tmp_path / "b", er=[0.5, 0.1])
    files = [tmp_path / "one.json", tmp_path / "two.json"]
    files[0].write_text('{"capacity": 7, "references": {"er": {"hyper": {"rate": 9.0, "other": 2.0}}}}')
    files[1].write_text("{}")
    arguments = ["--method", "er", "--searches", str(a), str(b), "--write", *map(str, files)]
    assert one_default.run(arguments) == 0
    assert json.loads(files[0].read_text()) == {
        "capacity": 7,
        "references": {"er": {"hyper": {"rate": 0.1, "other": 2.0}}},
    }
    assert json.loads(files[1].read_text()) == {"references": {"er": {"hyper": {"rate": 0.1}}}}
    before = [path.read_bytes() for path in files]
    assert one_default.run([*arguments[:-1], str(tmp_path / "nowhere.json")]) == 2
    assert "nowhere.json" in capsys.readouterr().err
    assert [path.read_bytes() for path in files] == before, "nothing is written where one file cannot be read"
