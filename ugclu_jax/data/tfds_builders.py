"""TensorFlow Datasets builders that prepare without TensorFlow, from the official archives.

TFDS's own builders of these sets unpack and encode with TensorFlow. The subclasses here keep their names, versions,
features and keys, hence the order of examples, so that what they prepare is what `tfds.data_source` reads. Three rules
make it work: `download` and never `download_and_extract`; archives read by the standard library (SciPy for SVHN);
images handed over as Pillow images or encoded bytes. The addresses' sizes and SHA-256 are in `checksums.tsv`, where
TFDS finds them.
"""

import io
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import scipy.io

from ugclu_jax.data import idx
from ugclu_jax.extras import installed_by

with installed_by("run"):
    import tensorflow_datasets as tfds
    from PIL import Image
    from tensorflow_datasets.datasets.svhn_cropped import svhn_cropped_dataset_builder as svhn

Examples = Iterator[tuple[int | str, dict[str, Any]]]


def _refusal(path: Path, what: str) -> ValueError:
    return ValueError(f"{path} is not the official archive: {what}; fetch the file again")


class _Unregistered:
    """Hands `skip_registration` on to TFDS, so that its own builder of the name stays where it is looked up."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)


class _Cifar(_Unregistered):
    """Both CIFAR sets in their binary form: a record is the labels, then 3 × 32 × 32 bytes."""

    URLS: tuple[str, ...]
    info: Any  # of TFDS's builder, as the next
    _cifar_info: Any

    def _split_generators(self, dl_manager: Any) -> dict[str, Examples]:
        (path,) = dl_manager.download(list(self.URLS))
        info = self._cifar_info
        members = [*info.label_files, *info.train_files, *info.test_files]
        contents = dict(zip(members, _read_tar(Path(path), [info.prefix + m for m in members]), strict=True))
        for key, member in zip(info.label_keys, info.label_files, strict=True):
            self.info.features[key].names = contents[member].decode().split()
        return {
            "train": self._generate_examples("train_", path, {m: contents[m] for m in info.train_files}),
            "test": self._generate_examples("test_", path, {m: contents[m] for m in info.test_files}),
        }

    def _generate_examples(self, prefix: str, path: Path, contents: dict[str, bytes]) -> Examples:
        keys = self._cifar_info.label_keys
        size, position = len(keys) + 3 * 32 * 32, 0
        for member, content in contents.items():
            if len(content) % size:
                raise _refusal(path, f"{member} has {len(content)} bytes, no multiple of {size}")
            for record in np.frombuffer(content, np.uint8).reshape(-1, size):
                image = Image.fromarray(np.ascontiguousarray(record[len(keys) :].reshape(3, 32, 32).transpose(1, 2, 0)))
                labels = dict(zip(keys, map(int, record), strict=False))
                yield position, {"id": f"{prefix}{position:05d}", "image": image, **labels}
                position += 1


def _read_tar(path: Path, members: list[str]) -> list[bytes]:
    """Members of a gzipped tar file, in one pass."""
    contents = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for entry in archive:
                file = archive.extractfile(entry) if entry.name in members else None
                if file is not None:
                    contents[entry.name] = file.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise _refusal(path, f"it is truncated or not a tar.gz file ({error})") from error
    missing = [member for member in members if member not in contents]
    if missing:
        raise _refusal(path, f"it lacks {', '.join(missing)}")
    return [contents[member] for member in members]


class Cifar10(_Cifar, tfds.image_classification.Cifar10, skip_registration=True):
    """CIFAR-10."""

    name = "cifar10"
    URLS = ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",)


class Cifar100(_Cifar, tfds.image_classification.Cifar100, skip_registration=True):
    """CIFAR-100."""

    name = "cifar100"
    URLS = ("https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",)


class _Idx(_Unregistered):
    """MNIST and its relatives: four idx files, whose headers say how many examples there are."""

    URLS: tuple[str, ...]

    def _split_generators(self, dl_manager: Any) -> dict[str, Examples]:
        paths = [Path(path) for path in dl_manager.download(list(self.URLS))]
        return {
            "train": self._generate_examples(*paths[:2]),
            "test": self._generate_examples(*paths[2:]),
        }

    def _generate_examples(self, images_path: Path, labels_path: Path) -> Examples:
        images, labels = idx.read(images_path, 3), idx.read(labels_path, 1)
        if len(images) != len(labels):
            raise _refusal(labels_path, f"it has {len(labels)} labels for {len(images)} images in {images_path.name}")
        for position, (image, label) in enumerate(zip(images, labels, strict=True)):
            yield position, {"image": Image.fromarray(image), "label": int(label)}


class MNIST(_Idx, tfds.image_classification.MNIST, skip_registration=True):
    """MNIST."""

    name = "mnist"
    URLS = tuple(tfds.image_classification.MNIST.URL + name for name in idx.FILES)


class FashionMNIST(_Idx, tfds.image_classification.FashionMNIST, skip_registration=True):
    """Fashion-MNIST."""

    name = "fashion_mnist"
    URLS = tuple(tfds.image_classification.FashionMNIST.URL + name for name in idx.FILES)


class SvhnCropped(_Unregistered, svhn.Builder, skip_registration=True):
    """SVHN, cropped digits, without the split `extra` (531,131 images, 1.3 GB) that TFDS's builder adds."""

    name = "svhn_cropped"
    pkg_dir_path = svhn.Builder._get_pkg_dir_path()  # of the description and citation
    URLS = tuple(svhn.URL + name for name in ("train_32x32.mat", "test_32x32.mat"))

    def _split_generators(self, dl_manager: Any) -> dict[str, Examples]:
        train, test = (Path(path) for path in dl_manager.download(list(self.URLS)))
        return {
            "train": self._generate_examples("train_", train),
            "test": self._generate_examples("test_", test),
        }

    def _generate_examples(self, prefix: str, path: Path) -> Examples:
        try:
            content = scipy.io.loadmat(path)
            images, labels = content["X"], content["y"].ravel()
        except Exception as error:  # SciPy raises many kinds for a damaged file
            raise _refusal(path, f"it is truncated or not a .mat file ({error!r})") from error
        if images.shape != (32, 32, 3, len(labels)) or images.dtype != np.uint8:
            raise _refusal(path, f"X is {images.dtype}{list(images.shape)} for {len(labels)} labels in y")
        if labels.min() < 1 or labels.max() > 10:
            raise _refusal(path, f"labels in y reach from {labels.min()} to {labels.max()}, not from 1 to 10")
        for position, label in enumerate(labels):
            image = Image.fromarray(np.ascontiguousarray(images[..., position]))
            # The digit 0 is stored as 10.
            yield position, {"id": f"{prefix}{position:06d}", "image": image, "label": int(label) % 10}


class TinyImagenet200(tfds.core.GeneratorBasedBuilder):
    """Tiny ImageNet: 200 classes, 64x64 RGB, 500 training and 50 validation images a class.

    The official test split has no labels and is left out. An example's id is its path in the archive.
    """

    VERSION = tfds.core.Version("1.0.0")
    URLS = ("http://cs231n.stanford.edu/tiny-imagenet-200.zip",)
    CLASSES, TRAIN_PER_CLASS, VALIDATION_PER_CLASS = 200, 500, 50
    _ROOT = "tiny-imagenet-200"

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Text(),
                    "image": tfds.features.Image(shape=(64, 64, 3), dtype=np.uint8),
                    "label": tfds.features.ClassLabel(num_classes=self.CLASSES),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="http://cs231n.stanford.edu/",
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Examples]:
        (path,) = map(Path, dl_manager.download(list(self.URLS)))
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
                classes = archive.read(f"{self._ROOT}/wnids.txt").decode().split()
                annotations = archive.read(f"{self._ROOT}/val/val_annotations.txt").decode().splitlines()
        except zipfile.BadZipFile as error:
            raise _refusal(path, f"it is truncated or not a zip file ({error})") from error
        except KeyError as error:
            raise _refusal(path, f"it lacks a file ({error.args[0]})") from error
        if len(classes) != self.CLASSES or len(set(classes)) != self.CLASSES:
            raise _refusal(path, f"wnids.txt names {len(set(classes))} classes, not {self.CLASSES}")
        self.info.features["label"].names = classes
        train = {
            name: PurePosixPath(name).parts[2]
            for name in names
            if name.startswith(f"{self._ROOT}/train/") and name.endswith(".JPEG")
        }
        fields = [line.split("\t") for line in annotations if line.strip()]
        validation = {f"{self._ROOT}/val/images/{row[0]}": row[1] for row in fields}
        self._check(path, "train", train, classes, self.TRAIN_PER_CLASS)
        self._check(path, "validation", validation, classes, self.VALIDATION_PER_CLASS)
        return {
            "train": self._generate_examples(path, train),
            "validation": self._generate_examples(path, validation),
        }

    def _check(self, path: Path, split: str, labels: dict[str, str], classes: list[str], due: int) -> None:
        unknown = sorted(set(labels.values()) - set(classes))
        if unknown:
            raise _refusal(path, f"split {split} has class {unknown[0]}, which wnids.txt lacks")
        counts = Counter(labels.values())
        for name in classes:
            if counts[name] != due:
                raise _refusal(path, f"class {name} of split {split} has {counts[name]} images, not {due}")

    def _generate_examples(self, path: Path, labels: dict[str, str]) -> Examples:
        with zipfile.ZipFile(path) as archive:
            for name, label in labels.items():
                try:
                    encoded = archive.read(name)
                except (KeyError, zipfile.BadZipFile) as error:
                    raise _refusal(path, f"{name} is missing or damaged ({error})") from error
                yield name, {"id": name, "image": _as_rgb(path, name, encoded), "label": label}


def _as_rgb(path: Path, name: str, encoded: bytes) -> bytes:
    """A few of the JPEG files are gray, which TFDS's decoder would return without channels: these become RGB PNGs."""
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            if image.size != (64, 64):
                raise _refusal(path, f"{name} is {image.width}x{image.height}, not 64x64")
            if image.mode == "RGB":
                return encoded
            stream = io.BytesIO()
            image.convert("RGB").save(stream, "png")
            return stream.getvalue()
    except OSError as error:
        raise _refusal(path, f"{name} is not a readable image ({error})") from error


BUILDERS: dict[str, type[tfds.core.GeneratorBasedBuilder]] = {
    "cifar10": Cifar10,
    "cifar100": Cifar100,
    "fashion_mnist": FashionMNIST,
    "mnist": MNIST,
    "svhn_cropped": SvhnCropped,
    "tiny_imagenet": TinyImagenet200,
}
"""By the name that `data.load` knows. Each has `URLS`, the addresses of its official files."""
