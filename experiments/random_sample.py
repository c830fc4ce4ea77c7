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

from ugclu_jax.harness.cli import main

if __name__ == "__main__":
    sys.exit(main("random_sample", __doc__))
