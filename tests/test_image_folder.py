"""Folders of pictures: what comes out, in which order and split, and what is refused."""

import shutil

import numpy as np
import pytest
from PIL import Image

from ugclu_jax import data
from ugclu_jax.data import images

COLOURS = {"blue": (0, 0, 250), "green": (10, 240, 20)}


def load(directory, cache_dir, size=4):
    return data.load("image_folder", data.DataOptions(directory=directory, cache_dir=cache_dir, image_size=size))


@pytest.fixture
def folder(tmp_path):
    """Ten images a class, each of one colour with its number in red."""
    root = tmp_path / "pictures"
    for name, colour in COLOURS.items():
        (root / name).mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (4, 4), (number, *colour[1:])).save(root / name / f"{number:02d}.png")
    return root


def test_every_image_is_in_one_split_with_its_label(folder, tmp_path):
    built = load(folder, tmp_path / "cache")
    assert (built.name, built.class_names, built.scale, built.keys_are) == (
        "pictures",
        ("blue", "green"),
        255.0,
        "file",
    )
    assert built.train_inputs.shape[1:] == built.test_inputs.shape[1:] == (4, 4, 3)
    seen = []
    for inputs, labels, keys in (
        (built.train_inputs, built.train_labels, built.train_keys),
        (built.test_inputs, built.test_labels, built.test_keys),
    ):
        assert keys.tolist() == sorted(keys.tolist())
        for image, label, key in zip(inputs, labels, keys.tolist(), strict=True):
            number = int(image[0, 0, 0])
            colour = COLOURS[built.class_names[label]]
            np.testing.assert_array_equal(image, np.broadcast_to((number, *colour[1:]), (4, 4, 3)))
            assert key == f"{built.class_names[label]}/{number:02d}.png"
            seen.append(key)
    everything = [f"{name}/{number:02d}.png" for name in COLOURS for number in range(10)]
    assert sorted(seen) == everything
    test = data.rows_for_test(np.array(everything), np.arange(20) // 10, 0.2)
    assert built.test_keys.tolist() == [everything[row] for row in test] and 0 < len(test) < 10


def test_given_splits_are_kept(folder, tmp_path):
    for split, numbers in (("train", range(7)), ("test", range(7, 10))):
        for name in COLOURS:
            (folder / split / name).mkdir(parents=True)
            for number in numbers:
                shutil.move(folder / name / f"{number:02d}.png", folder / split / name)
    built = load(folder, tmp_path / "cache")
    assert built.train_inputs[:, 0, 0, 0].tolist() == [*range(7)] * 2
    assert built.test_inputs[:, 0, 0, 0].tolist() == [7, 8, 9] * 2
    shutil.rmtree(folder / "test")
    with pytest.raises(FileNotFoundError, match="has train and lacks test"):
        load(folder, tmp_path / "cache")


def test_the_second_load_decodes_nothing_and_a_changed_image_counts(folder, tmp_path, monkeypatch):
    first = load(folder, tmp_path / "cache")
    read = images.read
    monkeypatch.setattr(images, "read", lambda *arguments: pytest.fail("an image was decoded"))
    assert load(folder, tmp_path / "cache").fingerprint() == first.fingerprint()
    monkeypatch.setattr(images, "read", read)
    (folder / "blue" / "03.png").rename(folder / "blue" / "3.png")  # the order of paths changes
    moved = load(folder, tmp_path / "cache")
    Image.new("RGB", (4, 4), (99, 0, 250)).save(folder / "blue" / "3.png")
    changed = load(folder, tmp_path / "cache")
    larger = load(folder, tmp_path / "cache", size=8)
    assert len({d.fingerprint() for d in (first, moved, changed, larger)}) == 4
    assert 99 in changed.train_inputs[:, 0, 0, 0].tolist() + changed.test_inputs[:, 0, 0, 0].tolist()


def spoil(folder):
    return folder / "green" / "04.png"


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:40]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"<html>not found</html>"),
        lambda path: path.write_bytes(path.read_bytes()[:-18] + b"\xee" + path.read_bytes()[-17:]),
    ],
    ids=["truncated", "empty", "html", "flipped"],
)
def test_an_unreadable_image_is_named(folder, tmp_path, damage):
    damage(spoil(folder))
    with pytest.raises(ValueError, match=r"is not a readable picture .*; replace or remove it") as error:
        load(folder, tmp_path / "cache")
    assert str(spoil(folder)) in str(error.value)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_decompression_bomb_is_refused_by_name(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.new("RGB", (11, 11)).save(spoil(folder))
    with pytest.raises(ValueError, match=r"04.png is not a readable .*DecompressionBombWarning"):
        load(folder, tmp_path / "cache")


def test_folders_that_do_not_fit_are_refused(folder, tmp_path):
    with pytest.raises(ValueError, match="image_size is None: image_folder needs both"):
        data.load("image_folder", data.DataOptions(directory=folder))
    with pytest.raises(ValueError, match="directory is None"):
        data.load("image_folder", data.DataOptions(image_size=8))
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder"):
        load(tmp_path / "nowhere", tmp_path)
    (tmp_path / "empty" / "class").mkdir(parents=True)
    with pytest.raises(ValueError, match="empty holds no picture"):
        load(tmp_path / "empty", tmp_path)
    (folder / "train").mkdir()
    shutil.move(folder / "blue", folder / "train" / "blue")
    shutil.copytree(folder / "train" / "blue", folder / "train" / "azure")
    (folder / "test").mkdir()
    shutil.move(folder / "green", folder / "test" / "green")
    with pytest.raises(ValueError, match=r"00.png is of class 'green', which .*train lacks"):
        load(folder, tmp_path / "cache")


def test_pictures_that_the_memory_cannot_hold_are_refused_before_they_are_read(folder, tmp_path):
    with pytest.raises(
        ValueError, match=r"20 pictures of 9000000 × 9000000 would take .* GB .*: lower --data.image-size"
    ):
        load(folder, tmp_path / "cache", size=9_000_000)
