"""What is retained, learned and unlearned after each request of a stream, and which test examples belong to it."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ugclu_jax.requests.request import Request
from ugclu_jax.requests.validate import Ledger


@dataclass(frozen=True)
class Situation:
    """What is retained, learned and unlearned after one request, as ids; None where there is nothing."""

    retained: np.ndarray
    learned: np.ndarray | None
    unlearned: np.ndarray | None  # all that is unlearned so far and was not learned again
    test: np.ndarray  # test examples of the retained groups
    unlearned_test: np.ndarray | None  # test examples of the groups of which nothing is retained any more
    groups: Mapping[str, np.ndarray]  # test examples of every group learned so far
    retained_groups: tuple[str, ...]
    learned_at: Mapping[str, int]  # latest learning of each group
    past_unlearned: Mapping[int, np.ndarray]  # what each unlearn request removed and is still removed


@dataclass(frozen=True)
class Groups:
    """The parts of the test split whose accuracies are averaged: tasks, or classes where no task is known."""

    classes: Mapping[str, tuple[int, ...]]

    def rows(self, name: str, labels: np.ndarray) -> np.ndarray:
        """Rows whose label is one of the group's classes."""
        return np.flatnonzero(np.isin(labels, self.classes[name]))


def situations(
    stream: Sequence[Request], train_labels: np.ndarray, test_labels: np.ndarray, num_classes: int, groups: Groups
) -> list[Situation]:
    """Book-keeping of a stream: the situation after each request.

    Args:
        stream: the requests.
        train_labels: [N] integers in 0 … C−1, of the split whose rows the requests name.
        test_labels: integers of the test split.
        num_classes: C.
        groups: the parts of the test split; a class of none of them is in no group.

    Returns:
        T situations, whose ids of training examples are sorted and int32.

    Raises:
        ValueError: a stream that `validate` refuses.

    >>> stream = [Request("learn", "a", [0, 1]), Request("unlearn", "b", [1])]
    >>> groups = Groups({"zero": (0,), "one": (1,)})
    >>> first, second = situations(stream, np.array([0, 1]), np.array([1, 0, 1]), 2, groups)
    >>> first.test.tolist(), first.unlearned
    ([1, 0, 2], None)
    >>> second.retained.tolist(), second.unlearned.tolist(), second.unlearned_test.tolist()
    ([0], [1], [0, 2])
    """
    group_of_class = {c: name for name, classes in groups.classes.items() for c in classes}
    group_of = np.array([group_of_class.get(c, "") for c in range(num_classes)])[np.asarray(train_labels)]
    rows = {name: groups.rows(name, test_labels) for name in groups.classes}
    ledger = Ledger(len(train_labels))
    learned_at: dict[str, int] = {}
    past: dict[int, np.ndarray] = {}
    found = []
    for index, request in enumerate(stream):
        before = set(group_of[ledger.retained()])
        ledger.enter(request)
        if request.kind == "learn":
            learned_at |= {name: index for name in set(group_of[request.ids]) - before}
            past = {t: left for t, ids in past.items() if (left := np.setdiff1d(ids, request.ids)).size}
        else:
            past[index] = request.ids
        retained, unlearned = ledger.retained(), ledger.unlearned()
        present, seen = set(group_of[retained]), set(group_of[ledger.seen()])
        retained_groups = tuple(name for name in groups.classes if name in present)
        gone = [rows[name] for name in groups.classes if name in seen - present]
        found.append(
            Situation(
                retained=retained,
                learned=request.ids if request.kind == "learn" else None,
                unlearned=unlearned if unlearned.size else None,
                test=np.concatenate([rows[name] for name in retained_groups] or [np.zeros(0, int)]),
                unlearned_test=np.concatenate(gone) if gone else None,
                groups={name: rows[name] for name in groups.classes if name in seen},
                retained_groups=retained_groups,
                learned_at=dict(learned_at),
                past_unlearned=dict(past),
            )
        )
    return found


def drawn(found: Sequence[Situation], num_train: int, num_test: int, limit: int) -> list[Situation]:
    """The situations as they are measured on random examples: `limit` of each training set, `limit` test rows in all.

    All examples stand in one random order and the first of each set are taken, so that two equal sets are measured on
    equal examples, and what changes from one request to the next is the model.

    Args:
        found: from `situations`.
        num_train, num_test: examples of the two splits.
        limit: how many to draw, 1 or more.

    Raises:
        ValueError: a group has test rows and none of them is drawn.
    """
    rng = np.random.default_rng(0)
    train_order, test_order = (rng.permutation(number) for number in (num_train, num_test))

    def draw(ids: np.ndarray) -> np.ndarray:
        return np.sort(ids[np.argsort(train_order[ids])[:limit]])

    def shared(rows: np.ndarray) -> np.ndarray:
        return rows[test_order[rows] < limit]

    for each in found:
        for name, rows in each.groups.items():
            if len(rows) and not (test_order[rows] < limit).any():
                raise ValueError(f"evaluation_examples is {limit}: none of them is a test example of {name}; give more")
    return [
        dataclasses.replace(
            each,
            retained=draw(each.retained),
            learned=None if each.learned is None else draw(each.learned),
            unlearned=None if each.unlearned is None else draw(each.unlearned),
            test=shared(each.test),
            unlearned_test=None if each.unlearned_test is None else shared(each.unlearned_test),
            groups={name: shared(rows) for name, rows in each.groups.items()},
            past_unlearned={t: draw(ids) for t, ids in each.past_unlearned.items()},
        )
        for each in found
    ]


def without(situation: Situation, train: np.ndarray, test: np.ndarray) -> Situation:
    """A situation whose sets lack some rows of the two splits: examples that nobody has any more.

    >>> one = situations([Request("learn", "a", [0, 1])], np.array([0, 0]), np.array([0]), 1, Groups({"all": (0,)}))[0]
    >>> without(one, np.array([1]), np.array([0])).learned.tolist()
    [0]
    """
    if not len(train) and not len(test):
        return situation

    def left(ids: np.ndarray, gone: np.ndarray) -> np.ndarray:
        return ids[~np.isin(ids, gone)]

    past = {t: kept for t, ids in situation.past_unlearned.items() if (kept := left(ids, train)).size}
    unlearned = None if situation.unlearned is None else left(situation.unlearned, train)
    unlearned_test = None if situation.unlearned_test is None else left(situation.unlearned_test, test)
    return dataclasses.replace(
        situation,
        retained=left(situation.retained, train),
        learned=None if situation.learned is None else left(situation.learned, train),
        unlearned=None if unlearned is None or not unlearned.size else unlearned,
        test=left(situation.test, test),
        unlearned_test=None if unlearned_test is None or not unlearned_test.size else unlearned_test,
        groups={name: left(rows, test) for name, rows in situation.groups.items()},
        past_unlearned=past,
    )


def rows_of(situation: Situation) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the training and of the test split that a situation's metrics read."""
    read = sides(situation).values()
    train, test = ([ids for split, ids in read if split == wanted and ids is not None] for wanted in ("train", "test"))
    return (
        np.unique(np.concatenate([*train, *situation.past_unlearned.values()])),
        np.unique(np.concatenate([*test, *situation.groups.values()])),
    )


def renumbered(situation: Situation, train: np.ndarray, test: np.ndarray) -> Situation:
    """A situation whose rows are places in sorted lists of rows, for who has the outputs of these rows alone.

    Args:
        situation: all of whose rows the lists have, see `rows_of`.
        train, test: sorted rows of the two splits.

    >>> one = situations([Request("learn", "a", [4, 7])], np.zeros(9, int), np.zeros(3, int), 1, Groups({"all": (0,)}))
    >>> renumbered(one[0], np.array([2, 4, 7]), np.arange(3)).learned.tolist()
    [1, 2]
    """

    def placed(ids: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return np.searchsorted(rows, ids)

    unlearned, learned, gone = situation.unlearned, situation.learned, situation.unlearned_test
    return dataclasses.replace(
        situation,
        retained=placed(situation.retained, train),
        learned=None if learned is None else placed(learned, train),
        unlearned=None if unlearned is None else placed(unlearned, train),
        test=placed(situation.test, test),
        unlearned_test=None if gone is None else placed(gone, test),
        groups={name: placed(rows, test) for name, rows in situation.groups.items()},
        past_unlearned={t: placed(ids, train) for t, ids in situation.past_unlearned.items()},
    )


def sides(situation: Situation) -> dict[str, tuple[str, np.ndarray | None]]:
    """The five sets that a model and its oracles are compared on, each with its split and its rows there."""
    return {
        "retained": ("train", situation.retained),
        "learned": ("train", situation.learned),
        "unlearned": ("train", situation.unlearned),
        "test": ("test", situation.test),
        "unlearned_test": ("test", situation.unlearned_test),
    }
