"""`ugclu`: what it prints, asks, refuses and returns, verb by verb."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from living_cases import root

from ugclu_jax.living.__main__ import main
from ugclu_jax.living.verbs import VERBS

FAST = ["--method", "finetune_remain"]


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(root() / "model", tmp_path / "model")
    return str(tmp_path / "model")


def said(capsys, *arguments, code=0):
    assert main([str(each) for each in arguments]) == code
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err, "no colour where there is no terminal"
    return out if code != 2 else err


def test_a_request_from_dry_run_to_certificate(folder, capsys, tmp_path):
    where = ["unlearn", folder, "--where", "user = 4"]
    dry = said(capsys, *where, "--dry-run")
    assert "17 examples of user = 4: " in dry and "Cost about" in dry
    assert said(capsys, "history", folder).count("\n") == 2, "nothing was done"
    done = said(capsys, *where, *FAST, "--ticket", "DSR-2291", "--by", "ann")
    assert "Entry 2: unlearned" in done and "by finetune_remain" in done
    assert "DSR-2291" in said(capsys, "history", folder)
    assert "Unlearned:   17" in said(capsys, "status", folder)
    audit = said(capsys, "audit", folder, "--last")
    assert "This is evidence, not proof" in audit
    page = said(capsys, "certificate", folder, "2")
    assert "2.html" in page
    shutil.copy(Path(folder) / "public.pem", tmp_path / "mine.pem")
    for path in (folder, f"{folder}/certificates/2.json", f"{folder}/certificates/2.html"):
        assert "All is as it was written." in said(capsys, "verify", path, "--key", tmp_path / "mine.pem")
    certificate = f"{folder}/certificates/2.json"
    assert "in the folder" in said(capsys, "verify", certificate, "--key", tmp_path / "mine.pem", "--folder", folder)
    (Path(folder) / "generations" / "2" / "config.json").write_text("{}")
    assert "PROBLEM:" in said(capsys, "verify", folder, code=1)


def test_a_pipe_is_never_asked(folder, capsys, monkeypatch):
    """Retraining of 130 small examples is cheaper than the default: it is taken, and said."""
    asked = ["unlearn", folder, "--class", "c1"]
    found = json.loads(said(capsys, *asked, "--dry-run", "--json"))
    done = said(capsys, *asked)
    if found["estimate"]["retraining"] < found["estimate"]["evaluations"]:
        assert "retraining is cheaper" in done and "without a terminal to ask at" in done and "by retrain" in done
    else:
        assert "it is cheaper than retraining" in done and "by ug_clu" in done


JSON = [
    ["learn", root() / "second.npz", "--method", "finetune"],
    ["unlearn", "--files", "e3", "e7", *FAST],
    ["status"],
    ["history"],
    ["verify"],
    ["predict", root() / "second.npz", "--limit", "2"],
    ["purge", "--dry-run"],
    ["certificate"],
]


@pytest.mark.parametrize("arguments", JSON, ids=lambda arguments: arguments[0])
def test_json_is_all_that_is_printed(arguments, folder, capsys):
    verb, *rest = arguments
    assert json.loads(said(capsys, verb, folder, *rest, "--json"))


def test_export_and_rollback(folder, capsys, tmp_path):
    said(capsys, "export", folder, "-o", tmp_path / "out.safetensors")
    assert (tmp_path / "out.safetensors").exists() and (tmp_path / "out.json").exists()
    said(capsys, "learn", folder, root() / "second.npz", "--method", "finetune", "--name", "week 2")
    assert "took back" in said(capsys, "rollback", folder, "--to", "1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["status", "nowhere"], "nowhere: no model is here: make one with ugclu init"),
        (["unlearn", "F"], "nothing is given; a request has one of where, ids, files, class"),
        (["unlearn", "F", "--where", "usr = 4"], "asks for 'usr', which is no column"),
        (["unlearn", "F", "--class", "c1", "--retrain", "--method", "salun"], "give one of them"),
        (["unlearn", "F", "--class", "c1", "--method", "salum"], "did you mean salun"),
        (["learn", "F", "nowhere"], "nowhere: there is no such folder or file to learn from"),
        (["learn", "F", str(root() / "first.npz")], "has nothing to learn"),
        (["rollback", "F", "--to", "1"], "is no state that can be gone back to"),
        (["certificate", "F", "7"], "there is no entry 7"),
        (["audit", "F"], "nothing was unlearned yet"),
        (["audit", "F", "1", "--last"], "entry 1 and --last are given"),
        (["verify", "F/public.pem"], "is a certificate, which is checked by the model's public key"),
        (["predict", "F", str(root() / "first.txt")], "there is no such folder or file"),
        (["init", "F", "--data", str(root() / "first.npz")], "is there already"),
        (["init", "G", "--data", str(root() / "first.npz"), "--model", "mpl"], "did you mean mlp"),
    ],
)
def test_what_is_refused_is_said_in_a_sentence(arguments, message, folder, capsys, tmp_path):
    given = [each.replace("F", folder, 1) if each[:1] == "F" else each for each in arguments]
    given = [str(tmp_path / "G") if each == "G" else each for each in given]
    text = said(capsys, *given, code=2)
    assert message in " ".join(text.split()) and text.startswith("Error: ") and "Traceback" not in text
    assert not (tmp_path / "G").exists()


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb, capsys):
    assert main([verb, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"usage: ugclu {verb}" in text and "--json" in text


def test_help_waits_for_nothing_heavy():
    command = [sys.executable, "-X", "importtime", "-m", "ugclu_jax.living", "unlearn", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent)
    packages = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert "tyro" in packages and not packages & {"sklearn", "matplotlib", "orbax", "duckdb", "tensorflow_datasets"}


def test_the_shell_completes(capsys):
    assert main(["--tyro-print-completion", "bash"]) == 0
    assert "unlearn" in capsys.readouterr().out
