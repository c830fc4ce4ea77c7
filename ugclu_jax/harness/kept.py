"""Of which examples a run keeps the outputs: the same for all models and oracles of a request."""

import numpy as np

from ugclu_jax.report import outputs
from ugclu_jax.requests import Situation, sides

MOST_EXAMPLES = 2000
"""Of each set: drawn once for all models, so that a run of many models leaves some tens of MB and not gigabytes."""
ORDER_SEED = 0


def kept_rows(measured: Situation) -> dict[str, tuple[str, np.ndarray]]:
    """Split and rows of each set, `MOST_EXAMPLES` at most; a set without examples is absent.

    Args:
        measured: how the examples stand after a request, as far as it is evaluated.

    >>> from ugclu_jax.requests import Groups, Request, situations
    >>> stream = [Request("learn", "all", range(6)), Request("unlearn", "some", [1, 4])]
    >>> labels = np.arange(6) % 2
    >>> after = situations(stream, labels, labels[:2], 2, Groups({"0": (0,), "1": (1,)}))[-1]
    >>> {name: rows.tolist() for name, (_, rows) in kept_rows(after).items()}
    {'retained': [0, 2, 3, 5], 'unlearned': [1, 4], 'test': [0, 1]}
    """
    return {
        name: (split, np.sort(np.random.default_rng(ORDER_SEED).permutation(rows)[:MOST_EXAMPLES]))
        for name, (split, rows) in sides(measured).items()
        if name in outputs.SETS and rows is not None and len(rows)
    }
