"""One method that learns with one and unlearns with another."""

from ugclu_jax.types import Method, ModelState, Params, RequestKind, Rows


def combine(*, learn: Method, unlearn: Method) -> Method:
    """A method that learns with one and unlearns with another; each keeps its own memories.

    Args:
        learn: whose `learn` serves learn requests.
        unlearn: whose `unlearn` serves unlearn requests. Memories of both are kept true at every request; where both
            have one of the same name, it is the learner's.

    Raises:
        ValueError: a method that does not do its kind of request.

    >>> from ugclu_jax.methods.do_nothing import do_nothing
    >>> from ugclu_jax.methods.er import er
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> combine(learn=er(linear), unlearn=do_nothing()).name
    'er+do_nothing'
    >>> combine(learn=do_nothing(), unlearn=er(linear))
    Traceback (most recent call last):
        ...
    ValueError: er does not unlearn: combine it with a method that does, see ugclu_jax.combine
    """

    def cost(kind: RequestKind, capacity: int, task_rows: int) -> float:
        return (learn if kind == "learn" else unlearn).cost(kind, capacity, task_rows)

    def check(params: Params, model_state: ModelState, inputs: Rows) -> None:
        for each in (learn, unlearn):
            if each.check is not None:
                each.check(params, model_state, inputs)

    memories = {memory.name: memory for memory in (*unlearn.memories, *learn.memories)}
    return Method(
        name=learn.name if learn.name == unlearn.name else f"{learn.name}+{unlearn.name}",
        learn=learn.update("learn"),
        unlearn=unlearn.update("unlearn"),
        hyper={"learn": learn.hyper["learn"], "unlearn": unlearn.hyper["unlearn"]},
        cost=cost,
        memories=tuple(memories.values()),
        apply_fn=learn.apply_fn or unlearn.apply_fn,
        rehearses=tuple(kind for kind, each in (("learn", learn), ("unlearn", unlearn)) if kind in each.rehearses),
        check=check if learn.check is not None or unlearn.check is not None else None,
    )
