"""Data sources by name: arrays in, ids out."""

from collections.abc import Callable
from typing import NamedTuple

from ugclu_jax.data import digits, fashion_mnist, image_folder, npz, text, tfds_images
from ugclu_jax.data.checks import refuse_name
from ugclu_jax.data.cuts import hold_out, subset, with_label_noise
from ugclu_jax.data.dataset import Dataset, from_arrays, validate
from ugclu_jax.data.ids import example_id, split_and_position
from ugclu_jax.data.options import DataOptions

__all__ = [
    "DATASETS",
    "DataOptions",
    "Dataset",
    "Source",
    "example_id",
    "from_arrays",
    "hold_out",
    "load",
    "split_and_position",
    "subset",
    "validate",
    "with_label_noise",
]


class Source(NamedTuple):
    """A way to load a data set, and the names of the options that it uses."""

    load: Callable[..., Dataset]
    options: tuple[str, ...]


def _tfds(name: str) -> Source:
    return Source(lambda **options: tfds_images.load(name, **options), ("directory", "cache_dir", "download"))


DATASETS: dict[str, Source] = {
    "digits": Source(digits.load, ()),
    "fashion_mnist": Source(fashion_mnist.load, ("directory", "cache_dir", "download")),
    **{name: _tfds(name) for name in ("mnist", "cifar10", "cifar100", "svhn_cropped", "tiny_imagenet")},
    "image_folder": Source(image_folder.load, ("directory", "cache_dir", "image_size")),
    "npz": Source(npz.load, ("directory",)),
    "text": Source(text.load, ("directory", "cache_dir", "text_length", "vocabulary_size")),
}


def load(name: str, options: DataOptions | None = None) -> Dataset:
    """Load a data set by name.

    Args:
        name: a key of `DATASETS`.
        options: where its files are and how they are prepared; the defaults when left out.

    Returns:
        A validated `Dataset`.

    Raises:
        ValueError: if the name is unknown (the nearest valid names are given), an option is given that the source does
            not use, or data are damaged.
        FileNotFoundError: if the data are not on this machine; the message names the ways to get them.

    Example:
        >>> load("digits").num_classes
        10
        >>> load("digit")
        Traceback (most recent call last):
        ...
        ValueError: unknown dataset 'digit': it must be one of digits, fashion_mnist, mnist, cifar10, cifar100, \
svhn_cropped, tiny_imagenet, image_folder, npz, text; did you mean digits?
    """
    if name not in DATASETS:
        refuse_name("dataset", name, DATASETS)
    source, options = DATASETS[name], options or DataOptions()
    options.refuse_unused(name, source.options)
    return source.load(**{option: getattr(options, option) for option in source.options})
