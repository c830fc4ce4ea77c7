"""Names of classes: their order, names that are nearly one, and the table of classes that a program begins with."""

import re
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np

from ugclu_jax.data.dataset import Dataset
from ugclu_jax.data.wording import counted, listed

_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,18}")  # longer ones are digests, not numbers


def in_order(names: Iterable[str]) -> list[str]:
    """Different names in the order of their classes: whole numbers by value, then the others by spelling.

    Example:
        >>> in_order(["10", "2", "cat", "2", "Ant"])
        ['2', '10', 'Ant', 'cat']
    """
    return sorted(set(names), key=lambda name: (0, int(name), name) if _is_number(name) else (1, 0, name))


def numbering_notes(what: str, names: Sequence[str]) -> list[str]:
    """What to say where names are whole numbers but not those of the classes.

    Args:
        what: what names the classes, such as "folder".
        names: of the classes, in their order.

    Example:
        >>> numbering_notes("folder", ["0", "1"]), numbering_notes("folder", ["a", "b"])
        ([], [])
        >>> numbering_notes("folder", ["1", "2"])
        ['classes are numbered from 0, whatever their names: folder 1 is class 0, folder 2 is class 1']
    """
    if not any(map(_is_number, names)) or list(names) == [str(number) for number in range(len(names))]:
        return []
    pairs = [f"{what} {name} is class {number}" for number, name in enumerate(names) if name != str(number)]
    return [f"classes are numbered from 0, whatever their names: {listed(pairs, most=20)}"]


def near_twins(names: Iterable[str]) -> list[list[str]]:
    """Groups of different names that a reader may take for one: they differ by case, width, form of Unicode, space,
    characters without width, or leading zeros.

    Example:
        >>> near_twins(["Cat", "cat", "dog", "cat ", "1", "01"])
        [['Cat', 'cat', 'cat '], ['1', '01']]
    """
    groups: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
        folded = "".join(each for each in folded if not each.isspace() and unicodedata.category(each) != "Cf")
        groups.setdefault(str(int(folded)) if _is_number(folded) else folded, []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def split_notes(names: Sequence[str], train_labels: np.ndarray, test_labels: np.ndarray) -> list[str]:
    """What to say of classes of one example, and of those that the test split lacks.

    Example:
        >>> split_notes(["a", "b"], np.array([0, 0, 1]), np.array([0]))
        ['1 class has a single example: b', '1 class is not in the test split: b']
    """
    train = np.bincount(train_labels, minlength=len(names))
    test = np.bincount(test_labels, minlength=len(names))
    notes = []
    for chosen, (one, many) in (
        (train + test == 1, ("class has a single example", "classes have a single example each")),
        (test == 0, ("class is not in the test split", "classes are not in the test split")),
        (train == 0, ("class is not in the training split", "classes are not in the training split")),
    ):
        if chosen.any():
            found = [names[number] for number in np.flatnonzero(chosen).tolist()]
            notes.append(f"{counted(len(found), one, many)}: {listed(found)}")
    return notes


def class_table(dataset: Dataset) -> list[tuple[int, str, int, int, str]]:
    """Of each class: number, name, examples in the training split and in the test split, and sizes of its pictures.

    Sizes are those of the files where the source says them, else those of the examples.

    Example:
        >>> from ugclu_jax.data import from_arrays
        >>> rows = np.zeros((3, 4, 5, 1), np.uint8)
        >>> class_table(from_arrays("toy", rows, [0, 1, 1], rows[:1], [1], class_names=["cat", "dog"]))
        [(0, 'cat', 1, 0, '5×4'), (1, 'dog', 2, 1, '5×4')]
    """
    train = np.bincount(dataset.train_labels, minlength=dataset.num_classes)
    test = np.bincount(dataset.test_labels, minlength=dataset.num_classes)
    shape = dataset.train_inputs.shape[1:]
    size = f"{shape[1]}×{shape[0]}" if len(shape) == 3 else "×".join(map(str, shape))
    sizes = dataset.sizes or (size,) * dataset.num_classes
    rows = zip(dataset.class_names, train.tolist(), test.tolist(), sizes, strict=True)
    return [(number, *row) for number, row in enumerate(rows)]


def _is_number(name: str) -> bool:
    return _WHOLE_NUMBER.fullmatch(name) is not None
