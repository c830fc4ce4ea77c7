"""A file of a model's folder that is another's, empty, cut, of another type, or a folder: each verb says which.

No traceback, exit code 1 or 2, and nothing changed; a verb that does not read a file does as it ever does.
"""

import shutil
import sqlite3
from pathlib import Path

import pytest
from living_cases import QUICK, root

from ugclu_jax.living.__main__ import main
from ugclu_jax.living.model import LivingModel

KEY = "e3"
VERBS = {
    "status": [],
    "history": [],
    "predict": [root() / "second.npz", "--limit", "2"],
    "export": ["-o", "OUT/net.safetensors"],
    "learn": [root() / "second.npz", "--method", "do_nothing"],
    "unlearn": ["--files", KEY, "--method", "do_nothing"],
    "audit": ["--references", "2"],
    "certificate": [],
    "verify": [],
    "rollback": ["--to", "9"],
    "purge": [],
}
WRITING = {"learn", "unlearn", "audit", "certificate", "rollback", "purge"}
NETWORK = set(VERBS) - {"history", "certificate", "rollback"}
"""Verbs that read the newest generation: `purge` scans its samples."""
FILES = {
    "ledger.sqlite": set(VERBS),  # but for history, where it is another's whole one
    "head.json": WRITING | {"verify"},
    "private.pem": WRITING | {"verify"},
    "public.pem": {"verify"},
    "generations/2/network.safetensors": NETWORK,
    "generations/2/buffer.safetensors": NETWORK,
    "generations/2/config.json": NETWORK,
    "certificates/2.json": {"verify"},
    "certificates/2.html": {"verify"},
    "references/0.npz": {"audit", "verify"},
}
"""By file, the verbs that must refuse it."""
PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two models of the same data, with seeds of their own, that have unlearned, certified and been audited."""
    place = tmp_path_factory.mktemp("foreign")
    shutil.copytree(root() / "model", place / "own")
    own = LivingModel.open(place / "own")
    own.export(place / "net.safetensors")
    start = {"weights": place / "net.safetensors", "settings": QUICK, "held_out": 40, "seed": 1}
    other, _ = LivingModel.init(place / "other", str(root() / "first.npz"), **start)
    for model, user in ((own, 4), (other, 5)):
        model.unlearn(where=f"user = {user}", method="finetune_remain")
        model.audit(references=2)
        model.certificate(2)
        assert model.verify().problems == ()
    assert not contents(place / "own").items() & contents(place / "other").items() - {(Path("lock"), b"")}
    return place


def path_in(folder, name):
    return next(folder.glob("references/*/0.npz")) if name.startswith("references") else folder / name


def another(path, other):
    shutil.copy(other, path)


def emptied(path, other):
    path.write_bytes(b"")


def cut(path, other):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def of_another_type(path, other):
    path.write_bytes(PICTURE)


def a_folder(path, other):
    path.unlink()
    path.mkdir()


DAMAGES = (another, emptied, cut, of_another_type, a_folder)


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("name", FILES)
def test_each_verb_says_which_file_and_what_is_wrong(name, damage, folders, tmp_path, capsys):
    own = tmp_path / "own"
    shutil.copytree(folders / "own", own)
    damage(path_in(own, name), path_in(folders / "other", name))
    before = contents(own)
    wrong = {}
    for verb, rest in VERBS.items():
        if verb not in FILES[name] or (verb, name, damage) == ("history", "ledger.sqlite", another):
            continue
        given = [str(each).replace("OUT", str(tmp_path)) for each in rest]
        code = main([verb, str(own), *given])
        out, err = capsys.readouterr()
        said = out + err
        named = path_in(own, name).name in said or (
            # A whole ledger of another model: what it says of the networks, or of the key, is not so.
            (name, damage) == ("ledger.sqlite", another) and ("generations/" in said or "private.pem" in said)
        )
        # Where there is no ledger there is no model, and the folder is what is named.
        named = named or ((name, damage) == ("ledger.sqlite", a_folder) and "no model is here" in said)
        if code not in (1, 2) or not named or "Traceback" in said or contents(own) != before:
            wrong[verb] = (code, said, contents(own) != before)
            shutil.rmtree(own)
            shutil.copytree(folders / "own", own)
            damage(path_in(own, name), path_in(folders / "other", name))
    assert wrong == {}


def test_a_verb_that_does_not_read_a_file_goes_on(folders, tmp_path, capsys):
    own = tmp_path / "own"
    shutil.copytree(folders / "own", own)
    another(own / "head.json", folders / "other" / "head.json")
    emptied(own / "private.pem", None)
    for verb in ("status", "history", "predict", "export"):
        given = [str(each).replace("OUT", str(tmp_path)) for each in VERBS[verb]]
        assert main([verb, str(own), *given]) == 0, capsys.readouterr()


def test_who_writes_on_never_signs_what_another_hand_has_made(folders, tmp_path, capsys):
    """The last request cut off from the ledger, or another key: a further request would have made it look whole."""
    own = tmp_path / "own"
    shutil.copytree(folders / "own", own)
    rows = sqlite3.connect(own / "ledger.sqlite", isolation_level=None)
    rows.execute("delete from entries where number = 3")
    rows.close()
    head = (own / "head.json").read_bytes()
    assert main(["learn", str(own), str(root() / "second.npz"), "--method", "do_nothing"]) == 2
    assert "the ledger does not end where head.json says" in capsys.readouterr().err
    assert (own / "head.json").read_bytes() == head
