"""Random-sample unlearning: a share of all examples, drawn at random across tasks, leaves in one request.

Question: an oracle that never saw the samples still classifies most of them; does the model end where the oracle is,
and not below? Three regimes, because a model that has not memorised has nothing to unlearn:

- `continual`: the samples leave after the stream of tasks;
- `joint`: the model was trained from scratch on everything (give --capacity its size and the buffer holds all of it);
- `wrong_labels`: as `joint`, but the samples were learned with wrong labels, and it is these that leave.

    python -m experiments.random_sample                                                   # embedded digits
    python -m experiments.random_sample --dataset fashion_mnist                           # full Fashion-MNIST
    python -m experiments.random_sample --dataset fashion_mnist --regime wrong_labels --capacity 60000
"""

import sys
from dataclasses import dataclass
from typing import Literal

import numpy as np

from experiments.config import ExperimentConfig
from experiments.plan import Scenario
from experiments.runner import main
from ugclu_jax import requests
from ugclu_jax.data.cuts import with_label_noise
from ugclu_jax.data.dataset import Dataset


@dataclass(frozen=True)
class RandomSampleConfig(ExperimentConfig):
    """Unlearn a random share of all examples in one request."""

    fraction: float = 0.1
    """Share of the training examples to unlearn, in (0, 1)."""
    regime: Literal["continual", "joint", "wrong_labels"] = "continual"
    """Samples of a continual stream, of a jointly trained model, or learned with wrong labels."""
    sample_seed: int = 0
    """Decides which examples are unlearned."""


def build_scenario(config: RandomSampleConfig, dataset: Dataset) -> Scenario:
    """The stream of a configuration; accuracies are averaged over classes."""
    tasks = requests.split_classes(dataset.num_classes, config.tasks)
    groups = requests.Groups({name: (c,) for c, name in enumerate(dataset.class_names)})
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


if __name__ == "__main__":
    sys.exit(main(RandomSampleConfig, "random_sample", __doc__, build_scenario))
