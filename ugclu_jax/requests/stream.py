"""The request stream as data: which ids to learn and to unlearn, in which order.

A stream is a tuple of requests; each names its kind and the ids it is about (rows of the training split). Tasks exist
here only, to build streams: no algorithm ever sees one.

References: arXiv 2505.15178, the task-aware setting (whole tasks are unlearned) and the task-agnostic one (class-wise
and random-sample). The notation "L1 U2" is this library's own.
"""

import re
from collections.abc import Sequence

import numpy as np

from ugclu_jax.requests.request import Request, Stream
from ugclu_jax.requests.validate import validate


def split_classes(num_classes: int, num_tasks: int) -> tuple[tuple[int, ...], ...]:
    """Consecutive classes in equally large tasks.

    Raises:
        ValueError: the classes cannot be shared out evenly.

    >>> split_classes(6, 3)
    ((0, 1), (2, 3), (4, 5))
    """
    if num_tasks < 1 or num_classes < 1 or num_classes % num_tasks:
        fitting = [n for n in range(1, num_classes + 1) if num_classes % n == 0]
        raise ValueError(
            f"{num_classes} classes cannot be split into {num_tasks} equal tasks; the number of tasks must divide the "
            f"number of classes: choose one of {fitting}"
        )
    size = num_classes // num_tasks
    return tuple(tuple(range(start, start + size)) for start in range(0, num_classes, size))


def task_aware(
    labels: np.ndarray,
    tasks: Sequence[Sequence[int]],
    sequence: str = "L1 L2 L3 U2 L4 L5 U4",
    parts: int = 1,
) -> Stream:
    """Learn and unlearn whole tasks, in any order: "L3" learns task 3 (counted from 1), "U2" unlearns task 2.

    Args:
        labels: [N] integers, the labels of the training split.
        tasks: the classes of each task.
        sequence: requests, separated by spaces; an unlearned task may be learned again.
        parts: tasks that each of `tasks` is cut into, of every `parts`-th example; those of the first count first.

    Raises:
        ValueError: a token that is no request, a task that is not there or has no example, or a stream that `validate`
            refuses.

    >>> [(r.kind, r.name, r.ids.tolist()) for r in task_aware([0, 1, 1, 0], [[0], [1]], "L1 L2 U1")]
    [('learn', 'L1', [0, 3]), ('learn', 'L2', [1, 2]), ('unlearn', 'U1', [0, 3])]
    >>> [(r.name, r.ids.tolist()) for r in task_aware([0, 1, 1, 0], [[0], [1]], "L1 L2 L4", parts=2)]
    [('L1', [0]), ('L2', [3]), ('L4', [2])]
    """
    task_ids = _parts_of(_ids_of_tasks(labels, tasks), parts)
    stream = []
    for position, token in enumerate(sequence.split(), start=1):
        match = re.fullmatch(r"([LU])([0-9]+)", token)
        if match is None:
            raise ValueError(
                f"token {position} of the sequence is {token!r}; a token must be L or U and the number of a task, such "
                f"as L1 or U1: correct it in {sequence!r}"
            )
        task = int(match[2])
        if not 1 <= task <= len(task_ids):
            raise ValueError(
                f"token {position} of the sequence is {token!r}; tasks are counted from 1 and there are "
                f"{len(task_ids)}: choose a number from 1 to {len(task_ids)}, or split the classes into more tasks"
            )
        stream.append(Request("learn" if match[1] == "L" else "unlearn", token, task_ids[task - 1]))
    validate(tuple(stream), len(labels))
    return tuple(stream)


def class_wise(labels: np.ndarray, tasks: Sequence[Sequence[int]], unlearn_classes: Sequence[int]) -> Stream:
    """Learn all tasks in order, then unlearn some classes, usually of different tasks, in one request.

    Args:
        labels: [N] integers, the labels of the training split.
        tasks: the classes of each task.
        unlearn_classes: classes of those tasks.

    Raises:
        ValueError: a class that no task has or that has no example, or a stream that `validate` refuses.

    >>> class_wise([0, 1, 2, 3], [[0, 1], [2, 3]], [1, 2])[-1]
    Request(kind='unlearn', name='U classes 1,2', ids=array([1, 2], dtype=int32))
    """
    learned = sorted(label for task in tasks for label in task)
    missing = [label for label in unlearn_classes if label not in learned]
    if missing:
        raise ValueError(
            f"classes {missing} are to be unlearned but belong to no task; only what was learned can be unlearned: "
            f"choose from {learned}"
        )
    name = "U classes " + ",".join(map(str, unlearn_classes))
    unlearn = Request("unlearn", name, ids_of_classes(name, labels, unlearn_classes))
    stream = (*learn_tasks(labels, tasks), unlearn)
    validate(stream, len(labels))
    return stream


def random_sample(labels: np.ndarray, tasks: Sequence[Sequence[int]], fraction: float = 0.1, seed: int = 0) -> Stream:
    """Learn all tasks in order, then unlearn a share of all their examples, drawn at random, in one request.

    Args:
        labels: [N] integers, the labels of the training split.
        tasks: the classes of each task.
        fraction: 0 < fraction ≤ 1; `round(fraction · number of learned examples)` are unlearned.
        seed: of the draw.

    Raises:
        ValueError: a fraction out of range or so small that no example is due, or a stream that `validate` refuses.

    >>> [len(r.ids) for r in random_sample([0, 1] * 10, [[0], [1]], fraction=0.1)]
    [10, 10, 2]
    """
    learned = learn_tasks(labels, tasks)
    name = f"U {100 * fraction:g}%"
    everything = [request.ids for request in learned]
    ids = share(name, np.concatenate([*everything, np.zeros(0, np.int32)]), fraction, seed)
    stream = (*learned, Request("unlearn", name, ids))
    validate(stream, len(labels))
    return stream


def learn_tasks(labels: np.ndarray, tasks: Sequence[Sequence[int]], parts: int = 1) -> Stream:
    """Learn all tasks in order; with `parts`, each in so many requests, see `task_aware`.

    Raises:
        ValueError: a class that stands in two tasks or that has no example, or a part of a task without one.

    >>> [(request.name, request.ids.tolist()) for request in learn_tasks([0, 1, 1, 0], [[0], [1]])]
    [('L1', [0, 3]), ('L2', [1, 2])]
    """
    found = _parts_of(_ids_of_tasks(labels, tasks), parts)
    return tuple(Request("learn", f"L{task}", ids) for task, ids in enumerate(found, start=1))


def ids_of_classes(where: str, labels: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    """Int32 ids of all examples of some classes; `where` opens the message of the ValueError for a class of none."""
    present = np.unique(labels)
    missing = [label for label in classes if label not in present]
    if missing:
        raise ValueError(
            f"{where} has classes {missing} without any training example; a class must occur in the labels: choose "
            f"from {present.tolist()}"
        )
    return np.flatnonzero(np.isin(labels, classes)).astype(np.int32)


def share(where: str, ids: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """`round(fraction · n)` of n ids at random; `where` opens the message of the ValueError for a fraction of none."""
    if not 0 < fraction <= 1:
        raise ValueError(f"{where} has fraction {fraction}; it must be above 0 and at most 1: 0.1 unlearns a tenth")
    count = round(fraction * len(ids))
    if count == 0:
        raise ValueError(
            f"{where} has fraction {fraction} of {len(ids)} retained examples, which is none; a request must have at "
            "least one id: choose a larger fraction, or learn first"
        )
    return np.random.default_rng(seed).choice(np.sort(ids), count, replace=False)


def _ids_of_tasks(labels: np.ndarray, tasks: Sequence[Sequence[int]]) -> list[np.ndarray]:
    classes = [label for task in tasks for label in task]
    shared = sorted({label for label in classes if classes.count(label) > 1})
    if shared:
        raise ValueError(
            f"classes {shared} stand more than once in tasks {[list(task) for task in tasks]}; a class must belong to "
            "one task: take the repetition out"
        )
    return [ids_of_classes(f"task {position}", labels, task) for position, task in enumerate(tasks, start=1)]


def _parts_of(task_ids: list[np.ndarray], parts: int) -> list[np.ndarray]:
    smallest = min(map(len, task_ids), default=1)
    if not 1 <= parts <= smallest:
        raise ValueError(
            f"parts is {parts}, and a task of {smallest} examples cannot be cut into so many; a part must have an "
            f"example: choose a number from 1 to {smallest}"
        )
    return [ids[part::parts] for ids in task_ids for part in range(parts)]
