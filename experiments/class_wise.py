"""Class-wise unlearning: classes of different tasks leave in one request, and no task id is known.

Question: can one request remove classes that were learned at different times, and leave the rest as an oracle has it?

    python -m experiments.class_wise                              # embedded digits
    python -m experiments.class_wise --dataset fashion_mnist      # full Fashion-MNIST
"""

import sys
from dataclasses import dataclass

from experiments.config import ExperimentConfig
from experiments.plan import Scenario
from experiments.runner import main
from ugclu_jax import requests
from ugclu_jax.data.dataset import Dataset


@dataclass(frozen=True)
class ClassWiseConfig(ExperimentConfig):
    """Learn all tasks, then unlearn classes across tasks in one request."""

    unlearn_classes: tuple[int, ...] = (2, 7)
    """Classes to unlearn, of different tasks."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.unlearn_classes or len(set(self.unlearn_classes)) != len(self.unlearn_classes):
            raise ValueError(f"unlearn_classes must be one or more different values, got {self.unlearn_classes}")


def build_scenario(config: ClassWiseConfig, dataset: Dataset) -> Scenario:
    """The stream of a configuration; accuracies are averaged over classes."""
    tasks = requests.split_classes(dataset.num_classes, config.tasks)
    stream = requests.class_wise(dataset.train_labels, tasks, config.unlearn_classes)
    return Scenario(dataset, stream, requests.Groups({name: (c,) for c, name in enumerate(dataset.class_names)}))


if __name__ == "__main__":
    sys.exit(main(ClassWiseConfig, "class_wise", __doc__, build_scenario))
