"""Which unlearned examples a run keeps for its report, and as what: small pictures, or the beginnings of texts."""

import base64
import io
from pathlib import Path

import numpy as np

from ugclu_jax import devices, files
from ugclu_jax.data.dataset import Dataset
from ugclu_jax.harness.outputs import is_milestone
from ugclu_jax.harness.plan import Plan, Step
from ugclu_jax.report import shown
from ugclu_jax.report.shown import LONGEST, MOST, PICTURE, TEXT, Shown

LARGEST = 64
"""Pixels of a side of a picture that is kept."""
CHANNELS = (1, 3)
"""Grey, or red, green and blue."""


def write_shown(plan: Plan, step: Step) -> None:
    """Keep some of what is unlearned, where outputs are kept and the user lets it; the first process does."""
    if not plan.config.show_unlearned or not is_milestone(step, len(plan.steps)) or not devices.is_first():
        return
    kept = step.kept.get("unlearned")
    found = [] if kept is None else shown_of(plan.scenario.dataset, chosen(kept[1]))
    if found:
        shown.write(plan.folder.path, step.index, found)


def forget_shown(folder: Path) -> None:
    """Remove all that `write_shown` kept."""
    for path in shown.files_of(folder):
        files.discard(path)


def chosen(rows: np.ndarray) -> np.ndarray:
    """`MOST` of the rows at most, evenly spaced among them.

    >>> chosen(np.arange(100, 123)).tolist()
    [100, 102, 104, 106, 108, 110, 112, 114, 116, 118, 120, 122]
    """
    places = np.linspace(0, len(rows) - 1, min(MOST, len(rows))).round().astype(int)
    return np.asarray(rows)[places]


def shown_of(dataset: Dataset, rows: np.ndarray) -> list[Shown]:
    """Training examples to be looked at; none where inputs are neither pictures nor texts that can be read."""
    inputs, labels = dataset.train_inputs, [dataset.class_names[c] for c in dataset.train_labels[rows]]
    if dataset.vocabulary_size is not None:
        kind, contents = TEXT, texts_of(dataset, rows)
    elif inputs.ndim == 4 and inputs.shape[-1] in CHANNELS:
        kind, contents = PICTURE, [thumbnail(each) for each in as_bytes(np.asarray(inputs[rows]), dataset.scale)]
    else:
        return []
    return [Shown(int(row), *rest) for row, *rest in zip(rows, labels, [kind] * len(rows), contents, strict=False)]


def as_bytes(pictures: np.ndarray, scale: float) -> np.ndarray:
    """Pictures from 0 to 255: stored bytes by their scale, other numbers from the least to the largest.

    >>> as_bytes(np.array([[0, 8, 16]], np.uint8), 16.0).tolist(), as_bytes(np.array([-1.0, 1.0]), 1.0).tolist()
    ([[0, 128, 255]], [0, 255])
    """
    numbers = np.nan_to_num(np.asarray(pictures, np.float64))
    low, high = (0.0, scale) if pictures.dtype == np.uint8 else (numbers.min(), numbers.max())
    return np.clip(np.rint(255 * (numbers - low) / ((high - low) or 1.0)), 0, 255).astype(np.uint8)


def thumbnail(picture: np.ndarray) -> str:
    """A PNG file in base64 of an [H, W, 1 or 3] array, no side longer than `LARGEST`."""
    from PIL import Image  # which only this needs

    image = Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture)
    image.thumbnail((LARGEST, LARGEST))
    content = io.BytesIO()
    image.save(content, "PNG")
    return base64.b64encode(content.getvalue()).decode()


def texts_of(dataset: Dataset, rows: np.ndarray) -> list[str]:
    """The beginnings of texts, from their tokens; none where the tokenizer is gone."""
    if dataset.tokenizer is None or not dataset.tokenizer.is_file():
        return []
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(dataset.tokenizer))
    return [text.strip()[:LONGEST] for text in tokenizer.decode_batch(np.asarray(dataset.train_inputs[rows]).tolist())]
