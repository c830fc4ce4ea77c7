"""Small archives in the official formats of the image sets, each with the arrays that it holds."""

import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image
from tensorflow_datasets.core.download import checksums

from ugclu_jax.data.tfds_builders import BUILDERS, TinyImagenet200

Split = tuple[np.ndarray, np.ndarray]  # images [N, H, W, C], labels [N]
CIFAR10_FILES = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
IDX_FILES = ["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz", "t10k-images-idx3-ubyte.gz",
             "t10k-labels-idx1-ubyte.gz"]  # fmt: skip
TINY = "tiny-imagenet-200"


def draw(count: int, classes: int, shape: tuple[int, ...], seed: int) -> Split:
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (count, *shape), dtype=np.uint8)
    return images, generator.permutation(np.arange(count) % classes).astype(np.uint8)


def tar(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def records(images: np.ndarray, *labels: np.ndarray) -> bytes:
    """Labels, then the red, the green and the blue plane, for each image."""
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return np.concatenate([*(column[:, None] for column in labels), planes], 1).astype(np.uint8).tobytes()


def cifar10(folder: Path, spoil: dict[str, bytes | None] | None = None) -> tuple[Split, Split]:
    """Files in `spoil` get another content, or none at all."""
    train, test = draw(50, 10, (32, 32, 3), 0), draw(10, 10, (32, 32, 3), 1)
    parts = [*zip(np.split(train[0], 5), np.split(train[1], 5), strict=True), test]
    files = {name: records(*part) for name, part in zip(CIFAR10_FILES, parts, strict=True)}
    files["batches.meta.txt"] = "\n".join(f"kind{i}" for i in range(10)).encode() + b"\n\n"
    files = {name: content for name, content in (files | (spoil or {})).items() if content is not None}
    tar(folder / "cifar-10-binary.tar.gz", {f"cifar-10-batches-bin/{name}": files[name] for name in files})
    return train, test


def cifar100(folder: Path) -> tuple[Split, Split]:
    train, test = draw(200, 100, (32, 32, 3), 2), draw(100, 100, (32, 32, 3), 3)
    files = {f"{name}.bin": records(images, labels // 5, labels) for name, (images, labels) in
             (("train", train), ("test", test))}  # fmt: skip
    files["fine_label_names.txt"] = "".join(f"fine{i}\n" for i in range(100)).encode()
    files["coarse_label_names.txt"] = "".join(f"coarse{i}\n" for i in range(20)).encode()
    tar(folder / "cifar-100-binary.tar.gz", {f"cifar-100-binary/{name}": files[name] for name in files})
    return train, test


def svhn(folder: Path) -> tuple[Split, Split]:
    """The digit 0 is written as 10; images are on the last axis."""
    splits = draw(40, 10, (32, 32, 3), 4), draw(20, 10, (32, 32, 3), 5)
    for name, (images, labels) in zip(("train", "test"), splits, strict=True):
        stored = np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]
        scipy.io.savemat(folder / f"{name}_32x32.mat", {"X": images.transpose(1, 2, 3, 0), "y": stored})
    return splits


def mnist(folder: Path) -> tuple[Split, Split]:
    splits = draw(40, 10, (28, 28, 1), 6), draw(20, 10, (28, 28, 1), 7)
    arrays = [array for images, labels in splits for array in (images[..., 0], labels)]
    for name, array in zip(IDX_FILES, arrays, strict=True):
        header = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">i4").tobytes()
        (folder / name).write_bytes(gzip.compress(header + array.tobytes()))
    return splits


def jpeg(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image if image.shape[-1] == 3 else image[..., 0]).save(stream, "jpeg")
    return stream.getvalue()


def pixels(encoded: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))


def tiny_files() -> dict[str, bytes]:
    """Three classes, four training and two validation images each; the first of each class is gray."""
    generator = np.random.default_rng(8)
    wnids = ["n30", "n10", "n20"]
    files, annotations = {"wnids.txt": "\n".join(wnids).encode(), "words.txt": b"n10\tgoldfish\n"}, []
    for wnid in wnids:
        files[f"train/{wnid}/{wnid}_boxes.txt"] = b""
        for number in range(4):
            image = generator.integers(0, 256, (64, 64, 3 if number else 1), dtype=np.uint8)
            files[f"train/{wnid}/images/{wnid}_{number}.JPEG"] = jpeg(image)
    for number in range(6):
        name = f"val_{number}.JPEG"
        files[f"val/images/{name}"] = jpeg(generator.integers(0, 256, (64, 64, 3), dtype=np.uint8))
        annotations.append(f"{name}\t{wnids[number % 3]}\t0\t0\t62\t62\n")
    files["val/val_annotations.txt"] = "".join(annotations).encode()
    files["test/images/test_0.JPEG"] = jpeg(generator.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    return files


def tiny_imagenet(folder: Path, spoil: dict[str, bytes | None] | None = None) -> tuple[Split, Split]:
    files = {name: content for name, content in (tiny_files() | (spoil or {})).items() if content is not None}
    with zipfile.ZipFile(folder / f"{TINY}.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(f"{TINY}/{name}", content)
    wnids = ["n30", "n10", "n20"]
    train = sorted(name for name in tiny_files() if name.startswith("train/") and name.endswith(".JPEG"))
    validation = [f"val/images/val_{number}.JPEG" for number in range(6)]
    return (
        (np.stack([pixels(tiny_files()[n]) for n in train]), np.array([wnids.index(n.split("/")[1]) for n in train])),
        (np.stack([pixels(tiny_files()[n]) for n in validation]), np.arange(6) % 3),
    )


def trust(monkeypatch: pytest.MonkeyPatch, name: str, folder: Path, base: str | None = None) -> None:
    """Let a builder take the files of `folder` for the official ones, at the address `base` if given."""
    builder = BUILDERS[name]
    urls = builder.URLS if base is None else tuple(base + url.rpartition("/")[2] for url in builder.URLS)
    infos = {url: checksums.compute_url_info(folder / url.rpartition("/")[2]) for url in urls}
    monkeypatch.setattr(builder, "URLS", urls)
    monkeypatch.setattr(builder, "url_infos", infos)


def small_tiny_imagenet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the builder expect the counts of `tiny_imagenet`."""
    for name, value in {"CLASSES": 3, "TRAIN_PER_CLASS": 4, "VALIDATION_PER_CLASS": 2}.items():
        monkeypatch.setattr(TinyImagenet200, name, value)
