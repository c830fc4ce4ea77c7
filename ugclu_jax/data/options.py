"""Options of the data sources, as one frozen dataclass whose docstrings are the command line's help."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path


@dataclass(frozen=True)
class DataOptions:
    """Where data come from and how they are prepared. A source refuses options that it does not use.

    Example:
        >>> DataOptions(image_size=32).changed()
        ('image_size',)
    """

    directory: Path | None = None
    """Folder of the source's files (npz: the file). For cifar10, cifar100, svhn_cropped, mnist and tiny_imagenet: of
    the official archives, or a data_dir that TensorFlow Datasets prepared as array_record."""
    cache_dir: Path | None = None
    """Where prepared arrays and downloads are kept. Default: ~/.cache/ugclu_jax/data."""
    download: bool = False
    """Download the official archives where they are not found."""
    image_size: int | None = None
    """image_folder: height and width that images are resized to."""
    follow_links: bool = False
    """image_folder: read also what links lead to that lies outside of the folder."""
    encoding: str | None = None
    """text: of its files, such as cp1252. Default: one of Unicode, or the only one that makes words of the bytes."""
    text_length: int = 128
    """text: tokens an example is cut or padded to, the leading CLS token included."""
    vocabulary_size: int = 8192
    """text: most tokens that the tokenizer may have, 258 or more."""
    tokenizer: Path | None = None
    """text: a tokenizer.json that cuts the texts, such as that of pretrained weights. Default: one that is trained on
    the training texts."""

    def __post_init__(self) -> None:
        for name, least in {"image_size": 1, "text_length": 2, "vocabulary_size": 258}.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} is {value}: it must be at least {least}")

    def changed(self) -> tuple[str, ...]:
        """Names of the options that differ from their defaults."""
        return tuple(field.name for field in fields(self) if getattr(self, field.name) != field.default)

    def refuse_unused(self, source: str, used: Iterable[str]) -> None:
        """Refuse options that a source would ignore.

        Raises:
            ValueError: naming the option, its value, and what the source does use.
        """
        for name in self.changed():
            if name not in used:
                uses = f"it uses {', '.join(used)}" if used else "it uses none"
                raise ValueError(
                    f"option {name} is {str(getattr(self, name))!r}: {source} does not use it ({uses}); leave it out"
                )
