"""What still holds traces of the unlearned is listed, removed, and searched for; what others own stays."""

import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from test_report import one_line

from experiments import purge
from ugclu_jax import bank, checkpoints, data, seals
from ugclu_jax.data import cache
from ugclu_jax.data.record import content_digest, record
from ugclu_jax.harness import remains
from ugclu_jax.harness.run_folder import RunFolder
from ugclu_jax.harness.scenarios import names_of
from ugclu_jax.report import shown
from ugclu_jax.requests import Request, to_json

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # see test_checkpoints.py
IMAGES = np.random.default_rng(0).integers(0, 256, (24, 4, 4, 1), dtype=np.uint8)
GONE = np.arange(4)
STREAM = [
    Request("learn", "first", np.arange(10)),
    Request("learn", "second", np.arange(10, 16)),
    Request("unlearn", "gone", GONE, held_out=[1]),
    Request("learn", "third", [16, 17]),
]
DATASET = data.from_arrays("toy", IMAGES[:18], np.arange(18) % 2, IMAGES[18:], np.arange(6) % 2)
TREE = [np.ones(3, np.float32)]


def state_of(rows) -> dict:
    inputs = np.zeros((12, 4, 4, 1), np.uint8)
    inputs[: len(rows)] = IMAGES[rows]
    return {"weights": jnp.ones(3), "inputs": jnp.asarray(inputs)}


def make_run(place: Path, requests: tuple[int, ...] = (1, 2, 3)) -> RunFolder:
    """A run as it lies on disk once the checkpoints of some requests are there, with its caches beside it."""
    folder, known = RunFolder(place / "run"), record(DATASET, DATASET.digests())
    examples = known.to_csv()
    made_of = {"data": {**known.facts, "examples_csv": content_digest(examples)}}
    folder.open({"methods": ["er"], "seeds": [0], "made_of": made_of}, examples, to_json(STREAM, names_of(DATASET)))
    for request in requests:
        whose = {**folder.identity("er", 0, known.facts["fingerprint"]), "request": request}
        checkpoints.save(folder.checkpoints("er", 0), request, state_of([8, 9, 12]), {"identity": whose})
    for name in ("used", "anothers"):
        for seed in range(3):
            bank.write(bank.file_of(place / "oracles" / name, seed), TREE)
    folder.note_caches(bank=place / "oracles" / "used")
    folder.note_caches(data=place / "data")
    for name, inputs in (("with", IMAGES[:18]), ("without", IMAGES[8:18]), ("test", np.roll(IMAGES[18:], 1, axis=0))):
        made = data.from_arrays(name, inputs, np.arange(len(inputs)) % 2, IMAGES[20:], [0, 1, 0, 1])
        cache.cached(place / "data", name, {}, lambda _, made=made: made)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    place = tmp_path_factory.mktemp("remains")
    make_run(place)
    return place


@pytest.fixture
def place(made, tmp_path) -> Path:
    """A copy of the run; what it noted of caches leads to the copy too."""
    shutil.copytree(made, tmp_path / "copy")
    note = (made / "run" / "caches.json").read_text().replace(str(made), str(tmp_path / "copy"))
    seals.write(tmp_path / "copy" / "run", "caches.json", note.encode())
    return tmp_path / "copy"


def listed(place) -> list[tuple[str, str]]:
    return sorted((each.what, each.path.name.split("-")[0]) for each in remains.remains(place / "run"))


LEFT = [
    ("earlier weights", "1"),
    ("oracles", "used"),
    ("prepared inputs", "test"),
    ("prepared inputs", "with"),
]


def test_weights_oracles_and_prepared_inputs_remain(place):
    assert listed(place) == LEFT
    assert all(each.bytes > 100 for each in remains.remains(place / "run"))


def test_a_purge_removes_them_and_nothing_else(place, capsys):
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    assert purge.run([str(place / "run"), "--dry-run"]) == 0
    assert "4 things hold traces of 5 unlearned examples" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file() and path.name != "lock"} == before
    assert purge.run([str(place / "run")]) == 0
    said = capsys.readouterr().out
    assert "4 things removed; the scan of every array that is left finds none of 5 unlearned examples" in said
    assert said.count("removed  ") == 4 and str(place / "oracles" / "used") in said
    assert listed(place) == [] and len(list((place / "oracles" / "anothers").iterdir())) == 3
    assert [entry.name.split("-")[0] for entry in cache.entries(place / "data")] == ["without"]
    folder = RunFolder(place / "run")
    assert checkpoints.requests(folder.checkpoints("er", 0)) == [2, 3], "the run goes on from the last"
    gone = {path for path in before if not path.exists()}
    assert all(any(part in str(path) for part in ("checkpoints/1/", "used", "/with-", "/test-")) for path in gone)
    assert not list(place.rglob(".partial-*"))
    assert purge.run([str(place / "run")]) == 0 and "0 things removed" in capsys.readouterr().out


def test_shown_examples_go_and_the_report_is_written_again_without_them(place, capsys):
    run = place / "run"
    page = run / "report.html"
    RunFolder(run).write_metrics([one_line(method="er", request=2, kind="unlearn", name="gone")])
    shown.write(run, 2, [shown.Shown(0, "a", shown.TEXT, "what is gone")])
    page.write_text("<table data-unlearned>what is gone</table>")
    of_page = [("shown examples", "2.json"), ("shown examples", "report.html")]
    assert listed(place) == [*LEFT, *of_page]
    assert purge.run([str(run)]) == 0 and "6 things removed" in capsys.readouterr().out
    assert listed(place) == [] and not shown.files_of(run)
    assert "what is gone" not in page.read_text() and page.read_text().rstrip().endswith("</html>")
    page.write_text("<table data-unlearned>")
    (run / "metrics.jsonl").unlink()
    assert purge.run([str(run)]) == 1
    assert "all of it was removed, but the report cannot be written again" in capsys.readouterr().err
    assert not page.exists()


def test_what_was_learned_again_or_equals_another_is_not_sought(place):
    known = record(DATASET, DATASET.digests())
    assert len(remains.forgotten(known, STREAM[:2]).digests) == 0
    assert len(remains.forgotten(known, STREAM).digests) == 5
    assert len(remains.forgotten(known, [*STREAM, Request("learn", "again", GONE[:3])]).digests) == 2
    twin = known._replace(digests=known.digests.copy())
    twin.digests[9] = twin.digests[0]
    assert len(remains.forgotten(twin, STREAM).digests) == 4


def test_before_the_request_is_served_nothing_remains(tmp_path):
    make_run(tmp_path, requests=(0, 1))
    assert listed(tmp_path) == []


def test_what_is_no_run_has_no_remains(tmp_path, capsys):
    assert remains.remains(tmp_path) is None
    assert purge.run([str(tmp_path)]) == 2 and "there is no run: it has no config.json" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_removed_where_the_newest_checkpoint_is_damaged(place, capsys):
    newest = RunFolder(place / "run").checkpoints("er", 0) / "3"
    for path in newest.rglob("manifest*"):
        path.unlink()
    assert purge.run([str(place / "run")]) == 1
    said = capsys.readouterr().err
    assert f"checkpoint {newest} cannot be read" in said and "Nothing was removed" in said and "Traceback" not in said
    assert listed(place) == LEFT


def test_a_run_in_use_is_refused(place, capsys):
    with RunFolder(place / "run").lock():
        assert purge.run([str(place / "run")]) == 2
    assert "is in use by process" in capsys.readouterr().err and listed(place) == LEFT


def test_the_scan_sees_what_a_purge_left(place, capsys, monkeypatch):
    """A last checkpoint whose buffer still holds an unlearned example, as numbers of another type."""
    folder = RunFolder(place / "run")
    whose = {**folder.identity("er", 0, record(DATASET, DATASET.digests()).facts["fingerprint"]), "request": 3}
    for dtype, scale in ((np.uint8, 1), (np.float32, 255), (np.float16, 1)):
        state = {"weights": jnp.ones(3), "inputs": (IMAGES[GONE] / scale).astype(dtype)}
        checkpoints.save(folder.checkpoints("er", 0), 3, state, {"identity": whose})
        assert purge.run([str(place / "run")]) == 1
        assert f"checkpoints{'/'}3: delete it by hand" in capsys.readouterr().err


def test_damage_is_named(place, capsys):
    (place / "run" / "caches.json").write_text("{")
    assert purge.run([str(place / "run")]) == 2
    assert "caches.json is damaged" in capsys.readouterr().err
    (place / "run" / "caches.json").unlink()
    assert purge.run([str(place / "run")]) == 2
    assert "caches.json is gone; put it back" in capsys.readouterr().err
    (place / "run" / "stream.json").write_text("{")
    assert purge.run([str(place / "run")]) == 2
    assert "stream" in capsys.readouterr().err
