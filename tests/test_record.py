"""A run and its data: rows by key at every start, what may be gone, and what is refused by name."""

import contextlib
import dataclasses
import json
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ugclu_jax import data
from ugclu_jax.data.record import Record, aligned, record
from ugclu_jax.harness.cli import main
from ugclu_jax.harness.config import SETTINGS
from ugclu_jax.harness.run_data import check_gone
from ugclu_jax.requests import Request

CLASSES = ("ant", "bee", "cat")


def dataset(examples):
    """Of a model: key → (input, class, whether it is a test example), in the order of the dictionary."""
    parts = []
    for is_test in (False, True):
        chosen = {key: value for key, value in examples.items() if value[2] == is_test}
        parts.append(
            (
                np.array([[value[0]] for value in chosen.values()], np.uint8),
                np.array([CLASSES.index(value[1]) for value in chosen.values()], np.int32),
                np.array(list(chosen), np.str_),
            )
        )
    (train, labels, keys), (test, test_labels, test_keys) = parts
    return data.from_arrays(
        "model",
        train,
        labels,
        test,
        test_labels,
        class_names=CLASSES,
        train_keys=keys,
        test_keys=test_keys,
        keys_are="file",
    )


EXAMPLE = st.tuples(st.integers(0, 255), st.sampled_from(CLASSES), st.booleans())
FOLDERS = st.dictionaries(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1), EXAMPLE, max_size=12
)
FIXED = {"a train one": (1, "ant", False), "a test one": (2, "bee", True)}


@settings(max_examples=150, deadline=None)
@given(FOLDERS, FOLDERS, st.randoms())
def test_rows_are_those_of_the_record_whatever_came_went_or_moved(examples, others, random):
    before = FIXED | examples
    made = dataset(before)
    kept = {key: value for key, value in before.items() if key in FIXED or random.random() < 0.7}
    came = {key: value for key, value in others.items() if key not in before}
    now = list((kept | came).items())
    random.shuffle(now)
    after = dataset(dict(now))
    stored = Record.from_csv(record(made, made.digests()).to_csv(), record(made, made.digests()).facts)
    found = aligned(after, after.digests(), stored)
    for split, gone in (("train", found.gone_train), ("test", found.gone_test)):
        keys = getattr(made, f"{split}_keys").tolist()
        rows = getattr(found.dataset, f"{split}_keys").tolist()
        assert rows[: len(keys)] == keys, "the rows of the record"
        assert set(rows[len(keys) :]) == {key for key, value in came.items() if value[2] == (split == "test")}
        assert {rows[row] for row in gone} == set(keys) - set(kept)
        for key, inputs, label in zip(
            rows, getattr(found.dataset, f"{split}_inputs"), getattr(found.dataset, f"{split}_labels"), strict=True
        ):
            value = (before | came)[key]
            assert CLASSES[label] == value[1]
            assert inputs.tolist() == [value[0] if key in kept or key in came else 0]
    assert (found.dataset.mean, found.dataset.std) == (made.mean, made.std), "the network's normalisation"
    if len(kept) == len(before) and not came:
        assert found.dataset.fingerprint(found.digests) == made.fingerprint()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a train one": (3, "ant", False)}, "a train one has another content than at the run's start"),
        ({"a train one": (1, "bee", False)}, "a train one has another class than"),
        ({"a test one": (2, "bee", False), "b": (2, "bee", True)}, "a test one has another split than"),
    ],
)
def test_an_example_that_is_another_is_refused_by_its_key(change, message):
    made = dataset(FIXED | {"c": (9, "cat", False)})
    after = dataset(FIXED | {"c": (9, "cat", False)} | change)
    with pytest.raises(ValueError, match=message):
        aligned(after, after.digests(), record(made, made.digests()))


def test_data_of_another_make_are_refused():
    made = dataset(FIXED)
    known = record(made, made.digests())
    for change, message in (
        (
            {"class_names": ("ant", "bee", "cow")},
            "class 'cow' of the data is new: the network has outputs for ant, bee",
        ),
        ({"scale": 300.0}, "scale of the data is 300.0 here and 255.0 there"),
        ({"keys_are": "content"}, "keys_are of the data is content here and file there"),
    ):
        other = dataclasses.replace(made, **change)
        with pytest.raises(ValueError, match=message):
            aligned(other, other.digests(), known)


def test_what_is_gone_must_be_unlearned_and_not_be_asked_for_again():
    made = dataset({f"{i}": (i, "ant", False) for i in range(4)} | {"t": (9, "ant", True), "s": (8, "ant", True)})
    stream = (
        Request("learn", "all", [0, 1, 2]),
        Request("unlearn", "some", [0, 1], held_out=[0]),
        Request("learn", "again", [1]),
    )

    def refused(train, test, served):
        try:
            check_gone(made, np.array(train, int), np.array(test, int), stream, served)
        except ValueError as error:
            return str(error)
        return None

    assert refused([0], [0], 2) is None and refused([0], [], 3) is None
    assert refused([], [], 0) is None
    for gone in (([0], [], 1), ([2], [], 3), ([3], [], 3), ([1], [], 3), ([1], [], 2), ([], [0], 1), ([], [1], 3)):
        key = [*(str(row) for row in gone[0]), *("ts"[row] for row in gone[1])][0]
        assert refused(*gone) == f"{key} (1 in all) is gone, and not unlearned by this run", gone


def paint(folder, users=6, of_each=4):
    """Pictures of three classes by several people, and who made which."""
    rng = np.random.default_rng(0)
    lines = ["file_name,user"]
    for label, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for user in range(users):
            for i in range(of_each):
                pixels = rng.integers(0, 100, (8, 8, 3)) + np.eye(3, dtype=int)[label] * 150
                path = f"{name}/{user}-{i}.png"
                Image.fromarray(pixels.astype(np.uint8)).save(folder / path)
                lines.append(f"{path},{user}")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")


SMALL = [
    "--settings",
    str(SETTINGS / "digits.json"),
    "--methods",
    "ug_clu",
    "--oracle.epochs",
    "1",
    "--oracle-seeds",
    "2",
    "--capacity",
    "20",
]
SMALL += ["--learn.settings.outer-steps", "2", "--unlearn.settings.outer-steps", "2"]


def start(folder, stream, *options, data=("image_folder", "pictures", "--data.image-size", "8")):
    """Runs on what lies in a folder; gives the exit code."""
    (folder / "stream.json").write_text(json.dumps(stream))
    asked = ["--stream", "stream.json"] if stream else []
    source = ["--dataset", data[0], "--data.directory", data[1], *data[2:]]
    places = ["--run-dir", "run", "--cache-dir", "cache"]
    if data[0] != "npz":
        places += ["--data.cache-dir", "cache/data"]
    with contextlib.chdir(folder):
        return main("task_aware", "", [*source, "--smoke", *asked, *SMALL, *places, *options])


ALL = {"learn": {"classes": list(CLASSES)}}
TWO = [ALL, {"unlearn": {"ids": ["cat/2-2.png", "cat/2-3.png"]}}]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    paint(folder / "pictures")
    assert start(folder, TWO) == 0
    return folder


@pytest.fixture
def program(finished, tmp_path, capsys):
    """Runs on a copy of the pictures and of the finished run; gives the exit code and what was said."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)

    def run(*arguments, **options):
        code = start(tmp_path, *arguments, **options)
        output = capsys.readouterr()
        return code, output.out + output.err

    return run


def lines_of(tmp_path):
    found = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "timing"} for line in found]


def test_one_is_forgotten_after_another_was_and_their_files_are_gone(program, tmp_path):
    shutil.rmtree(tmp_path / "run")
    code, said = program([ALL, {"unlearn": {"where": "user == 5"}}])
    assert code == 0, said
    first = lines_of(tmp_path)
    held_out = sum(key.split("/")[1].startswith("5-") for key in keys_of(tmp_path, "test"))
    assert f"2 unlearn U user == 5: {12 - held_out} examples (ant" in said
    assert held_out == 0 or f"and {held_out} test examples, never learned" in said
    for path in (tmp_path / "pictures").glob("*/5-*.png"):
        path.unlink()
    code, said = program([ALL, {"unlearn": {"where": "user == 5"}}, {"unlearn": {"where": "user == 3"}}])
    assert code == 0, said
    assert "gone since the run's start, and unlearned before: ant/5-" in said and "(12 in all)" in said
    lines = lines_of(tmp_path)
    assert lines[:2] == first and len(lines) == 3
    stream = json.loads((tmp_path / "run" / "stream.json").read_text())
    asked = set(stream[2]["unlearn"]["ids"]) | set(stream[2].get("held_out", []))
    assert asked == {f"{name}/3-{i}.png" for name in CLASSES for i in range(4)}


def keys_of(tmp_path, split):
    rows = (tmp_path / "run" / "examples.csv").read_text().splitlines()[1:]
    return [row.split(",")[1] for row in rows if row.startswith(split)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "ant" / "0-0.png").unlink(), "ant/0-0.png (1 in all) is gone, and not unlearned"),
        (
            lambda folder: Image.new("RGB", (8, 8)).save(folder / "bee" / "1-1.png"),
            "bee/1-1.png has another content than at the run's start",
        ),
        (
            lambda folder: (folder / "ant" / "0-1.png").rename(folder / "cat" / "0-1-moved.png"),
            "ant/0-1.png (1 in all) is gone, and not unlearned",
        ),
        (lambda folder: (folder / "ant").rename(folder / "wasp"), "class 'wasp' of the data is new"),
    ],
)
def test_other_data_are_refused_by_name_and_nothing_is_touched(program, tmp_path, change, message):
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    change(tmp_path / "pictures")
    code, said = program(TWO)
    assert code == 2 and f"run folder {tmp_path / 'run'} was made with other data: {message}" in said
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


def test_rows_in_another_order_are_the_same_run(program, tmp_path):
    rng = np.random.default_rng(0)
    inputs = rng.integers(0, 256, (90, 6)).astype(np.uint8)
    labels = np.arange(90) % 3
    stream = [{"learn": {"classes": [0, 1, 2]}}, {"unlearn": {"classes": [1]}}]
    arrays = ("npz", "arrays.npz")

    def write(order):
        np.savez(tmp_path / "arrays.npz", x=inputs[order], y=labels[order])

    shutil.rmtree(tmp_path / "run")
    write(np.arange(90))
    code, said = program(stream[:1], data=arrays)
    assert code == 0, said
    write(rng.permutation(90))
    code, said = program(stream, data=arrays)
    assert code == 0 and "another order than at the run's start; examples are taken by their keys" in said
    found = lines_of(tmp_path)
    shutil.rmtree(tmp_path / "run")
    write(np.arange(90))
    assert program(stream, data=arrays)[0] == 0
    assert lines_of(tmp_path) == found


def test_what_comes_is_in_no_request_of_before(program, tmp_path):
    shutil.rmtree(tmp_path / "run")
    settings = ["--tasks", "3", "--sequence", "L1 L2 U1"]
    assert program([], *settings)[0] == 0
    before = lines_of(tmp_path)
    for name in ("0", "zz"):
        Image.new("RGB", (8, 8)).save(tmp_path / "pictures" / "ant" / f"{name}.png")
    code, said = program([], *settings)
    assert code == 0 and "came since the run's start: ant/0.png, ant/zz.png (2 in all)" in said
    assert lines_of(tmp_path) == before
    code, said = program([], "--tasks", "3", "--sequence", "L1 U1")
    assert code == 2 and 'sequence ("L1 L2 U1" there, "L1 U1" here)' in said


def test_a_file_that_lists_other_ids_is_another_run(program, tmp_path):
    shutil.rmtree(tmp_path / "run")
    (tmp_path / "ids.txt").write_text("ant/0-0.png\nant/0-1.png\n")
    named = ["--tasks", "3", "--unlearn-ids", "ids.txt"]
    assert program([], *named)[0] == 0
    before = lines_of(tmp_path)
    assert program([], *named)[0] == 0 and lines_of(tmp_path) == before
    (tmp_path / "ids.txt").write_text("bee/0-0.png\nant/0-1.png\nant/0-2.png\n")
    code, said = program([], *named)
    assert code == 2 and "holds another request stream: request 4 is unlearn 'U ids_file ids.txt' of" in said


def test_a_dry_run_says_what_it_understood_and_leaves_nothing(program, tmp_path):
    shutil.rmtree(tmp_path / "run")
    code, said = program([ALL, {"unlearn": {"where": "user in (1, 2)"}, "name": "two leave"}], "--dry-run")
    assert code == 0 and not (tmp_path / "run").exists()
    assert "3 classes" in said and "0  ant  " in said and "2 unlearn two leave: " in said


def test_another_library_is_refused(program, tmp_path, monkeypatch):
    monkeypatch.setattr("ugclu_jax.harness.plan.__version__", "9.9")
    code, said = program(TWO)
    assert code == 2 and 'made_of.version ("0.1.0" there, "9.9" here)' in said


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("examples.csv", lambda text: text.replace("train", "test", 1), "examples.csv is damaged"),
        ("examples.csv", lambda text: None, "examples.csv is damaged"),
        ("stream.json", lambda text: text.replace("0-0.png", "0-1.png", 1), "stream.json is damaged"),
        ("stream.json", lambda text: "[", "stream.json is damaged"),
        ("config.json", lambda text: text[:50], "config.json is not a configuration"),
        (
            "config.json",
            lambda text: text.replace('"classes": [', '"classes": ["x",', 1),
            "its digest is not the one in digests.json",
        ),
        ("stream.json", lambda text: text.replace('"cat/2-2.png"', '"cat/2-1.png"'), "stream.json is damaged"),
    ],
)
def test_a_damaged_file_of_the_run_is_named(program, tmp_path, name, damage, message):
    path = tmp_path / "run" / name
    text = damage(path.read_text())
    path.unlink() if text is None else path.write_text(text)
    code, said = program(TWO)
    assert code == 2 and message in said
