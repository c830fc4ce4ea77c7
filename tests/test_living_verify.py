"""`verify` sees every alteration: of a byte anywhere in the folder, of a row, of a signature; so does a certificate."""

import json
import random
import shutil
import sqlite3

import pytest
from living_cases import root

from ugclu_jax.living import certificate, chain, signing, verified
from ugclu_jax.living.model import LivingModel
from ugclu_jax.living.results import Verified

FLIPS, ROWS = 64, 12


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A model that has learned, unlearned and certified."""
    folder = tmp_path_factory.mktemp("verify") / "model"
    shutil.copytree(root() / "model", folder)
    model = LivingModel.open(folder)
    model.learn(str(root() / "second.npz"), name="week 2", method="finetune")
    model.unlearn(where="user = 4", ticket="DSR-1", method="finetune_remain")
    model.learn(str(root() / "second.npz"), method="finetune", relearn=True)
    model.certificate(3)
    assert model.verify().problems == ()
    return folder


@pytest.fixture
def copy(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "model")
    return LivingModel.open(tmp_path / "model")


def seen(folder) -> tuple[str, ...]:
    """What a start of `verify` finds; a folder that cannot even be opened is found too."""
    try:
        return LivingModel.open(folder).verify().problems
    except (ValueError, OSError) as error:
        return (str(error),)


def test_what_was_not_changed_is_whole_and_says_what_nobody_can_know(copy):
    found = copy.verify()
    assert found.problems == () and len(found.checked) >= 8 and any("backups" in each for each in found.unknown)


def test_a_flipped_byte_anywhere_is_seen(whole, tmp_path):
    """Bytes are drawn by file first, so that small files are hit as often as large ones."""
    draw, missed = random.Random(0), []
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file() and path.stat().st_size)
    assert len(files) >= 10
    for number in range(FLIPS):
        folder = tmp_path / "model"
        shutil.copytree(whole, folder)
        path = folder / files[number % len(files)]
        content = bytearray(path.read_bytes())
        place = draw.randrange(len(content))
        content[place] ^= 1 << draw.randrange(8)
        path.write_bytes(content)
        if not seen(folder):
            missed.append((files[number % len(files)], place))
        shutil.rmtree(folder)
    assert missed == []


def rewrite(folder, statements):
    other = sqlite3.connect(folder / "ledger.sqlite", isolation_level=None)
    for text in statements:
        other.execute(text)
    other.close()


REMOVED = [f"delete from entries where number = {n}" for n in (1, 2, 3, 4)]
REMOVED += [f"delete from examples where number = {n}" for n in (0, 20, 149, 209)]
MOVE = "update {} set number = {} where number = {}"
SWAPPED = [
    [MOVE.format(table, new, old) for old, new in ((a, -1), (b, a), (-1, b))]
    for table, a, b in (("entries", 2, 3), ("entries", 3, 4), ("examples", 5, 6), ("examples", 100, 180))
]


@pytest.mark.parametrize("statements", [[each] for each in REMOVED] + SWAPPED)
def test_a_row_that_is_removed_or_moved_is_seen(statements, copy):
    rewrite(copy.store.path, statements)
    assert seen(copy.store.path)


@pytest.mark.parametrize("last", [True, False], ids=["with its examples", "alone"])
def test_the_end_of_the_ledger_cannot_be_cut_off(last, copy):
    """Rows of the last request and all that it brought, as if it had never been."""
    statements = ["delete from entries where number = 4"]
    if last:
        statements += [
            "delete from examples where learned_by = 4",
            "update examples set left_by = null where left_by = 4",
        ]
    rewrite(copy.store.path, statements)
    problems = " ".join(seen(copy.store.path))
    assert (
        "the ledger does not end where" in problems and "generation 4 is on disk, and no entry leads to it" in problems
    )


def resigned(content, signer):
    unsigned = {name: value for name, value in content.items() if name != "signature"} | {"public_key": signer.public}
    return {**unsigned, "signature": signer.sign(chain.canonical(unsigned))}


def test_another_key_is_seen(copy, tmp_path):
    (tmp_path / "other").mkdir()
    other, place, public = signing.create(tmp_path / "other"), copy.store.path, copy.status().public_key
    path = place / "certificates" / "3.json"
    forged = resigned(json.loads(path.read_text()), other)
    for name, text in (("3.json", certificate.as_text(forged)), ("3.html", certificate.as_html(forged, other))):
        (tmp_path / name).write_text(text)
        assert verified.of_certificate(tmp_path / name, other.public).problems == (), "the forger's key says yes"
        assert verified.of_certificate(tmp_path / name, public).problems
        (place / "certificates" / name).write_text(text)
    assert any("another public key" in each for each in copy.verify().problems)


@pytest.mark.parametrize("names", [("public.pem",), ("private.pem",), ("public.pem", "private.pem")])
def test_a_folder_with_anothers_key_is_seen(names, copy, tmp_path):
    (tmp_path / "other").mkdir()
    other = signing.create(tmp_path / "other")
    for name in names:
        shutil.copy(tmp_path / "other" / name, copy.store.path / name)
    assert copy.verify().problems
    assert any("another key than the one given" in each for each in copy.verify(other.public).problems)


def test_a_third_person_checks_a_certificate(copy, tmp_path):
    paths = copy.certificate(3)
    public = signing.read_public(copy.store.path / "public.pem")
    for path in paths:
        assert verified.of_certificate(path, public).problems == ()
        assert verified.of_certificate(path, public, copy.store).problems == ()
    content = json.loads(paths[0].read_text())
    assert content["entry"]["body"]["ticket"] == "DSR-1" and "not proof" in " ".join(content["statements"])
    page = paths[1].read_text()
    assert "<h1>Certificate of request 3" in page and content["signature"] in page


@pytest.mark.parametrize("suffix", ["json", "html"])
def test_a_changed_certificate_is_seen(suffix, copy, tmp_path):
    draw, public = random.Random(1), copy.status().public_key
    text = (copy.store.path / "certificates" / f"3.{suffix}").read_bytes()
    for _ in range(40):
        content = bytearray(text)
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        (tmp_path / f"it.{suffix}").write_bytes(content)
        assert verified.of_certificate(tmp_path / f"it.{suffix}", public).problems


def test_another_folder_is_not_the_one_of_the_certificate(copy):
    path = copy.certificate(3)[0]
    other = LivingModel.open(root() / "model")
    assert verified.of_certificate(path, copy.status().public_key, other.store).problems


def test_a_foreign_file_and_bytes_of_the_unlearned_are_seen(copy):
    import numpy as np

    stored = np.load(root() / "first.npz")
    place = copy.store.path
    (place / "notes.txt").write_bytes(b"picture: " + stored["x"][stored["user"] == 4][0].tobytes())
    source = str(root() / "first.npz")
    found = copy.verify(sources=[source]).problems
    assert any("notes.txt is no file of a model" in each for each in found)
    assert any("holds the bytes of e4" in each for each in found)
    (place / "notes.txt").unlink()
    assert copy.verify(sources=[source]).problems == ()
    (place / "lock").write_text("someone")
    assert any("nobody writes" in each for each in copy.verify().problems)


def test_results_are_typed(copy):
    assert isinstance(copy.verify(), Verified)
