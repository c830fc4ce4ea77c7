"""Images in folders named by their class."""

import hashlib
from pathlib import Path

import numpy as np

from ugclu_jax.data import cache, images
from ugclu_jax.data.dataset import Dataset, from_arrays
from ugclu_jax.data.keys import rows_for_test

TEST_SHARE = 0.2
_SUFFIXES = (".png", ".jpg", ".jpeg")


def load(directory: Path | str | None, image_size: int | None, cache_dir: Path | None = None) -> Dataset:
    """Load `directory/class/*.png|jpg|jpeg` as RGB images resized (bicubic) to `image_size` × `image_size`.

    Where `directory/train` and `directory/test` exist, they hold the classes and are the splits. Else the test split
    is about 20 % of the images, drawn by the hash of their keys (`keys.rows_for_test`). A key is the path from
    `directory` on. Examples are in the order of their paths. Transparent images are laid on white. Other files are
    passed over.

    Args:
        directory: of the classes, or of `train` and `test`.
        image_size: height and width of the result.
        cache_dir: see `cache.entry_path`; the key covers every image's path and bytes.

    Returns:
        A validated `Dataset` with `scale` 255 and memory-mapped images; class names are sorted.

    Raises:
        FileNotFoundError: if the directory, or one of `train` and `test`, is missing.
        ValueError: if `image_size` is missing, there is no image, an image cannot be read (it is named), the test split
            has a class that the training split lacks, or a class has too few images to split.
    """
    if directory is None or image_size is None:
        raise ValueError(
            f"directory is {directory!r} and image_size is {image_size!r}: image_folder needs both; give "
            "--data.directory and --data.image-size"
        )
    directory = Path(directory)
    if not directory.is_dir():
        raise FileNotFoundError(f"{directory} is not a folder: it must hold one folder of images a class")
    present = [split for split in ("train", "test") if (directory / split).is_dir()]
    if len(present) == 1:
        raise FileNotFoundError(
            f"{directory} has {present[0]} and lacks {'test' if present == ['train'] else 'train'}: give both, or one "
            "folder a class without either, to have 20 % drawn for the test split"
        )
    roots = [directory / split for split in present] or [directory]
    files = [_files(root) for root in roots]
    names = sorted({path.parent.name for path in files[0]})
    unknown = [path for path in files[-1] if path.parent.name not in names]
    if unknown:
        raise ValueError(
            f"{unknown[0]} is of class {unknown[0].parent.name!r}, which {roots[0]} lacks: add or remove it"
        )
    digest = hashlib.sha256()
    for path in (path for group in files for path in group):
        digest.update(f"{path.relative_to(directory).as_posix()}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    key = {
        "image_folder": digest.hexdigest(),
        "image_size": image_size,
        "split": TEST_SHARE,
        "decoder": images.DECODER,
    }
    return cache.cached(
        cache_dir, directory.resolve().name, key, lambda folder: _build(directory, files, names, image_size)
    )


def _files(root: Path) -> list[Path]:
    found = [path for path in root.glob("*/*") if path.suffix.lower() in _SUFFIXES and path.is_file()]
    if not found:
        raise ValueError(f"{root} holds no image: it must have folders, one a class, of {', '.join(_SUFFIXES)} files")
    return sorted(found, key=lambda path: (path.parent.name, path.name))


def _build(directory: Path, files: list[list[Path]], names: list[str], size: int) -> Dataset:
    arrays, keys = [], []
    for group in files:
        arrays.append(np.stack([images.decode(str(path), path.read_bytes(), 3, size) for path in group]))
        arrays.append(np.array([names.index(path.parent.name) for path in group], np.int32))
        keys.append(np.array([path.relative_to(directory).as_posix() for path in group], dtype=np.str_))
    if len(files) == 1:
        pixels, labels = arrays
        test = rows_for_test(keys[0], labels, TEST_SHARE)
        train = np.delete(np.arange(len(labels)), test)
        arrays = [pixels[train], labels[train], pixels[test], labels[test]]
        keys = [keys[0][train], keys[0][test]]
    train_keys, test_keys = keys
    return from_arrays(
        directory.resolve().name,
        *arrays,
        class_names=names,
        train_keys=train_keys,
        test_keys=test_keys,
        keys_are="file",
    )
