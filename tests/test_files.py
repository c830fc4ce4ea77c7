"""Files that appear whole or not at all; leftovers go, what a living process writes stays, links are not followed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ugclu_jax import files

WRITING = """
import sys, pathlib
from ugclu_jax import files
folder = pathlib.Path(sys.argv[1])
with files.replacing(folder / "file") as file, files.partial_folder(folder) as made:
    file.write(b"half"), (made / "half").write_bytes(b"half")
    print("writing", flush=True)
    sys.stdin.read()
"""


def stop(source, target):
    raise KeyboardInterrupt


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "file"
    files.write(path, "old")
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "replace", stop)
        with pytest.raises(KeyboardInterrupt):
            files.write(path, "new and longer")
    assert path.read_text() == "old"
    files.write(path, "new")
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_a_new_file_has_the_rights_that_others_get(tmp_path):
    (tmp_path / "plain").write_text("")
    files.write(tmp_path / "file", "")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("nothing", [True, False])
def test_a_link_is_replaced_and_its_target_is_never_written(tmp_path, nothing):
    target, link = tmp_path / "target", tmp_path / "link"
    if not nothing:
        target.write_text("precious")
    link.symlink_to(target)
    files.write(link, "new")
    assert link.read_text() == "new" and not link.is_symlink()
    assert not target.exists() if nothing else target.read_text() == "precious"


def test_a_planted_name_of_a_partial_file_is_not_taken(tmp_path, monkeypatch):
    names = iter(["taken", "taken", "free"])
    monkeypatch.setattr(files.secrets, "token_hex", lambda _: next(names))
    (tmp_path / f"{files.PARTIAL}taken").symlink_to(tmp_path / "target")
    for _ in range(2):
        with pytest.raises(FileExistsError):
            files.write(tmp_path / "file", "new")
    files.write(tmp_path / "file", "new")
    assert not (tmp_path / "target").exists()


def test_what_a_living_process_writes_stays_and_what_a_dead_one_left_goes(tmp_path):
    """Nor does the living one notice the sweep."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITING, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "PYTHONPATH": "."},
    )
    assert process.stdout is not None and process.stdout.readline() == "writing\n"
    half = sorted(tmp_path.iterdir())
    assert len(half) == 2 and all(path.name.startswith(files.PARTIAL) for path in half)
    assert files.sweep(tmp_path) == [] and sorted(tmp_path.iterdir()) == half
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert sorted(files.sweep(tmp_path)) == half and list(tmp_path.iterdir()) == []


def test_links_named_as_partial_are_removed_and_not_followed(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "kept").write_text("kept")
    (tmp_path / f"{files.PARTIAL}a").symlink_to(tmp_path / "real")
    (tmp_path / f"{files.PARTIAL}b").symlink_to("/nonexistent")
    assert len(files.sweep(tmp_path)) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["real"] and (tmp_path / "real" / "kept").exists()


def test_only_plain_files_are_opened(tmp_path):
    (tmp_path / "plain").write_text("content")
    with files.open_plain(tmp_path / "plain") as file:
        assert file.read() == b"content"
    (tmp_path / "link").symlink_to(tmp_path / "plain")
    os.mkfifo(tmp_path / "pipe")
    for name, why in (("link", "a symbolic link"), ("pipe", "not a plain file"), ("", "not a plain file")):
        with pytest.raises(OSError, match=why):
            files.open_plain(tmp_path / name)
