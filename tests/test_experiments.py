"""The experiments as programs: their folder, resuming, kills, refusals. Smoke size on embedded digits."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp

from ugclu_jax import checkpoints
from ugclu_jax.harness.cli import main

ROOT = Path(__file__).parent.parent
SMALL = ["--smoke", "--sequence", "L1 L2 U1"]
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # see test_checkpoints.py
    pytest.mark.filterwarnings("ignore:Sharding info not provided"),  # wanted so: states are compared as stored
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


def run(arguments: list[str]) -> int:
    return main("task_aware", "", arguments)


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def without_timing(folder: Path) -> list[dict]:
    return [{key: value for key, value in line.items() if key != "timing"} for line in lines(folder)]


@pytest.fixture(scope="module")
def finished(cache, tmp_path_factory) -> Path:
    """An unbroken run with all methods."""
    folder = tmp_path_factory.mktemp("runs") / "unbroken"
    methods = ["--methods", "ug_clu", "do_nothing", "finetune_remain"]
    assert run([*SMALL, *methods, "--run-dir", str(folder), "--cache-dir", str(cache)]) == 0
    return folder


def arguments_of(folder: Path, cache: Path) -> list[str]:
    methods = ["--methods", "ug_clu", "do_nothing", "finetune_remain"]
    return [*SMALL, *methods, "--run-dir", str(folder), "--cache-dir", str(cache)]


def test_the_folder_is_complete(finished):
    found = lines(finished)
    assert [(line["method"], line["request"]) for line in found] == [
        (method, request) for method in ("ug_clu", "do_nothing", "finetune_remain") for request in range(3)
    ]
    config = json.loads((finished / "config.json").read_text())
    assert config["learn"]["settings"]["outer_steps"] == 20 and config["sequence"] == "L1 L2 U1"
    assert [r["name"] for r in json.loads((finished / "stream.json").read_text())] == ["L1", "L2", "U1"]
    for line in found:
        model = line["model"]
        assert 0 <= model["LA"] <= 1 and model["KL"]["retained"] >= 0 and line["noise_floor"]["KL"]["test"] > 0
        assert (model["UA"] is None) == (line["kind"] == "learn")
        assert line["timing"]["RTE"] > 0
    page = (finished / "report.html").read_text()
    assert "ug_clu" in page and "http://" not in page.replace("http://www.w3.org", "")
    last = finished / "runs" / "ug_clu" / "seed-0"
    assert checkpoints.requests(last / "checkpoints") == [1, 2], "as many as --keep says"
    assert np.load(last / "traces" / "2.npz")["task_losses"].shape == (10,)


def test_doing_nothing_differs_from_unlearning(finished):
    found = {line["method"]: line for line in lines(finished) if line["request"] == 2}
    assert found["do_nothing"]["cost"]["gradient_evaluations"] == 0
    budget, own = (found[m]["cost"]["gradient_evaluations"] for m in ("ug_clu", "finetune_remain"))
    assert budget - 1 < own <= budget, "equal budget, but for a step that it does not pay whole"
    assert found["ug_clu"]["model"]["KL"] != found["do_nothing"]["model"]["KL"]


def test_the_same_command_finds_its_work_done(finished, cache):
    newest = finished / "runs" / "ug_clu" / "seed-0" / "checkpoints" / "2"
    before, metrics = newest.stat().st_mtime_ns, (finished / "metrics.jsonl").read_bytes()
    assert run(arguments_of(finished, cache)) == 0
    assert newest.stat().st_mtime_ns == before and (finished / "metrics.jsonl").read_bytes() == metrics


def test_another_configuration_is_refused(finished, cache, capsys):
    assert run([*arguments_of(finished, cache), "--capacity", "61", "--unlearn.hyper.kept-share", "0.5"]) == 2
    message = capsys.readouterr().err
    assert "capacity (60 there, 61 here)" in message and "unlearn.hyper.kept_share (0.61 there, 0.5 here)" in message


def test_a_damaged_checkpoint_is_named_and_the_one_before_used(finished, cache, tmp_path, capsys):
    folder = tmp_path / "damaged"
    shutil.copytree(finished, folder)
    newest = folder / "runs" / "ug_clu" / "seed-0" / "checkpoints" / "2"
    for path in newest.rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert run(arguments_of(folder, cache)) == 0
    said = capsys.readouterr().out.replace("\n", "")
    assert "checkpoints/2" in said and "falling back" in said
    assert without_timing(folder) == without_timing(finished)


@pytest.mark.slow
def test_killed_at_any_moment_and_resumed_it_ends_the_same(finished, tmp_path):
    folder = tmp_path / "killed"
    command = [sys.executable, "-m", "experiments.task_aware", *arguments_of(folder, tmp_path / "cache")]
    environment = dict(os.environ)
    moments = random.Random(0)
    kills = 0
    # Kill a moment after the run has begun, and thrice after it has got further, where it can be writing; then let it
    # finish.
    plan = [("config.json", 1.5), *[("runs/*/*/*/*", 0.3)] * 3]
    for attempt in range(12):
        pattern, latest = plan[attempt] if attempt < len(plan) else ("", 0.0)
        marks = sorted(folder.glob(pattern)) if pattern else []
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while pattern and process.poll() is None and sorted(folder.glob(pattern)) == marks:
            time.sleep(0.01)
        if pattern and process.poll() is None:
            time.sleep(moments.uniform(0, latest))
            process.send_signal(signal.SIGKILL)
            kills += 1
        if process.wait() == 0:
            break
    assert kills == len(plan), "the run must be interrupted for this test to say anything"
    assert without_timing(folder) == without_timing(finished)
    for method in ("ug_clu", "do_nothing", "finetune_remain"):
        place = Path("runs") / method / "seed-0" / "traces" / "2.npz"
        ours, theirs = np.load(folder / place), np.load(finished / place)
        for name in theirs.files:
            np.testing.assert_array_equal(ours[name], theirs[name])
        place = Path("runs") / method / "seed-0" / "checkpoints" / "2"  # what the states hold, without the metadata
        assert checkpoints.digest(ocp.load(folder / place), {}) == checkpoints.digest(ocp.load(finished / place), {})


@pytest.mark.parametrize(
    ("name", "extra"),
    [
        ("class_wise", ["--tasks", "2", "--unlearn-classes", "1", "6"]),
        ("class_wise", ["--regime", "joint"]),
        ("random_sample", ["--tasks", "2"]),
        ("random_sample", ["--tasks", "2", "--regime", "wrong_labels"]),
    ],
)
def test_the_other_experiments(name, extra, cache, tmp_path):
    arguments = ["--smoke", *extra, "--run-dir", str(tmp_path / "run"), "--cache-dir", str(cache)]
    assert main(name, "", arguments) == 0
    last = lines(tmp_path / "run")[-1]
    assert last["kind"] == "unlearn" and last["model"]["UA"] is not None and last["oracle"]["UA"] is not None
    first = lines(tmp_path / "run")[0]
    from_scratch = first["cost"]["gradient_evaluations"] == first["cost"]["oracle_gradient_evaluations"]
    assert from_scratch == ("--regime" in extra), "a jointly trained model is trained as an oracle is"
    if "wrong_labels" in extra:
        assert last["oracle"]["UA"] < 0.5, "an oracle without the wrong labels does not reproduce them"


def test_a_loss_that_is_not_finite_stops_the_run(cache, tmp_path, capsys):
    folder = tmp_path / "diverged"
    bad = ["--unlearn.hyper.remain-learning-rate", "1e30", "--run-dir", str(folder), "--cache-dir", str(cache)]
    assert run([*SMALL, *bad]) == 1
    message = capsys.readouterr().err
    assert "non-finite at outer step" in message and "request 3 (U1)" in message and "resumes with" in message
    assert checkpoints.requests(folder / "runs" / "ug_clu" / "seed-0" / "checkpoints") == [0, 1]


def test_inputs_that_exceed_the_budget_stream_with_the_same_result(finished, tmp_path):
    """Requests, oracles and evaluation; a cache of its own, so that the oracles stream too."""
    folder = tmp_path / "streamed"
    places = ["--run-dir", str(folder), "--cache-dir", str(tmp_path / "cache")]
    assert run([*SMALL, "--device-budget-mb", "0", *places]) == 0
    resident = [line for line in without_timing(finished) if line["method"] == "ug_clu"]
    assert without_timing(folder) == resident
    place = Path("runs") / "ug_clu" / "seed-0" / "checkpoints" / "2"
    digests = [checkpoints.digest(ocp.load(path / place), {}) for path in (folder, finished)]
    assert digests[0] == digests[1]


@pytest.mark.parametrize("name", ["task_aware", "class_wise", "random_sample"])
def test_help_names_every_setting(name):
    shown = subprocess.run(
        [sys.executable, "-m", f"experiments.{name}", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "200"},
    ).stdout
    for flag in ("--dataset", "--model", "--seeds", "--run-dir", "--learn.hyper.loss-exponent", "--oracle.epochs"):
        assert flag in shown
    assert "β_Q" in shown and "default" in shown


def test_nothing_but_text_is_piped(finished, cache):
    done = subprocess.run(
        [sys.executable, "-m", "experiments.task_aware", *arguments_of(finished, cache)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "\x1b" not in done.stdout and str(finished) in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--dataset", "digit"], "did you mean digits"),
        (["--model", "mpl"], "mlp"),
        (["--methods", "ugclu"], "did you mean ug_clu"),
        (["--capacty", "5"], "--capacity"),
        (["--capacity", "0"], "--capacity must be at least 1"),
        (["--tasks", "3"], "3"),
        (["--oracle-seeds", "1"], "--oracle-seeds must be at least 2"),
        (["--learn.settings.outer-steps", "0"], "--learn.settings.outer-steps must be at least 1"),
        (["--unlearn.settings.inner-data", "mixed"], "rehearse"),
        (["--learn.hyper.slow-step-size", "1.5"], "--learn.hyper.slow-step-size must be in [0, 1]"),
        (["--unlearn.hyper.fast-learning-rate", "-1"], "--unlearn.hyper.fast-learning-rate"),
        (["--unlearn.hyper.loss-exponent", "nan"], "--unlearn.hyper.loss-exponent"),
        (["--sequence", "L1 U2"], "2"),
        (["--sequence", "L1 U1 U1"], "U1"),
        (["--sequence", "L1 L1"], "L1"),
        (["--sequence", ""], "the stream has 0 requests"),
        (["--sequence", "L1 X2"], "X2"),
        (["--seeds", "0", "0"], "seeds"),
        (["--per-class", "0"], "--per-class"),
        (["--stream", '[{"learn": {"ids": [55, 55]}}]'], "ids train/55 (1 in all) more than once"),
        (["--stream", '[{"learn": {"ids": [99999]}}]'], "99999"),
        (["--stream", '[{"learn": {"ids": []}}]'], "has 0 ids"),
        (["--stream", "{"], "the request stream, line 1, column 2"),
        (["--run-dir", "/dev/null/run"], "/dev/null"),
        (["--data.directory", "/nowhere"], "digits"),
        (["--settings", "/nowhere.json"], "/nowhere.json"),
        (["--dataset", "fashion_mnist", "--data.directory", "/nowhere"], "/nowhere"),
    ],
)
def test_wrong_use_is_refused_before_work(arguments, said, tmp_path, capsys):
    if arguments[0] == "--stream":
        (tmp_path / "stream.json").write_text(arguments[1])
        arguments = ["--stream", str(tmp_path / "stream.json")]
    place = [] if "--run-dir" in arguments else ["--run-dir", str(tmp_path / "run")]
    try:
        code = run(["--smoke", *place, "--cache-dir", str(tmp_path), *arguments])
    except SystemExit as stop:
        code = stop.code
    message = capsys.readouterr()
    text = " ".join((message.out + message.err).replace("│", " ").split())
    assert code == 2, text
    assert said in text and "Traceback" not in text
    assert not (tmp_path / "oracles").exists(), "no work was done"
