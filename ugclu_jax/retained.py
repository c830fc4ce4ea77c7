"""Which examples are retained, as a memory: for methods that break the memory rule and read all of them."""

import jax.numpy as jnp

from ugclu_jax.batches import valid_rows
from ugclu_jax.types import Array, Examples, Memory, RequestKind


def track(kind: RequestKind, retained: Array, task: Examples) -> Array:
    """Mark the examples of a learn request as retained, those of an unlearn request as not; twice is once.

    Raises:
        ValueError: the task's arrays do not have N rows.

    >>> task = Examples(jnp.zeros(3), jnp.zeros(3, int), jnp.array([2, -1]), jnp.array(1))
    >>> track("learn", jnp.zeros(3, bool), task).tolist()
    [False, False, True]
    """
    if task.labels.shape[0] != retained.shape[0]:
        raise ValueError(
            f"num_examples is {retained.shape[0]}, and the training arrays have {task.labels.shape[0]} rows: make the "
            "method with their number"
        )
    # Padding is sent past the end, where it is dropped; -1 would be the last row.
    rows = jnp.where(valid_rows(task), task.ids, retained.shape[0])
    return retained.at[rows].set(kind == "learn", mode="drop")


def memory(name: str, num_examples: int) -> Memory:
    """`[N]` bool under that name, kept true whichever method serves a request.

    >>> memory("joint", 3).init({}, {}).tolist()
    [False, False, False]
    """
    return Memory(name, lambda params, model_state: jnp.zeros(num_examples, bool), track)


def retained_examples(retained: Array, task: Examples) -> Examples:
    """The retained examples as ids, padded to all N rows.

    >>> task = Examples(jnp.zeros(3), jnp.zeros(3, int), jnp.array([2, -1]), jnp.array(1))
    >>> examples = retained_examples(jnp.array([False, True, True]), task)
    >>> examples.ids.tolist(), int(examples.count)
    ([1, 2, -1], 2)
    """
    (ids,) = jnp.nonzero(retained, size=retained.shape[0], fill_value=-1)
    return Examples(task.inputs, task.labels, ids.astype(jnp.int32), jnp.sum(retained, dtype=jnp.int32))
