"""Task-aware continual learning-unlearning: whole tasks come and go.

Question: after each learn or unlearn request of a stream of tasks, how far is the model from an oracle retrained from
scratch on what is retained? (The paper's first table.)

    python -m experiments.task_aware                              # embedded digits, about a minute on two cores
    python -m experiments.task_aware --dataset fashion_mnist      # full Fashion-MNIST
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from experiments.config import ExperimentConfig
from experiments.plan import Scenario
from experiments.runner import main
from ugclu_jax import requests
from ugclu_jax.data.dataset import Dataset


@dataclass(frozen=True)
class TaskAwareConfig(ExperimentConfig):
    """Learn and unlearn whole tasks, one request each."""

    sequence: str = "L1 L2 L3 U2 L4 L5 U4"
    """Requests in order: L3 learns task 3, U3 unlearns it; a task may be learned again."""
    stream: Path | None = None
    """JSON file of requests by stable ids, instead of --sequence. See `ugclu_jax.requests.from_json`."""


def build_scenario(config: TaskAwareConfig, dataset: Dataset) -> Scenario:
    """The stream of a configuration; accuracies are averaged over tasks."""
    tasks = requests.split_classes(dataset.num_classes, config.tasks)
    if config.stream is not None:
        stream = requests.from_json(config.stream.read_text(), dataset.train_labels, dataset.train_ids)
    else:
        stream = requests.task_aware(dataset.train_labels, tasks, config.sequence)
    return Scenario(dataset, stream, requests.Groups({f"task {i + 1}": classes for i, classes in enumerate(tasks)}))


if __name__ == "__main__":
    sys.exit(main(TaskAwareConfig, "task_aware", __doc__, build_scenario))
