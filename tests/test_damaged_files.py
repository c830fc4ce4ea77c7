"""A flip, a truncation, a deletion, a swap, another run's file, in every kind of file: the right result or a refusal.

A damaged run is started again, reported, and purged. What it finds may then cost work, never be wrong: the lines are
those of the undamaged run, or the exit code is 1 or 2 after one sentence.
"""

import contextlib
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_outputs import put
from test_report import one_line

from ugclu_jax import bank, data, seals
from ugclu_jax.data import cache
from ugclu_jax.data.record import content_digest, record
from ugclu_jax.files import DamagedFileError
from ugclu_jax.harness.cli import main
from ugclu_jax.harness.run_folder import RunFolder
from ugclu_jax.harness.scenarios import names_of
from ugclu_jax.report import auditable, evidence, outputs, shown, traces
from ugclu_jax.report.metrics import read_metrics
from ugclu_jax.requests import Request, to_json

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # see test_checkpoints.py
SMALL = ["--smoke", "--sequence", "L1 L2 U1", "--methods", "er", "--model", "mlp"]
Damage = Callable[[Path, Path], None]
"""Of a file, given another run's file of the same kind."""


def flip(where: float) -> Damage:
    def damage(path: Path, other: Path) -> None:
        content = bytearray(path.read_bytes())
        content[int(where * (len(content) - 1))] ^= 0x11
        path.write_bytes(content)

    return damage


def cut(path: Path, other: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path, other: Path) -> None:
    path.write_bytes(b"")


def delete(path: Path, other: Path) -> None:
    path.unlink()


def swap(path: Path, other: Path) -> None:
    shutil.copyfile(other, path)


def garble(path: Path, other: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(path.stat().st_size))


def nest(path: Path, other: Path) -> None:
    path.write_text("[" * 200_000)


def link(path: Path, other: Path) -> None:
    path.unlink()
    path.symlink_to(other)


DAMAGES: dict[str, Damage] = {
    "flip at the start": flip(0.02),
    "flip in the middle": flip(0.5),
    "flip near the end": flip(0.97),
    "cut": cut,
    "empty": empty,
    "deleted": delete,
    "another run's": swap,
    "garbled": garble,
    "nested": nest,
    "a link to another run's": link,
}
RUN_FILES = ["config.json", "stream.json", "examples.csv", "metrics.jsonl", "digests.json", "caches.json"]
MODEL, ORACLES, SHOWN = outputs.model_file("er", 0, 2), outputs.oracle_file(2), shown.name_of(2)
OUTPUTS = [MODEL, ORACLES, SHOWN, evidence.FILE]
"""What a report is made of beside the metrics."""
KINDS = [*RUN_FILES, *OUTPUTS, "runs/er/seed-0/traces/1.npz", "report.html", "lock", "oracles"]


def start(place: Path, seed: int = 0) -> tuple[int, str]:
    """Exit code and what was said as an error."""
    folders = ["--run-dir", str(place / "run"), "--cache-dir", str(place / "cache")]
    return said(lambda: main("task_aware", "", [*SMALL, "--seeds", str(seed), *folders]))


def said(work: Callable[[], int]) -> tuple[int, str]:
    errors = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
        code = work()
    return code, errors.getvalue()


def lines_of(place: Path) -> list[dict]:
    lines = [json.loads(line) for line in (place / "run" / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "timing"} for line in lines]


def one_sentence(code: int, text: str) -> None:
    assert code in (1, 2), text
    assert re.match(r"(Error|Run failed):", text) and "Traceback" not in text, text


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[Path, Path]:
    """A finished run, and another one, of another seed."""
    places = tuple(tmp_path_factory.mktemp(name) for name in ("one", "other"))
    assert start(places[0])[0] == 0 and start(places[1], seed=1)[0] == 0
    return places


@pytest.fixture
def damaged(runs, tmp_path) -> Callable[[str, str], Path]:
    """A copy of the first run with one kind of damage to one kind of file, and the path of that file."""

    def make(kind: str, damage: str) -> Path:
        for name in ("run", "cache"):
            shutil.copytree(runs[0] / name, tmp_path / name)
        one, other = tmp_path / "run" / kind, runs[1] / "run" / kind.replace("seed-0", "seed-1")
        if kind == "oracles":
            one, other = sorted((tmp_path / "cache" / "oracles").glob("*/0.npz"))[:2]
        DAMAGES[damage](one, other)
        return one

    return make


# What is read, by those who read it.


def tree_of(number: float) -> list[np.ndarray]:
    return [np.full(40, number, np.float32)]


STORED_OUTPUTS = {
    "outputs": MODEL,
    "outputs of oracles": ORACLES,
    "outputs of counterfactuals": outputs.counterfactual_file("er", True, 0, 2),
}


def store(place: Path, number: int) -> None:
    """A folder of a run and its caches, as they lie on disk, without a run."""
    folder, images = RunFolder(place / "run"), np.random.default_rng(number).integers(0, 256, (12, 4, 4, 1), np.uint8)
    made = data.from_arrays("toy", images[:8], np.arange(8) % 2, images[8:], np.arange(4) % 2)
    known = record(made, made.digests())
    settings = {"seeds": [number], "made_of": {"data": {**known.facts, "examples_csv": content_digest(known.to_csv())}}}
    folder.open(settings, known.to_csv(), to_json([Request("learn", "all", np.arange(8 - number))], names_of(made)))
    folder.write_metrics([one_line(method="er", seed=number, request=request) for request in range(3)])
    folder.write_trace("er", 0, 1, {"task_losses": np.arange(9.0) + number})
    for name in STORED_OUTPUTS.values():
        put(place / "run", name, unlearned=np.full((3, 2), number, np.float32), test=np.ones((4, 2), np.float32))
    shown.write(place / "run", 2, [shown.Shown(number, "a", shown.TEXT, "what is gone")])
    evidence.write(place / "run", [evidence.Evidence("er", 2, (number,), 2, undefined="one seed is no distribution")])
    folder.note_caches(data=place / "data", bank=place / f"bank-{number}")
    bank.write(bank.file_of(place / "oracles" / "bank", number), tree_of(number))
    cache.cached(place / "data", "toy", {"number": number}, lambda _: made)


def entry_of(place: Path, number: int) -> Path:
    return cache.entry_path(place / "data", "toy", {"number": number})


FILES: dict[str, Callable[[Path, int], Path]] = {
    **{name: lambda place, number, name=name: place / "run" / name for name in RUN_FILES},
    **{kind: lambda place, number, name=name: place / "run" / name for kind, name in STORED_OUTPUTS.items()},
    "shown": lambda place, number: place / "run" / SHOWN,
    "evidence": lambda place, number: place / "run" / evidence.FILE,
    "trace": lambda place, number: place / "run" / "runs/er/seed-0/traces/1.npz",
    "oracle": lambda place, number: bank.file_of(place / "oracles" / "bank", number),
    "manifest": lambda place, number: entry_of(place, number) / "manifest.json",
    "inputs": lambda place, number: entry_of(place, number) / "train_inputs.npy",
    "labels": lambda place, number: entry_of(place, number) / "test_labels.npy",
    "keys": lambda place, number: entry_of(place, number) / "train_keys.npy",
}
READERS: dict[str, Callable[[Path], Any]] = {
    "config.json": lambda place: (RunFolder(place / "run").read_config(), auditable.read_config(place / "run")),
    "stream.json": lambda place: RunFolder(place / "run").read_stream(),
    "examples.csv": lambda place: RunFolder(place / "run").read_record().to_csv(),
    "metrics.jsonl": lambda place: read_metrics(place / "run"),
    "caches.json": lambda place: RunFolder(place / "run").noted_caches(),
    "digests.json": lambda place: (RunFolder(place / "run").read_stream(), read_metrics(place / "run")),
    **{kind: lambda place, name=name: outputs.read(place / "run", name) for kind, name in STORED_OUTPUTS.items()},
    "shown": lambda place: shown.read(place / "run", 2),
    "evidence": lambda place: evidence.read(place / "run"),
    "trace": lambda place: traces._read_trace(place / "run", "runs/er/seed-0/traces/1.npz"),
    "oracle": lambda place: [
        leaf.tolist() for leaf in bank.read(bank.file_of(place / "oracles" / "bank", 0), tree_of(0))
    ],
    **dict.fromkeys(
        ("manifest", "inputs", "labels", "keys"),
        lambda place: cache.cached(place / "data", "toy", {"number": 0}, lambda _: 1 / 0).fingerprint(),
    ),
}


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> tuple[Path, Path]:
    places = tuple(tmp_path_factory.mktemp(name) for name in ("zero", "one"))
    for number, place in enumerate(places):
        store(place, number)
    return places


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", FILES)
def test_what_is_damaged_is_refused_by_name(kind, damage, stored, tmp_path):
    """Or read as it was: a flipped byte may be one that no reader looks at."""
    place, file = tmp_path / "place", FILES[kind]
    shutil.copytree(stored[0], place)
    path = file(place, 0)
    DAMAGES[damage](path, file(stored[1], 1))
    try:
        found = READERS[kind](place)
    except (ValueError, OSError, bank.DamagedCacheError) as error:
        assert path.name in str(error) or kind == "digests.json", error
    else:
        # A report without a trace, or without examples, has a sentence in its place.
        without = damage == "deleted" and {"trace": {}, "shown": []}.get(kind) == found
        assert repr(found) == repr(READERS[kind](stored[0])) or without


# Runs.


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_run_goes_on_rightly_or_is_refused(kind, damage, damaged, runs, tmp_path):
    damaged(kind, damage)
    for folder in (tmp_path / "run").glob("runs/*/*/checkpoints/2"):
        shutil.rmtree(folder)  # so that there is work left, and oracles are asked for
    code, text = start(tmp_path)
    if code:
        one_sentence(code, text)
    else:
        assert lines_of(tmp_path) == lines_of(runs[0])


GONE = {
    MODEL: "er: outputs of seed 0 are not in the run&#39;s folder.",
    ORACLES: f"the outputs of the oracles ({ORACLES}) are not in the run&#39;s folder.",
    SHOWN: "No unlearned examples are shown: none were kept",
}
"""What a report says in its place."""


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", OUTPUTS)
def test_what_a_finished_run_left_is_as_it_was_or_named(kind, damage, damaged, runs, tmp_path):
    damaged(kind, damage)
    code, text = start(tmp_path)
    page = (tmp_path / "run" / "report.html").read_text()
    if code:
        one_sentence(code, text)
        assert kind in text, text
    elif damage == "deleted" and kind in GONE:
        assert GONE[kind] in page and GONE[kind] not in (runs[0] / "run" / "report.html").read_text()
    else:
        assert (tmp_path / "run" / kind).read_bytes() == (runs[0] / "run" / kind).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["another seed's", "renamed"])
def test_a_checkpoint_of_elsewhere_is_passed_over_by_name(name, runs, tmp_path, capsys):
    for part in ("run", "cache"):
        shutil.copytree(runs[0] / part, tmp_path / part)
    folder = RunFolder(tmp_path / "run").checkpoints("er", 0)
    source = RunFolder(runs[1] / "run").checkpoints("er", 1) / "2" if name == "another seed's" else folder / "1"
    shutil.rmtree(folder / "2")
    shutil.copytree(source, folder / "2")
    folders = ["--run-dir", str(tmp_path / "run"), "--cache-dir", str(tmp_path / "cache")]
    assert main("task_aware", "", [*SMALL, *folders]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert f"checkpoint {folder}/2 belongs elsewhere (" in text and "falling back to the one before" in text
    assert ("seed 1 there, 0 here" in text) == (name == "another seed's")
    assert ("request 1 there, 2 here" in text) == (name == "renamed")
    assert lines_of(tmp_path) == lines_of(runs[0])


def test_digests_outlive_a_kill_between_them_and_the_file(tmp_path, monkeypatch):
    seals.write(tmp_path, "a", b"old")
    with monkeypatch.context() as patch:
        patch.setattr(seals.files, "replacing", lambda path: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            seals.write(tmp_path, "a", b"old, and not even the digest")
    assert seals.read(tmp_path, "a") == b"old"
    write = seals.files.replacing
    monkeypatch.setattr(seals.files, "replacing", lambda path: write(path) if path.name != "a" else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        seals.write(tmp_path, "a", b"new")
    assert seals.read(tmp_path, "a") == b"old"
    (tmp_path / "a").write_bytes(b"other")
    with pytest.raises(DamagedFileError, match="a is damaged: its digest"):
        seals.read(tmp_path, "a")
