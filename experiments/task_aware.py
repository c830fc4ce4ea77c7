"""Task-aware continual learning-unlearning: whole tasks come and go.

Question: after each learn or unlearn request of a stream of tasks, how far is the model from an oracle retrained from
scratch on what is retained? (The paper's first table.)

    python -m experiments.task_aware                              # embedded digits, about a minute on two cores
    python -m experiments.task_aware --dataset fashion_mnist      # full Fashion-MNIST
"""

import sys

from ugclu_jax.harness.cli import main

if __name__ == "__main__":
    sys.exit(main("task_aware", __doc__))
