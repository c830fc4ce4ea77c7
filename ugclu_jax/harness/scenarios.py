"""The experiments' streams: what each adds to the common configuration, and the requests that follow from it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from ugclu_jax import requests
from ugclu_jax.data.cuts import with_label_noise
from ugclu_jax.data.dataset import Dataset
from ugclu_jax.harness.config import ExperimentConfig
from ugclu_jax.harness.options import Group, check_seeds
from ugclu_jax.requests import Groups, Stream


class Scenario(NamedTuple):
    """What an experiment adds to the common configuration."""

    dataset: Dataset
    stream: Stream
    groups: Groups
    first_from_scratch: bool = False  # the first request is learned by training from scratch, to memorise it


@dataclass(frozen=True)
class TaskOptions(Group):
    """Which tasks come and go."""

    sequence: str = "L1 L2 L3 U2 L4 L5 U4"
    """Requests in order: L3 learns task 3, U3 unlearns it; a task may be learned again."""
    stream: Path | None = None
    """JSON file of requests by stable ids, instead of --sequence. See `ugclu_jax.requests.from_json`."""


@dataclass(frozen=True)
class TaskAwareConfig(ExperimentConfig, TaskOptions):
    """Learn and unlearn whole tasks, one request each."""


def task_aware(config: TaskAwareConfig, dataset: Dataset) -> Scenario:
    """The stream of a configuration; accuracies are averaged over tasks."""
    tasks = requests.split_classes(dataset.num_classes, config.tasks)
    if config.stream is not None:
        stream = requests.from_json(config.stream.read_text(), dataset.train_labels, dataset.train_ids)
    else:
        stream = requests.task_aware(dataset.train_labels, tasks, config.sequence)
    return Scenario(dataset, stream, Groups({f"task {i + 1}": classes for i, classes in enumerate(tasks)}))


@dataclass(frozen=True)
class ClassOptions(Group):
    """Which classes leave."""

    unlearn_classes: tuple[int, ...] = (2, 7)
    """Classes to unlearn, of different tasks."""

    def __post_init__(self) -> None:
        if not self.unlearn_classes or len(set(self.unlearn_classes)) != len(self.unlearn_classes):
            raise ValueError(f"unlearn_classes must be one or more different values, got {self.unlearn_classes}")
        super().__post_init__()


@dataclass(frozen=True)
class ClassWiseConfig(ExperimentConfig, ClassOptions):
    """Learn all tasks, then unlearn classes across tasks in one request."""


def class_wise(config: ClassWiseConfig, dataset: Dataset) -> Scenario:
    """The stream of a configuration; accuracies are averaged over classes."""
    tasks = requests.split_classes(dataset.num_classes, config.tasks)
    stream = requests.class_wise(dataset.train_labels, tasks, config.unlearn_classes)
    return Scenario(dataset, stream, Groups({name: (c,) for c, name in enumerate(dataset.class_names)}))


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


def random_sample(config: RandomSampleConfig, dataset: Dataset) -> Scenario:
    """The stream of a configuration; accuracies are averaged over classes."""
    tasks = requests.split_classes(dataset.num_classes, config.tasks)
    groups = Groups({name: (c,) for c, name in enumerate(dataset.class_names)})
    stream = requests.random_sample(dataset.train_labels, tasks, config.fraction, config.sample_seed)
    if config.regime == "continual":
        return Scenario(dataset, stream, groups)
    unlearn = stream[-1]
    if config.regime == "wrong_labels":
        dataset, wrong = with_label_noise(dataset, config.fraction, config.sample_seed)
        unlearn = requests.Request("unlearn", "unlearn wrong labels", wrong)
    everything = np.arange(len(dataset.train_labels), dtype=np.int32)
    joint = (requests.Request("learn", "learn all", everything), unlearn)
    return Scenario(dataset, joint, groups, first_from_scratch=True)


class Experiment(NamedTuple):
    """A scenario by its name: what configures it, and its stream from configuration and data."""

    config: type[ExperimentConfig]
    build: Callable[[Any, Dataset], Scenario]


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
