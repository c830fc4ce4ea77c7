"""Fashion-MNIST, 60,000 training and 10,000 test images, from whichever of several places has it."""

from pathlib import Path

from ugclu_jax.data import idx, tfds_images
from ugclu_jax.data.dataset import Dataset, from_arrays

DEBIAN_DIRECTORY = Path("/usr/share/datasets/fashion-mnist")
_CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_HOW_TO_GET_IT = (
    "Ways to get Fashion-MNIST:\n"
    f"  - Debian/Ubuntu: apt-get install dataset-fashion-mnist; it is then found in {DEBIAN_DIRECTORY}\n"
    f"  - a directory of the four files {', '.join(idx.FILES)},\n"
    "    e.g. from https://github.com/zalandoresearch/fashion-mnist, given as --data.directory\n"
    "  - without a directory: what TensorFlow Datasets has prepared, or download=True (--data.download)"
)


def load(directory: Path | str | None = None, cache_dir: Path | None = None, download: bool = False) -> Dataset:
    """Load Fashion-MNIST, images [28, 28, 1] uint8.

    With `directory`, its four idx.gz files are read and nothing else is tried; their headers decide the number of
    images. Without, Debian's package `dataset-fashion-mnist` is used where installed, else `tfds_images.load`: what is
    cached, what TensorFlow Datasets has prepared as array_record in its default `data_dir`, or a download.

    Args:
        directory: of the four files as published.
        cache_dir: for what comes through TensorFlow Datasets, see `cache.entry_path`.
        download: whether the network may be used where nothing else has the data.

    Returns:
        A validated `Dataset` with `scale` 255.

    Raises:
        FileNotFoundError: if a file of `directory` is missing, or if no place has the data; the message names the ways
            to get it.
        ValueError: if a file is truncated or not in the idx format (it is named), or as `tfds_images.load`.

    Example:
        >>> data = load()  # doctest: +SKIP
        >>> data.train_inputs.shape  # doctest: +SKIP
        (60000, 28, 28, 1)

    References:
        Xiao, Rasul, Vollgraf, arXiv 1708.07747.
    """
    if directory is not None:
        return _from_directory(Path(directory))
    if DEBIAN_DIRECTORY.is_dir():
        return _from_directory(DEBIAN_DIRECTORY)
    try:
        return tfds_images.load("fashion_mnist", None, cache_dir, download)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}\n{_HOW_TO_GET_IT}") from error


def _from_directory(directory: Path) -> Dataset:
    missing = [name for name in idx.FILES if not (directory / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{directory} lacks {', '.join(missing)}.\n{_HOW_TO_GET_IT}")
    train_images, train_labels, test_images, test_labels = (
        idx.read(directory / name, axes) for name, axes in zip(idx.FILES, (3, 1, 3, 1), strict=True)
    )
    return from_arrays(
        "fashion_mnist",
        train_images[..., None],
        train_labels,
        test_images[..., None],
        test_labels,
        class_names=_CLASS_NAMES,
    )
