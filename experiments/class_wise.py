"""Class-wise unlearning: classes of different tasks leave in one request, and no task id is known.

Question: can one request remove classes that were learned at different times, and leave the rest as an oracle has it?

    python -m experiments.class_wise                              # embedded digits
    python -m experiments.class_wise --dataset fashion_mnist      # full Fashion-MNIST
    python -m experiments.class_wise --dataset fashion_mnist --regime joint --capacity 60000

After a continual stream every unlearner ends where learner and buffer allow; a model that was trained on all examples
at once (joint) shows what an unlearner is worth.
"""

import sys

from ugclu_jax.harness.cli import main

if __name__ == "__main__":
    sys.exit(main("class_wise", __doc__))
