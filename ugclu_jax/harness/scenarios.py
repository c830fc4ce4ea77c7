"""The experiments' streams: what each adds to the common configuration, and the requests that follow from it."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from ugclu_jax import requests
from ugclu_jax.data.cuts import with_label_noise
from ugclu_jax.data.dataset import Dataset
from ugclu_jax.decoding import decode
from ugclu_jax.harness.config import ExperimentConfig
from ugclu_jax.harness.options import Group, check_seeds
from ugclu_jax.requests import Groups, Stream


def names_of(dataset: Dataset) -> requests.Names:
    """What a stream may call the examples of a data set."""
    return requests.Names(
        dataset.train_keys,
        dataset.train_labels,
        dataset.test_keys,
        dataset.test_labels,
        dataset.class_names,
        positions=dataset.keys_are == "position",
        where=dataset.where,
    )


DEFAULT_CLASSES = ("2", "7")
"""What class_wise unlearns where nothing is named: of different tasks, where there are five."""


class Scenario(NamedTuple):
    """What an experiment adds to the common configuration."""

    dataset: Dataset
    stream: Stream
    groups: Groups
    first_from_scratch: bool = False  # the first request is learned by training from scratch, to memorise it


def stream_of(
    config: ExperimentConfig, dataset: Dataset, learned: Callable[[], Stream], own: Callable[[], Stream], known: Stream
) -> Stream:
    """The requests of a configuration: those of a file, or what is learned and then unlearned by name, or its own.

    Args:
        config: says which.
        dataset: what they are about.
        learned: the requests to learn, before the one that unlearns what is named.
        own: the experiment's own requests.
        known: those that the run's folder has.

    Raises:
        ValueError, OSError: see `requests.from_json` and `requests.select`.
    """
    names = names_of(dataset)
    if config.stream is not None:
        try:
            text = decode(str(config.stream), config.stream.read_bytes())
        except OSError as error:
            raise OSError(f"--stream {config.stream} cannot be read ({error.strerror}): give a JSON file") from error
        try:
            return requests.from_json(text, names, folder=config.stream.parent, known=known)
        except ValueError as error:
            raise ValueError(f"{config.stream}: {error}") from error
    named: dict[str, Any]
    if config.unlearn_where is not None:
        where, named = "--unlearn-where", {"where": config.unlearn_where}
    elif config.unlearn_ids is not None:
        where, named = "--unlearn-ids", {"ids_file": str(config.unlearn_ids)}
    elif config.unlearn_classes:
        where, named = "--unlearn-classes", {"classes": list(config.unlearn_classes)}
    else:
        return own()
    stream = learned()
    return (*stream, requests.unlearn_named(where, named, names, stream, known))


@dataclass(frozen=True)
class TaskOptions(Group):
    """Which tasks come and go."""

    sequence: str = "L1 L2 L3 U2 L4 L5 U4"
    """Requests in order: L3 learns task 3, U3 unlearns it; a task may be learned again."""
    parts: int = 1
    """Tasks that each of --tasks is cut into, each of all its classes: with 3, L1 to L3 are of the first one."""

    def __post_init__(self) -> None:
        self.at_least(parts=1)
        super().__post_init__()


@dataclass(frozen=True)
class TaskAwareConfig(ExperimentConfig, TaskOptions):
    """Learn and unlearn whole tasks, one request each."""


def by_class(dataset: Dataset) -> Groups:
    """Each class a group of its own."""
    return Groups({name: (c,) for c, name in enumerate(dataset.class_names)})


def task_aware(config: TaskAwareConfig, dataset: Dataset, known: Stream = ()) -> Scenario:
    """The stream of a configuration; accuracies are averaged over tasks, over classes where the stream is a file."""
    labels = dataset.train_labels
    if config.stream is not None:
        return Scenario(dataset, stream_of(config, dataset, tuple, tuple, known), by_class(dataset))
    tasks = requests.split_classes(dataset.num_classes, config.tasks)
    stream = stream_of(
        config,
        dataset,
        lambda: requests.learn_tasks(labels, tasks, config.parts),
        lambda: requests.task_aware(labels, tasks, config.sequence, config.parts),
        known,
    )
    return Scenario(dataset, stream, Groups({f"task {i + 1}": classes for i, classes in enumerate(tasks)}))


@dataclass(frozen=True)
class ClassOptions(Group):
    """How the classes that leave were learned."""

    regime: Literal["continual", "joint"] = "continual"
    """Classes of a continual stream, or of a jointly trained model."""


@dataclass(frozen=True)
class ClassWiseConfig(ExperimentConfig, ClassOptions):
    """Learn all tasks, then unlearn classes across tasks in one request."""


def class_wise(config: ClassWiseConfig, dataset: Dataset, known: Stream = ()) -> Scenario:
    """The stream of a configuration; accuracies are averaged over classes."""
    if config.stream is not None:
        return Scenario(dataset, stream_of(config, dataset, tuple, tuple, known), by_class(dataset))
    tasks = requests.split_classes(dataset.num_classes, config.tasks)

    def learned() -> Stream:
        if config.regime == "joint":
            return (learn_all(dataset),)
        return requests.learn_tasks(dataset.train_labels, tasks)

    def own() -> Stream:
        named = {"classes": list(DEFAULT_CLASSES)}
        return (*learned(), requests.unlearn_named("--unlearn-classes", named, names_of(dataset), learned(), known))

    stream = stream_of(config, dataset, learned, own, known)
    return Scenario(dataset, stream, by_class(dataset), first_from_scratch=config.regime == "joint")


def learn_all(dataset: Dataset) -> requests.Request:
    """One request for all training examples: where it is the first, they are learned by training from scratch."""
    return requests.Request("learn", "learn all", np.arange(len(dataset.train_labels), dtype=np.int32))


@dataclass(frozen=True)
class SampleOptions(Group):
    """Which samples leave, and how they were learned."""

    fraction: float = 0.1
    """Share of the training examples to unlearn, in (0, 1)."""
    regime: Literal["continual", "joint", "wrong_labels"] = "continual"
    """Samples of a continual stream, of a jointly trained model, or learned with wrong labels."""
    sample_seed: int = 0
    """Decides which examples are unlearned."""

    def __post_init__(self) -> None:
        if not 0 < self.fraction < 1:
            raise ValueError(f"fraction must be in (0, 1), got {self.fraction:g}")
        check_seeds("sample_seed", (self.sample_seed,))
        super().__post_init__()


@dataclass(frozen=True)
class RandomSampleConfig(ExperimentConfig, SampleOptions):
    """Unlearn a random share of all examples in one request."""


def random_sample(config: RandomSampleConfig, dataset: Dataset, known: Stream = ()) -> Scenario:
    """The stream of a configuration; accuracies are averaged over classes."""
    labels = dataset.train_labels
    if config.stream is not None:
        return Scenario(dataset, stream_of(config, dataset, tuple, tuple, known), by_class(dataset))
    tasks = requests.split_classes(dataset.num_classes, config.tasks)
    drawn = functools.partial(requests.random_sample, labels, tasks, config.fraction, config.sample_seed)
    if config.regime == "continual":
        stream = stream_of(config, dataset, lambda: requests.learn_tasks(labels, tasks), drawn, known)
        return Scenario(dataset, stream, by_class(dataset))
    everything = learn_all(dataset)
    if config.regime == "joint":
        stream = stream_of(config, dataset, lambda: (everything,), lambda: (everything, drawn()[-1]), known)
        return Scenario(dataset, stream, by_class(dataset), first_from_scratch=True)
    named = [name for name in ("unlearn_where", "unlearn_ids", "unlearn_classes") if getattr(config, name)]
    if named:
        raise ValueError(
            f"--{named[0].replace('_', '-')} is given with --regime wrong_labels, which unlearns the examples whose "
            "labels it spoils: leave one of them out"
        )
    dataset, wrong = with_label_noise(dataset, config.fraction, config.sample_seed)
    stream = (everything, requests.Request("unlearn", "unlearn wrong labels", wrong))
    return Scenario(dataset, stream, by_class(dataset), first_from_scratch=True)


class Experiment(NamedTuple):
    """A scenario by its name: what configures it, and its stream from configuration and data."""

    config: type[ExperimentConfig]
    build: Callable[[Any, Dataset, Stream], Scenario]  # the last: what the run's folder knows already


SCENARIOS: Mapping[str, Experiment] = {
    "task_aware": Experiment(TaskAwareConfig, task_aware),
    "class_wise": Experiment(ClassWiseConfig, class_wise),
    "random_sample": Experiment(RandomSampleConfig, random_sample),
}


def shortened(stream: Stream) -> Stream:
    """The stream up to its first unlearn request.

    Raises:
        ValueError: nothing is unlearned in it.
    """
    for index, request in enumerate(stream):
        if request.kind == "unlearn":
            return stream[: index + 1]
    raise ValueError("the stream unlearns nothing, so there is no distance to search by; give one that does")
