"""Studies through their command lines, at smoke size: every cell runs, and the page has what the study is about."""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STUDIES = (
    "ablation",
    "architectures",
    "buffer_sampling",
    "buffer_size",
    "convergence",
    "inner_steps",
    "long_stream",
    "multimodal",
    "oracle_free",
    "paper_tables",
    "people",
    "regimes",
    "saliency_threshold",
    "text",
)


@pytest.mark.parametrize("name", STUDIES)
def test_the_header_is_a_notebook_s(name):
    module = importlib.import_module(f"experiments.{name}")
    assert module.__doc__.splitlines()[0].endswith("?"), "the first line is the question"
    assert f"python -m experiments.{name} " in module.__doc__
    assert "Reference:" in module.__doc__


@pytest.mark.parametrize("name", STUDIES)
def test_a_dry_run_lists_the_cells_and_does_nothing(name, tmp_path, capsys):
    run = importlib.import_module(f"experiments.{name}").run
    assert run(["--dry-run", "--run-dir", str(tmp_path / "study")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines and all(line.startswith("python -m experiments.") for line in lines)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize(
    "words", [("--jobs", "0"), ("--seeds", "1", "1"), ("--oracle-seeds", "1"), ("--nonsense", "1")]
)
def test_wrong_use_is_refused_in_a_sentence(name, words, tmp_path, capsys):
    run = importlib.import_module(f"experiments.{name}").run
    assert run([*words, "--run-dir", str(tmp_path / "study")]) == 2
    told = capsys.readouterr().err
    assert words[0] in told and "Traceback" not in told
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_it_runs_at_smoke_size_and_does_nothing_twice(name, tmp_path):
    words = [sys.executable, "-m", f"experiments.{name}", "--smoke", "--run-dir", str(tmp_path)]
    first = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr + first.stdout
    page = (tmp_path / "results.md").read_text()
    assert re.match(r"# .*\?\n\n\S", page), "the question, and an answer to it"
    assert f"python -m experiments.{name} --smoke" in page
    assert "nan" not in re.findall(r"\w+", page)
    for picture in re.findall(r"\]\((\S+\.png)\)", page):
        assert (tmp_path / picture).is_file()
    marks = json.loads((tmp_path / "finished.json").read_text())
    second = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"{len(marks)} of {len(marks)} cells have finished before" in second.stdout
    assert (tmp_path / "results.md").read_text() == page
