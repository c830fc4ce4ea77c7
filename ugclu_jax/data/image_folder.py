"""Pictures in folders named by their class."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ugclu_jax.data import cache, file_metadata, images
from ugclu_jax.data.classes import in_order, numbering_notes, split_notes
from ugclu_jax.data.dataset import Dataset, from_arrays
from ugclu_jax.data.folders import File, find
from ugclu_jax.data.formats import candidates
from ugclu_jax.data.keys import rows_for_test
from ugclu_jax.data.memory import check_fits
from ugclu_jax.data.wording import counted, listed

TEST_SHARE = 0.2
_SEEN_FILE = "pictures.json"
"""What was seen in decoding: sizes of the pictures of each class, and notes."""


def load(
    directory: Path | str | None, image_size: int | None, cache_dir: Path | None = None, follow_links: bool = False
) -> Dataset:
    """Load `directory/class/…`, pictures of any format of Pillow, in RGB, resized (bicubic) to a square.

    Where `directory/train` and `directory/test` hold the folders of classes, they are the splits. Else the test split
    is about 20 % of the pictures, drawn by the hash of their keys (`keys.rows_for_test`). A key is the path from
    `directory` on. Examples are in the order of their keys, classes in that of their names, whole numbers by value.
    What a picture is and how it is read: `formats.py`, `images.py`; which files count: `folders.py`.

    Args:
        directory: of the classes, or of `train` and `test`; a `metadata.csv`, `.jsonl` or `.parquet` may lie there.
        image_size: height and width of the result.
        cache_dir: see `cache.entry_path`; the key covers every picture's path and bytes.
        follow_links: whether links may lead out of `directory`.

    Returns:
        A validated `Dataset` with `scale` 255 and memory-mapped pictures; its notes name all that was passed over.

    Raises:
        FileNotFoundError: if the directory, or one of `train` and `test`, is missing.
        ValueError: if `image_size` is missing, there are pictures of fewer than two classes, a picture cannot be read
            (it is named), the test split has a class that the training split lacks, or as `folders.find` and
            `file_metadata.read`.
    """
    if directory is None or image_size is None:
        raise ValueError(
            f"directory is {directory!r} and image_size is {image_size!r}: image_folder needs both; give "
            "--data.directory and --data.image-size"
        )
    directory = Path(directory)
    if not directory.is_dir():
        raise FileNotFoundError(f"{directory} is not a folder: it must hold one folder of images a class")
    found = find(directory, follow_links)
    names = in_order(file.class_name for file in found.files[0])
    for file in found.files[-1]:
        if file.class_name not in names:
            raise ValueError(
                f"{file.path} is of class {file.class_name!r}, which {directory / 'train'} lacks: add or remove it"
            )
    if len(names) < 2:
        raise ValueError(f"{directory} holds pictures of one class, {names[0]!r}: there must be two classes or more")
    files = [file for group in found.files for file in group]
    digests = [_digest(_bytes(file)) for file in files]
    listing = "".join(f"{file.key}\0{digest}\n" for file, digest in zip(files, digests, strict=True))
    key = {
        "image_folder": _digest(listing.encode()),
        "image_size": image_size,
        "split": TEST_SHARE,
        "decoder": images.DECODER,
    }
    name = directory.resolve().name or "pictures"
    dataset = cache.cached(
        cache_dir, name, key, lambda folder: _build(name, found.files, digests, names, image_size, folder)
    )
    seen = json.loads((cache.entry_path(cache_dir, name, key) / _SEEN_FILE).read_text())
    metadata, metadata_notes = file_metadata.read(directory, found.splits, [file.key for file in files])
    notes = [
        *numbering_notes("folder", names),
        *split_notes(names, dataset.train_labels, dataset.test_labels),
        *found.notes,
        *seen["notes"],
        *_copies(files, digests),
        *metadata_notes,
    ]
    return dataclasses.replace(dataset, metadata=metadata, notes=tuple(notes), sizes=tuple(seen["sizes"]))


def _bytes(file: File) -> bytes:
    try:
        return file.path.read_bytes()
    except OSError as error:
        raise ValueError(f"{file.path} cannot be read ({error.strerror}): make it readable, or take it away") from error


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _build(
    name: str, groups: list[list[File]], digests: Sequence[str], names: list[str], size: int, folder: Path
) -> Dataset:
    """Decode every picture, and leave in the folder of the entry what was seen of them."""
    files = [file for group in groups for file in group]
    check_fits(f"{len(files)} pictures of {size} × {size}", len(files) * size * size * 3, "lower --data.image-size")
    pixels = np.empty((len(files), size, size, 3), np.uint8)
    numbers = {class_name: number for number, class_name in enumerate(names)}
    labels = np.array([numbers[file.class_name] for file in files], np.int32)
    shapes = np.empty((len(files), 2), np.int64)
    several: list[str] = []
    for row, (file, digest) in enumerate(zip(files, digests, strict=True)):
        content = _bytes(file)
        if _digest(content) != digest:
            raise ValueError(f"{file.path} changes while it is read: start again when nobody writes to the folder")
        picture = images.read(str(file.path), content, 3, size, candidates(file.path.suffix))
        pixels[row], shapes[row] = picture.pixels, (picture.width, picture.height)
        if picture.frames > 1:
            several.append(file.key)
    keys = np.array([file.key for file in files], dtype=np.str_)
    first = len(groups[0])
    test = np.arange(first, len(files)) if len(groups) > 1 else rows_for_test(keys, labels, TEST_SHARE)
    train = np.delete(np.arange(len(files)), test)
    seen = {"sizes": [_sizes(shapes[labels == label]) for label in range(len(names))], "notes": []}
    if several:
        pictures = counted(len(several), "picture has several frames or pages", "pictures have several frames or pages")
        seen["notes"] = [f"{pictures}, of which the first is read: {listed(several)}"]
    (folder / _SEEN_FILE).write_text(json.dumps(seen))
    return from_arrays(
        name,
        pixels[train],
        labels[train],
        pixels[test],
        labels[test],
        class_names=names,
        train_keys=keys[train],
        test_keys=keys[test],
        keys_are="file",
    )


def _sizes(shapes: np.ndarray) -> str:
    """The range of widths and heights.

    >>> _sizes(np.array([[32, 20], [32, 40]])), _sizes(np.array([[8, 8]]))
    ('32×20 to 32×40', '8×8')
    """
    least, most = (f"{width}×{height}" for width, height in (shapes.min(0), shapes.max(0)))
    return least if least == most else f"{least} to {most}"


def _copies(files: Sequence[File], digests: Sequence[str]) -> list[str]:
    """What to say of pictures whose files are equal: who unlearns one keeps the other."""
    first: dict[str, str] = {}
    copies = []
    for file, digest in zip(files, digests, strict=True):
        if first.setdefault(digest, file.key) != file.key:
            copies.append(f"{file.key} is {first[digest]}")
    if not copies:
        return []
    return [f"{counted(len(copies), 'picture is a copy', 'pictures are copies')} of another: {listed(copies, most=3)}"]
