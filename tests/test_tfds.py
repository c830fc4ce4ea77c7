"""The genuine TFDS builders, offline, on small archives in the official formats."""

import functools
import http.server
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import archives
import numpy as np
import pytest
import scipy.io
import tensorflow_datasets as tfds
from tensorflow_datasets.core import constants
from tensorflow_datasets.core.download import checksums
from tensorflow_datasets.core.utils.resource_utils import tfds_path

from ugclu_jax import data
from ugclu_jax.data import fashion_mnist, tfds_builders
from ugclu_jax.data.tfds_builders import BUILDERS

MAKERS = {
    "cifar10": archives.cifar10,
    "cifar100": archives.cifar100,
    "svhn_cropped": archives.svhn,
    "mnist": archives.mnist,
    "tiny_imagenet": archives.tiny_imagenet,
}
CLASS_NAMES = {
    "cifar10": [f"kind{i}" for i in range(10)],
    "cifar100": [f"fine{i}" for i in range(100)],
    "svhn_cropped": [str(i) for i in range(10)],
    "mnist": [str(i) for i in range(10)],
    "tiny_imagenet": ["n30", "n10", "n20"],
}


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch) -> Path:
    """Nothing of this machine is found; small sets have small counts."""
    monkeypatch.setattr(constants, "DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setattr(fashion_mnist, "DEBIAN_DIRECTORY", tmp_path / "nowhere")
    archives.small_tiny_imagenet(monkeypatch)
    (tmp_path / "archives").mkdir()
    return tmp_path


def load(name: str, places: Path, directory: Path | None = None, **options) -> data.Dataset:
    return data.load(name, data.DataOptions(directory=directory, cache_dir=places / "cache", **options))


@pytest.fixture
def no_preparing(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("a set was prepared or downloaded")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", refuse)


def same(built: data.Dataset, train: archives.Split, test: archives.Split) -> None:
    """Pixel by pixel, in the order of the official files, or in any order for a set without ids."""
    for inputs, labels, (images, wanted) in (
        (built.train_inputs, built.train_labels, train),
        (built.test_inputs, built.test_labels, test),
    ):
        if built.name in ("mnist", "fashion_mnist"):
            theirs = {image.tobytes(): int(label) for image, label in zip(images, wanted, strict=True)}
            ours = {image.tobytes(): int(label) for image, label in zip(inputs, labels, strict=True)}
            assert ours == theirs and len(inputs) == len(images)
        else:
            np.testing.assert_array_equal(inputs, images)
            np.testing.assert_array_equal(labels, wanted)


@pytest.mark.parametrize("name", MAKERS)
def test_archives_in_a_directory(name, places, monkeypatch):
    folder = places / "archives"
    train, test = MAKERS[name](folder)
    archives.trust(monkeypatch, name, folder)
    built = load(name, places, folder)
    same(built, train, test)
    assert built.class_names == tuple(CLASS_NAMES[name])
    assert built.name == name and built.scale == 255.0 and built.train_inputs.dtype == np.uint8
    assert built.train_keys.tolist() == [f"train/{i}" for i in range(len(train[1]))] and built.test_keys[0] == "test/0"
    assert isinstance(built.train_inputs, np.memmap)
    assert [path.name for path in (places / "cache").iterdir()] == [_entry(name, places).name]


def _entry(name: str, places: Path) -> Path:
    (entry,) = (places / "cache").glob(f"{name}-*")
    return entry


@pytest.mark.parametrize("name", ["cifar10", "mnist"])
def test_a_second_load_needs_no_archive(name, places, monkeypatch, request):
    folder = places / "archives"
    MAKERS[name](folder)
    archives.trust(monkeypatch, name, folder)
    first = load(name, places, folder)
    request.getfixturevalue("no_preparing")
    assert load(name, places, folder).fingerprint() == first.fingerprint()
    shutil.rmtree(folder)
    assert load(name, places).fingerprint() == first.fingerprint()


@pytest.fixture
def server(places) -> Iterator[tuple[str, list[str]]]:
    """Serves the archives on this machine alone; yields the address and the paths asked for."""
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            super().do_GET()

        def log_message(self, *arguments):
            pass

    handler = functools.partial(Handler, directory=str(places / "archives"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}/", asked
        running.shutdown()
        thread.join()


@pytest.mark.parametrize("name", ["tiny_imagenet", "fashion_mnist"])
def test_a_download_is_made_when_asked_for_and_kept(name, places, monkeypatch, server):
    address, asked = server
    train, test = (MAKERS | {"fashion_mnist": archives.mnist})[name](places / "archives")
    archives.trust(monkeypatch, name, places / "archives", address)
    with pytest.raises(FileNotFoundError, match="download=True"):
        load(name, places)
    assert asked == []
    built = load(name, places, download=True)
    same(built, train, test)
    count = len(BUILDERS[name].URLS)
    assert len(asked) == count
    assert load(name, places, download=True).fingerprint() == built.fingerprint()
    shutil.rmtree(_entry(name, places))  # the arrays gone, the download is still there
    assert load(name, places, download=True).fingerprint() == built.fingerprint()
    assert len(asked) == count


def test_a_download_that_fails_or_is_another_file_is_named(places, monkeypatch, server):
    address, _ = server
    folder = places / "archives"
    archives.tiny_imagenet(folder)
    archives.trust(monkeypatch, "tiny_imagenet", folder, address)
    archive = folder / "tiny-imagenet-200.zip"
    archive.write_bytes(archive.read_bytes()[:1000])
    with pytest.raises(ValueError, match="tiny_imagenet: a file is not the official one") as error:
        load("tiny_imagenet", places, download=True)
    assert address in str(error.value)
    archive.unlink()
    with pytest.raises(ConnectionError, match=r"tiny_imagenet could not be downloaded .*404.*give a directory"):
        load("tiny_imagenet", places, download=True)
    assert not list((places / "cache").glob("tiny_imagenet-*"))


def test_what_tfds_has_prepared_is_read_as_it_is(places, monkeypatch, request):
    folder = places / "archives"
    train, test = archives.cifar10(folder)
    archives.trust(monkeypatch, "cifar10", folder)
    for data_dir in (places / "tfds", places / "elsewhere"):
        builder = tfds_builders.Cifar10(data_dir=data_dir, file_format="array_record")
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=folder))
    (plain,) = tfds.data_source("cifar10", data_dir=places / "tfds", split=["train"])  # the catalogue's own class
    first = plain[0]
    row = int(first["id"].removeprefix(b"train_" if isinstance(first["id"], bytes) else "train_"))
    np.testing.assert_array_equal(first["image"], train[0][row])
    assert first["label"] == train[1][row]
    request.getfixturevalue("no_preparing")
    same(load("cifar10", places), train, test)
    same(load("cifar10", places, places / "elsewhere"), train, test)
    shutil.rmtree(places / "elsewhere" / "cifar10" / "3.0.2")
    with pytest.raises(FileNotFoundError, match=r"elsewhere lacks cifar-10-binary\.tar\.gz"):
        load("cifar10", places, places / "elsewhere")


def test_prepared_data_without_a_split_or_with_a_broken_image_are_refused(places, monkeypatch):
    class Broken(tfds_builders.Cifar10, skip_registration=True):
        name = "cifar10"
        splits = ("train",)

        def _split_generators(self, dl_manager):
            return {split: self._made(split) for split in self.splits}

        image = b"no image"

        def _made(self, split):
            yield 0, {"id": f"{split}_0", "image": self.image, "label": 0}

    def prepare():
        Broken(data_dir=places / "tfds", file_format="array_record").download_and_prepare()

    prepare()
    with pytest.raises(ValueError, match=r"cifar10/3.0.2 lacks split 'test' \(it has train\)"):
        load("cifar10", places)
    shutil.rmtree(places / "tfds")
    Broken.splits = ("train", "test")
    prepare()
    with pytest.raises(ValueError, match=r"image 0 of split train in .*3.0.2 is not a readable"):
        load("cifar10", places)
    shutil.rmtree(places / "tfds")
    Broken.image = archives.jpeg(np.zeros((8, 32, 3), np.uint8))
    prepare()
    with pytest.raises(ValueError, match=r"image 0 of split train in .* has shape \(8, 32, 3\), not \(32, 32, 3\)"):
        load("cifar10", places)


def test_a_file_of_another_hash_is_named_with_what_was_expected(places):
    folder = places / "archives"
    archives.cifar10(folder)
    with pytest.raises(ValueError, match="not the official one; fetch it again") as error:
        load("cifar10", places, folder)
    size = (folder / "cifar-10-binary.tar.gz").stat().st_size
    for said in (
        str(folder / "cifar-10-binary.tar.gz"),
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    ):
        assert said in str(error.value)
    assert size < 10**6 and not list((places / "cache").iterdir())


@pytest.mark.parametrize("name", [*MAKERS, "fashion_mnist"])
def test_what_is_not_there_is_explained_and_nothing_is_tried(name, places, no_preparing):
    with pytest.raises(FileNotFoundError) as error:
        load(name, places)
    for said in ("download=True", "--data.directory", str(places / "tfds"), "array_record", *BUILDERS[name].URLS):
        assert said in str(error.value)
    with pytest.raises(FileNotFoundError, match="lacks"):
        load(name, places, places / "archives")


def test_one_of_two_files_is_not_enough(places):
    archives.svhn(places / "archives")
    (places / "archives" / "test_32x32.mat").unlink()
    with pytest.raises(FileNotFoundError, match=r"archives lacks test_32x32\.mat\. "):
        load("svhn_cropped", places, places / "archives")


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def other_mat(path: Path, **changes) -> None:
    arrays = {"X": np.zeros((32, 32, 3, 4), np.uint8), "y": np.ones((4, 1), np.uint8)} | changes
    scipy.io.savemat(path, arrays)


def other_idx(path: Path) -> None:
    shutil.copy(path.parent / "t10k-labels-idx1-ubyte.gz", path)


TRAIN_IMAGE = "train/n10/images/n10_1.JPEG"
FOREIGN = {  # name: (set, how the archive is made, what is then done to which file, message)
    "tar truncated": ("cifar10", {}, ("cifar-10-binary.tar.gz", shorten), "truncated or not a tar.gz"),
    "tar empty": ("cifar10", {}, ("cifar-10-binary.tar.gz", lambda p: p.write_bytes(b"")), "truncated or not a tar.gz"),
    "tar lacks a batch": ("cifar10", {"data_batch_3.bin": None}, None, "lacks cifar-10-batches-bin/data_batch_3.bin"),
    "batch cut": ("cifar10", {"data_batch_3.bin": bytes(3074)}, None, "data_batch_3.bin has 3074 bytes, no multiple"),
    "mat truncated": ("svhn_cropped", {}, ("train_32x32.mat", shorten), "truncated or not a .mat file"),
    "mat y short": ("svhn_cropped", {}, ("test_32x32.mat", lambda p: other_mat(p, y=np.ones((3, 1)))), "for 3 labels"),
    "mat of 0": ("svhn_cropped", {}, ("test_32x32.mat", lambda p: other_mat(p, y=np.zeros((4, 1)))), "reach from 0"),
    "idx truncated": ("mnist", {}, ("t10k-images-idx3-ubyte.gz", shorten), "truncated or not gzip"),
    "idx counts": ("mnist", {}, ("train-labels-idx1-ubyte.gz", other_idx), "20 labels for 40 images"),
    "zip truncated": ("tiny_imagenet", {}, ("tiny-imagenet-200.zip", shorten), "truncated or not a zip file"),
    "zip lacks wnids": ("tiny_imagenet", {"wnids.txt": None}, None, r"lacks a file .*wnids\.txt"),
    "zip lacks annotations": ("tiny_imagenet", {"val/val_annotations.txt": None}, None, "val_annotations"),
    "zip of two classes": ("tiny_imagenet", {"wnids.txt": b"n10\nn20\n"}, None, "names 2 classes, not 3"),
    "zip of another class": ("tiny_imagenet", {"wnids.txt": b"n10\nn20\nn40"}, None, "n30, which wnids.txt lacks"),
    "zip lacks an image": ("tiny_imagenet", {TRAIN_IMAGE: None}, None, "class n10 of split train has 3 images, not 4"),
    "zip lacks a picture": ("tiny_imagenet", {"val/images/val_4.JPEG": None}, None, "val_4.JPEG is missing"),
    "zip, broken image": ("tiny_imagenet", {TRAIN_IMAGE: b"\xff\xd8no"}, None, f"{TRAIN_IMAGE} is not a readable"),
    "zip, large image": (
        "tiny_imagenet", {TRAIN_IMAGE: archives.jpeg(np.zeros((65, 64, 3), np.uint8))}, None, "is 64x65, not 64x64",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FOREIGN)
def test_an_archive_of_other_content_is_named(case, places, monkeypatch):
    """Its hash is taken for the official one, so that the content itself is judged."""
    name, spoil, damage, message = FOREIGN[case]
    folder = places / "archives"
    MAKERS[name](folder, *([spoil] if spoil else []))
    if damage:
        damage[1](folder / damage[0])
    archives.trust(monkeypatch, name, folder)
    with pytest.raises(ValueError, match=message) as error:
        load(name, places, folder)
    assert str(folder) in str(error.value) and "fetch the file again" in str(error.value)
    assert not list((places / "cache").iterdir())


def test_the_registered_addresses_are_those_of_the_catalogue():
    """Our copies of size and hash agree with TFDS's own, where it has them."""
    catalogue = dict(tfds.builder_cls("svhn_cropped").url_infos)
    for name in ("cifar10", "cifar100", "mnist", "fashion_mnist"):
        catalogue |= checksums.load_url_infos(tfds_path() / "url_checksums" / f"{name}.txt")
    compared = 0
    for builder in BUILDERS.values():
        for url in builder.URLS:
            info = builder.url_infos[url]
            assert re.fullmatch("[0-9a-f]{64}", info.checksum) and info.filename == url.rpartition("/")[2]
            if url in catalogue:
                theirs = catalogue[url]
                assert (info.size, info.checksum) == (theirs.size, theirs.checksum)
                compared += 1
    assert compared == 12  # all but tiny_imagenet's, which TFDS does not know
    for name in ("cifar10", "cifar100", "mnist", "fashion_mnist", "svhn_cropped"):
        theirs = tfds.builder_cls(name)
        assert (BUILDERS[name].name, BUILDERS[name].VERSION) == (theirs.name, theirs.VERSION)
