"""Image sets of TensorFlow Datasets, without TensorFlow: official archives or prepared data in, cached arrays out.

Examples are ordered by TFDS's `id` where the set has one, which is the order in the official files (by path
for tiny_imagenet); mnist and fashion_mnist have none and come in TFDS's own fixed order.
"""

import hashlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ugclu_jax.data import cache, images
from ugclu_jax.data.dataset import Dataset, from_arrays

_CHUNK = 4096  # examples read at a time
_TEST_SPLITS = {"tiny_imagenet": "validation"}  # its test split has no labels


def load(
    name: str, directory: Path | str | None = None, cache_dir: Path | None = None, download: bool = False
) -> Dataset:
    """Load an image set that TFDS, or this library's builder for TFDS, knows.

    With `directory`, the official archives there are used, else data prepared there by TFDS as array_record, and
    nothing else is tried. Without, the cache is looked into, then TFDS's default `data_dir`; then, only if `download`,
    the archives are fetched. Archives are checked against the official SHA-256.

    Args:
        name: a key of `tfds_builders.BUILDERS`.
        directory: of the official archives under their official names, or a TFDS `data_dir`.
        cache_dir: see `cache.entry_path`; downloads are kept there too.
        download: whether the network may be used.

    Returns:
        A validated `Dataset` with `scale` 255 and memory-mapped images [H, W, C] uint8.

    Raises:
        FileNotFoundError: if no place has the data; the message names the ways to get them.
        ValueError: if an archive has the wrong hash or content, or prepared data lack a split, random access or a
            readable image.
        ConnectionError: if the download fails.

    Example:
        >>> load("cifar10", "/nowhere")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        FileNotFoundError: /nowhere lacks cifar-10-binary.tar.gz. Any one of three ways provides it:
        ...
    """
    from ugclu_jax.data.tfds_builders import BUILDERS  # 0.7 s that only these sets need

    builder_class = BUILDERS[name]
    official = {url: builder_class.url_infos[url] for url in builder_class.URLS}
    key = {
        "tfds": f"{builder_class.name}:{builder_class.VERSION}",
        "sha256": {info.filename: info.checksum for info in official.values()},
        "decoder": images.DECODER,
    }
    if directory is not None:
        directory = Path(directory)
        missing = [info.filename for info in official.values() if not (directory / info.filename).is_file()]
        if not missing:
            return cache.cached(
                cache_dir, name, key, lambda folder: _from_archives(name, builder_class, folder, directory)
            )
        prepared = builder_class(data_dir=directory)
        if len(missing) < len(official) or not prepared.is_prepared():
            raise FileNotFoundError(_ways(name, prepared, f"{directory} lacks {', '.join(missing)}", official))
        return _from_prepared(name, prepared, cache_dir)
    if cache.entry_path(cache_dir, name, key).exists():
        return cache.load(cache_dir, name, key)
    prepared = builder_class()
    if prepared.is_prepared():
        return _from_prepared(name, prepared, cache_dir)
    if not download:
        raise FileNotFoundError(_ways(name, prepared, f"{name} was not found", official))
    downloads = (cache_dir or cache.default_directory()) / "downloads"
    return cache.cached(
        cache_dir, name, key, lambda folder: _from_archives(name, builder_class, folder, None, downloads)
    )


def _ways(name: str, builder: Any, problem: str, official: dict[str, Any]) -> str:
    urls = "".join(f"\n       {url}" for url in official)
    return (
        f"{problem}. Any one of three ways provides it:\n"
        "  1. download=True (--data.download) fetches it\n"
        f"  2. a directory (--data.directory) that holds, under these names, the official files{urls}\n"
        f"  3. TensorFlow Datasets, where it has prepared {builder.name} {builder.VERSION} as array_record: its\n"
        f"     data_dir, given as the directory or in TFDS_DATA_DIR; looked for in {builder.data_dir}"
    )


def _from_archives(
    name: str, builder_class: Any, folder: Path, manual: Path | None, downloads: Path | None = None
) -> Dataset:
    """Prepare in a temporary directory below `folder`, on the cache's disk, and read: only the arrays are kept."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError
    from tensorflow_datasets.core.download.util import DownloadError

    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        builder = builder_class(data_dir=temporary, file_format="array_record")
        config = tfds.download.DownloadConfig(manual_dir=manual, force_checksums_validation=True)
        try:
            builder.download_and_prepare(download_dir=downloads, download_config=config)
        except NonMatchingChecksumError as error:
            raise ValueError(
                f"{name}: a file is not the official one; fetch it again (a size below the expected one means an "
                f"incomplete download).\n{error}"
            ) from error
        except (DownloadError, ConnectionError) as error:
            raise ConnectionError(
                f"{name} could not be downloaded ({error}); try again later, or give a directory of the files"
            ) from error
        return _read(name, builder)


def _from_prepared(name: str, builder: Any, cache_dir: Path | None) -> Dataset:
    folder = Path(builder.data_dir)
    described = b"".join((folder / file).read_bytes() for file in ("dataset_info.json", "features.json"))
    key = {
        "tfds": f"{builder.name}:{builder.version}",
        "prepared": hashlib.sha256(described).hexdigest(),
        "folder": str(folder.absolute()),
        "decoder": images.DECODER,
    }
    return cache.cached(cache_dir, name, key, lambda partial: _read(name, builder))


def _read(name: str, builder: Any) -> Dataset:
    splits = ("train", _TEST_SPLITS.get(name, "test"))
    for split in splits:
        if split not in builder.info.splits:
            raise ValueError(
                f"{builder.data_dir} lacks split {split!r} (it has {', '.join(builder.info.splits)}): prepare it again"
            )
    train, test = (_read_split(builder, split) for split in splits)
    return from_arrays(name, *train, *test, class_names=builder.info.features["label"].names)


def _read_split(builder: Any, split: str) -> tuple[np.ndarray, np.ndarray]:
    import tensorflow_datasets as tfds

    try:
        source = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
    except NotImplementedError as error:
        raise ValueError(
            f"{builder.data_dir} is not in array_record format, the one that can be read without TensorFlow: prepare "
            "it again with file_format='array_record'"
        ) from error
    encoded = []  # all of them, for an example's place is known when every id is; much smaller than the pixels
    for start in range(0, len(source), _CHUNK):
        rows = range(start, min(start + _CHUNK, len(source)))
        for row, example in zip(rows, source.__getitems__(rows), strict=True):  # 2.5 times faster than one by one
            encoded.append((example.get("id", row), row, example["image"], example["label"]))
    encoded.sort(key=lambda entry: entry[:2])
    shape = builder.info.features["image"].shape
    pixels = np.empty((len(encoded), *shape), np.uint8)
    for place, (_, row, image, _) in enumerate(encoded):
        where = f"image {row} of split {split} in {builder.data_dir}"
        decoded = images.decode(where, image, shape[-1])
        if decoded.shape != shape:
            raise ValueError(f"{where} has shape {decoded.shape}, not {shape}: prepare the set again")
        pixels[place] = decoded
    return pixels, np.array([label for *_, label in encoded], np.int32)
