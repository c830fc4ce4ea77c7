"""Data sources by name: arrays in, keys out."""

import importlib
from typing import Any, NamedTuple

from ugclu_jax.data.checks import refuse_name
from ugclu_jax.data.cuts import hold_out, subset, with_label_noise
from ugclu_jax.data.dataset import Dataset, from_arrays, validate
from ugclu_jax.data.keys import content_keys, key_draws, position_keys, rows_for_test
from ugclu_jax.data.metadata import Metadata
from ugclu_jax.data.options import DataOptions

__all__ = [
    "DATASETS",
    "DataOptions",
    "Dataset",
    "Metadata",
    "Source",
    "content_keys",
    "from_arrays",
    "hold_out",
    "key_draws",
    "load",
    "position_keys",
    "rows_for_test",
    "subset",
    "validate",
    "with_label_noise",
]


class Source(NamedTuple):
    """A way to load a data set.

    Attributes:
        module: of this folder, whose `load` it is; imported at first use, for it may need what an extra installs.
        options: names of the options that it uses.
        arguments: what `load` is told besides.
    """

    module: str
    options: tuple[str, ...]
    arguments: tuple[str, ...] = ()

    def load(self, **options: Any) -> Dataset:
        """The data set by these options."""
        return importlib.import_module(f"ugclu_jax.data.{self.module}").load(*self.arguments, **options)


_ARCHIVES = ("directory", "cache_dir", "download")
DATASETS: dict[str, Source] = {
    "digits": Source("digits", ()),
    "fashion_mnist": Source("fashion_mnist", _ARCHIVES),
    **{
        name: Source("tfds_images", _ARCHIVES, (name,))
        for name in ("mnist", "cifar10", "cifar100", "svhn_cropped", "tiny_imagenet")
    },
    "image_folder": Source("image_folder", ("directory", "cache_dir", "image_size", "follow_links")),
    "npz": Source("npz", ("directory",)),
    "text": Source("text", ("directory", "cache_dir", "text_length", "vocabulary_size", "encoding", "tokenizer")),
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
        MissingExtraError: if the source needs an extra that is not installed; the message is the command.

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
