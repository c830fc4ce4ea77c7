"""Bars of `ugclu` on a terminal: how far a request, a training, networks of an audit are; elsewhere no byte of them."""

import io
import json
import shutil

import pytest
from living_cases import QUICK, root
from rich.console import Console

from ugclu_jax.living import run
from ugclu_jax.living.__main__ import main


@pytest.fixture
def said(monkeypatch):
    """`said(terminal, *arguments)`: what a verb prints where its output is a terminal, or is none."""

    def work(terminal, *arguments):
        out = Console(file=io.StringIO(), force_terminal=terminal, width=100, color_system=None)
        monkeypatch.setattr(run, "consoles", lambda: (out, out))
        assert main([str(each) for each in arguments]) == 0, out.file.getvalue()
        return out.file.getvalue()

    return work


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(root() / "model", tmp_path / "model")
    return tmp_path / "model"


def test_a_terminal_shows_how_far_each_verb_is(said, folder, tmp_path):
    (tmp_path / "settings.json").write_text(json.dumps(QUICK))
    made = ["init", tmp_path / "other", "--data", root() / "first.npz", "--settings", tmp_path / "settings.json"]
    assert "train from scratch" in (shown := said(True, *made)) and "4/4" in shown
    second = ["learn", folder, root() / "second.npz", "--method", "ug_clu"]
    assert "learn by ug_clu" in (shown := said(True, *second)) and "4/4" in shown and "loss " in shown
    gone = ["unlearn", folder, "--where", "user = 4", "--method", "finetune_remain"]
    assert "unlearn by finetune_remain" in said(True, *gone)
    shown = said(True, "audit", folder, "--references", "2", "--oracle")
    assert "2 reference networks" in shown and "3 oracles" in shown and "This is evidence" in shown


def test_elsewhere_and_beside_json_there_is_no_bar(said, folder):
    gone = ["unlearn", folder, "--files", "e3", "--method", "finetune_remain"]
    shown = said(False, *gone)
    assert "unlearn by" not in shown and "\x1b" not in shown and "Entry 2: unlearned" in shown
    shown = said(True, "unlearn", folder, "--files", "e7", "--retrain", "--json")
    assert json.loads(shown)["entry"] == 3
