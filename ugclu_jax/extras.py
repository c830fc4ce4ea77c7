"""What an extra of the package brings; where it is missing, one sentence names the command that installs it."""

import contextlib
import importlib.util
from collections.abc import Iterator
from typing import Literal

Extra = Literal["run", "text", "export", "grid", "living", "onnx"]

MODULES: dict[Extra, tuple[str, ...]] = {
    "run": (
        "orbax",
        "safetensors",
        "sklearn",
        "tensorflow_datasets",
        "importlib_resources",
        "array_record",
        "PIL",
        "duckdb",
        "tyro",
        "rich",
        "matplotlib",
        "jinja2",
    ),
    "text": ("tokenizers", "charset_normalizer"),
    "export": ("tensorboardX", "wandb"),
    "living": ("cryptography",),
    "grid": ("submitit",),
    "onnx": ("jax2onnx", "onnxruntime"),
}
"""Top-level modules that nothing outside a block of `installed_by` and the programs of `experiments` may import."""


class MissingExtraError(ImportError):
    """A module is not installed that an extra installs; the message is the command."""


@contextlib.contextmanager
def installed_by(extra: Extra) -> Iterator[None]:
    """Name the extra that is missing if an import in the block finds no module.

    Args:
        extra: what installs the modules that the block imports.

    Raises:
        MissingExtraError: for the `ModuleNotFoundError` of the block.

    Example:
        >>> with installed_by("run"):
        ...     import a_module_that_nobody_has
        Traceback (most recent call last):
        ...
        ugclu_jax.extras.MissingExtraError: a_module_that_nobody_has is not installed: pip install 'ugclu_jax[run]'
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError(_sentence(str(error.name), extra), name=error.name) from error


def require(extra: Extra) -> None:
    """Refuse at once to start what needs all of an extra.

    Args:
        extra: all of whose modules must be there; none of them is imported.

    Raises:
        MissingExtraError: for the first that is not.

    Example:
        >>> require("run")
    """
    for module in MODULES[extra]:
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError(_sentence(module, extra), name=module)


def _sentence(module: str, extra: Extra) -> str:
    return f"{module} is not installed: pip install 'ugclu_jax[{extra}]'"
