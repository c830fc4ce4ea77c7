"""Folders of images and .npz files: what comes out, in which order, and what is refused."""

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
    assert (built.name, built.class_names, built.scale) == ("pictures", ("blue", "green"), 255.0)
    assert built.train_inputs.shape == (16, 4, 4, 3) and built.test_inputs.shape == (4, 4, 4, 3)
    assert np.bincount(built.test_labels).tolist() == [2, 2]
    seen = []
    for inputs, labels in ((built.train_inputs, built.train_labels), (built.test_inputs, built.test_labels)):
        for image, label in zip(inputs, labels, strict=True):
            colour = COLOURS[built.class_names[label]]
            np.testing.assert_array_equal(image, np.broadcast_to((image[0, 0, 0], *colour[1:]), (4, 4, 3)))
            seen.append((int(label), int(image[0, 0, 0])))
        assert seen == sorted(seen) or len(seen) > 16  # each split in the order of paths
    assert sorted(seen) == [(label, number) for label in range(2) for number in range(10)]


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
    decode = images.decode
    monkeypatch.setattr(images, "decode", lambda *arguments: pytest.fail("an image was decoded"))
    assert load(folder, tmp_path / "cache").fingerprint() == first.fingerprint()
    monkeypatch.setattr(images, "decode", decode)
    (folder / "blue" / "03.png").rename(folder / "blue" / "3.png")  # the order of paths changes
    moved = load(folder, tmp_path / "cache")
    Image.new("RGB", (4, 4), (99, 0, 250)).save(folder / "blue" / "3.png")
    changed = load(folder, tmp_path / "cache")
    larger = load(folder, tmp_path / "cache", size=8)
    assert len({d.fingerprint() for d in (first, moved, changed, larger)}) == 4
    assert 99 in changed.train_inputs[:, 0, 0, 0].tolist() + changed.test_inputs[:, 0, 0, 0].tolist()


def encoded(image, tmp_path, suffix="png", **options):
    path = tmp_path / f"one.{suffix}"
    image.save(path, **options)
    return path.read_bytes()


def test_modes_become_rgb_on_white(tmp_path):
    half = Image.new("RGBA", (2, 2), (200, 100, 0, 51))  # a fifth opaque
    palette = Image.new("P", (2, 2), 1)
    palette.putpalette([0, 0, 0, 30, 60, 90])
    clear = Image.new("P", (2, 2), 1)
    clear.putpalette([0, 0, 0, 30, 60, 90])
    cases = [
        (encoded(Image.new("L", (2, 2), 77), tmp_path), (77, 77, 77)),
        (encoded(half, tmp_path), (244, 224, 204)),  # 255 − (255 − c) / 5
        (encoded(palette, tmp_path), (30, 60, 90)),
        (encoded(clear, tmp_path, transparency=1), (255, 255, 255)),
        (encoded(Image.new("1", (2, 2), 1), tmp_path), (255, 255, 255)),
        (encoded(Image.new("LA", (2, 2), (10, 0)), tmp_path), (255, 255, 255)),
    ]
    for content, colour in cases:
        np.testing.assert_array_equal(images.decode("it", content, 3), np.broadcast_to(colour, (2, 2, 3)))
    gray = images.decode("it", encoded(Image.new("RGB", (2, 2), (50, 50, 50)), tmp_path), 1)
    np.testing.assert_array_equal(gray, np.full((2, 2, 1), 50))


def test_jpeg_is_near(tmp_path):
    ramp = np.broadcast_to(np.linspace(0, 255, 16).astype(np.uint8)[None, :, None], (16, 16, 3))
    jpeg = images.decode("it", encoded(Image.fromarray(ramp.copy()), tmp_path, "jpg", quality=95), 3)
    assert np.abs(jpeg.astype(int) - ramp).max() <= 6


@pytest.mark.parametrize("size", [4, 7, 16, 37])
def test_resizing_is_bicubic(tmp_path, size):
    image = np.random.default_rng(size).integers(0, 256, (16, 16), dtype=np.uint8)
    resized = images.decode("it", encoded(Image.fromarray(image), tmp_path), 1, size=size)[..., 0]
    weights = bicubic_weights(16, size)
    across = np.clip(np.round(image @ weights.T), 0, 255)  # rounded between the passes, as bytes are
    np.testing.assert_allclose(resized, np.clip(weights @ across, 0, 255), atol=1)


def bicubic_weights(size, new):
    """Keys' kernel with a = -0.5, widened where the image shrinks, cut at the border and normalised: [new, size]."""
    step = size / new
    width = max(step, 1.0)
    x = np.abs((np.arange(size) + 0.5 - (np.arange(new)[:, None] + 0.5) * step) / width)
    kernel = np.where(x < 1, 1.5 * x**3 - 2.5 * x**2 + 1, np.where(x < 2, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2, 0.0))
    return kernel / kernel.sum(1, keepdims=True)


def spoil(folder):
    return folder / "green" / "04.png"


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:40]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"<html>not found</html>"),
        lambda path: Image.new("RGB", (4, 4)).save(path, "gif"),
    ],
    ids=["truncated", "empty", "html", "gif"],
)
def test_an_unreadable_image_is_named(folder, tmp_path, damage):
    damage(spoil(folder))
    with pytest.raises(ValueError, match=r"is not a readable PNG or JPEG image .*; replace or remove it") as error:
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
    with pytest.raises(ValueError, match="empty holds no image"):
        load(tmp_path / "empty", tmp_path)
    (folder / "train").mkdir()
    shutil.move(folder / "blue", folder / "train" / "blue")
    shutil.copytree(folder / "train" / "blue", folder / "train" / "azure")
    (folder / "test").mkdir()
    shutil.move(folder / "green", folder / "test" / "green")
    with pytest.raises(ValueError, match=r"00.png is of class 'green', which .*train lacks"):
        load(folder, tmp_path / "cache")


# ---- npz


def npz(path):
    return data.load("npz", data.DataOptions(directory=path))


def test_npz_with_and_without_a_split(tmp_path):
    inputs, labels = np.arange(40, dtype=np.uint8).reshape(20, 2), np.arange(20) % 4
    np.savez(tmp_path / "whole.npz", x=inputs, y=labels)
    built = npz(tmp_path / "whole.npz")
    assert built.name == "whole" and np.bincount(built.test_labels).tolist() == [1, 1, 1, 1]
    rows = np.concatenate([built.train_inputs, built.test_inputs])
    assert sorted(rows.tolist()) == inputs.tolist() and built.train_inputs[:, 0].tolist() == sorted(
        built.train_inputs[:, 0]
    )
    np.testing.assert_array_equal(np.concatenate([built.train_labels, built.test_labels]), rows[:, 0] // 2 % 4)
    names = np.array(["n", "e", "s", "w"])
    np.savez(
        tmp_path / "split.npz", x_train=inputs[:15], y_train=labels[:15], x_test=inputs[15:], y_test=labels[15:],
        class_names=names,
    )  # fmt: skip
    built = npz(tmp_path / "split.npz")
    np.testing.assert_array_equal(built.test_inputs, inputs[15:])
    assert built.class_names == ("n", "e", "s", "w") and built.test_labels.tolist() == labels[15:].tolist()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((4, 2), np.uint8)}, "it holds x and must hold x, y or x_train"),
        ({"x": np.zeros((4, 2), np.uint8), "y": np.array([0.0, 1, 0, 1])}, "y is float64.*class numbers"),
        ({"x": np.zeros((4, 2), np.uint8), "y": np.array([0, 1, 0])}, r"x has shape \(4, 2\) and y \(3,\)"),
        ({"x": np.zeros((4, 2), np.uint8), "y": np.array([0, 1, 0, -1])}, "class numbers"),
        ({"x": np.zeros((4, 2), np.uint8), "y": np.array([0, 1, 0, 10**9])}, "y reaches 1000000000"),
        ({"x": np.zeros((4, 2), np.int64), "y": np.array([0, 1, 0, 1])}, "train_inputs has type int64"),
        ({"x": np.array([None] * 4), "y": np.array([0, 1, 0, 1])}, "not a .npz file of plain arrays"),
    ],
)
def test_npz_arrays_are_checked(tmp_path, arrays, message):
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ValueError, match=message) as error:
        npz(tmp_path / "bad.npz")
    assert "bad.npz" in str(error.value)


def test_npz_files_are_checked(tmp_path):
    np.savez(tmp_path / "good.npz", x=np.zeros((400, 2), np.uint8), y=np.arange(400) % 2)
    content = (tmp_path / "good.npz").read_bytes()
    for name, spoilt in {"cut.npz": content[:-30], "empty.npz": b"", "text.npz": b"hello"}.items():
        (tmp_path / name).write_bytes(spoilt)
        with pytest.raises(ValueError, match=f"{name} is truncated or not a .npz file"):
            npz(tmp_path / name)
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(ValueError, match=r"one\.npy is truncated or not a .npz file"):
        npz(tmp_path / "one.npy")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npz is not a file"):
        npz(tmp_path / "nowhere.npz")
    with pytest.raises(ValueError, match="directory is None: npz needs the file"):
        data.load("npz")
