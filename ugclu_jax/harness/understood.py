"""What a program understood of its data and its requests, in the user's words, before any work."""

from collections.abc import Iterable, Iterator

import numpy as np

from ugclu_jax.data.classes import class_table
from ugclu_jax.data.dataset import Dataset
from ugclu_jax.requests import Request, Stream

_CLASSES, _KEYS = 12, 3  # named in a line
_ROWS = 40  # of the table of classes
_INDENT = " " * 12


def lines_of_data(dataset: Dataset, notes: Iterable[str] = ()) -> Iterator[str]:
    """Name and size, the table of classes (number, name, training and test examples, size), and what there is to say.

    Args:
        dataset: the data.
        notes: what the run has to say of them, after what their source has.

    Example:
        >>> import numpy as np
        >>> from ugclu_jax.data import from_arrays
        >>> rows, names = np.zeros((4, 3, 3, 1), np.uint8), ["cat", "dog"]
        >>> for line in lines_of_data(from_arrays("toy", rows, [0, 1, 1, 1], rows[:1], [0], class_names=names)):
        ...     print(line)
        Data:       toy, 4 training and 1 test examples of 2 classes
                    0  cat  1 + 1  3×3
                    1  dog  3 + 0  3×3
    """
    sizes = f"{len(dataset.train_labels)} training and {len(dataset.test_labels)} test examples"
    yield f"Data:       {dataset.name}, {sizes} of {dataset.num_classes} classes"
    rows = [(str(number), name, f"{train} + {test}", size) for number, name, train, test, size in class_table(dataset)]
    if all(number == name for number, name, *_ in rows[:_CLASSES]):
        shown = [f"{name} ({counts})" for _, name, counts, _ in rows[:_CLASSES]]
        more = f" and {len(rows) - _CLASSES} more" if len(rows) > _CLASSES else ""
        yield f"{_INDENT}{', '.join(shown)}{more}"
    else:
        widths = [max(map(len, column)) for column in zip(*rows[:_ROWS], strict=True)]
        for row in rows[:_ROWS]:
            yield _INDENT + "  ".join(value.ljust(width) for value, width in zip(row, widths, strict=True)).rstrip()
        if len(rows) > _ROWS:
            yield f"{_INDENT}and {len(rows) - _ROWS} more, see examples.csv in the run's folder"
    for note in (*dataset.notes, *notes):
        yield f"{_INDENT}{note}"


def lines_of_stream(stream: Stream, dataset: Dataset) -> Iterator[str]:
    """A line for each request: how many examples of which classes, how many test examples, the first keys.

    Example:
        >>> import numpy as np
        >>> from ugclu_jax.data import from_arrays
        >>> rows, names = np.eye(4, dtype=np.uint8), ["cat", "dog"]
        >>> data = from_arrays("toy", rows, [0, 1, 1, 1], rows[:1], [0], class_names=names)
        >>> for line in lines_of_stream((Request("learn", "all", range(4)), Request("unlearn", "one", [2], [0])), data):
        ...     print(line)
        1 learn   all: 4 examples (dog 3, cat 1); train/0, train/1, train/2 and 1 more
        2 unlearn one: 1 examples (dog 1), and 1 test examples, never learned; train/2
    """
    for position, request in enumerate(stream, start=1):
        yield f"{position} {request.kind:<7} {request.name}: {described(request, dataset)}"


def described(request: Request, dataset: Dataset) -> str:
    """How many examples a request is about, of which classes, and the first keys."""
    counts = np.bincount(dataset.train_labels[request.ids], minlength=dataset.num_classes)
    order = [int(label) for label in np.argsort(-counts, kind="stable") if counts[label]]
    classes = ", ".join(f"{dataset.class_names[label]} {counts[label]}" for label in order[:_CLASSES])
    more = f" and {len(order) - _CLASSES} classes more" if len(order) > _CLASSES else ""
    held_out = f", and {len(request.held_out)} test examples, never learned" if request.held_out.size else ""
    keys = dataset.train_keys[request.ids[:_KEYS]].tolist()
    rest = f" and {len(request.ids) - _KEYS} more" if len(request.ids) > _KEYS else ""
    return f"{len(request.ids)} examples ({classes}{more}){held_out}; {', '.join(keys)}{rest}"
