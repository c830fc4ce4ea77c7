"""What a program is given is still there when it returns, and a second call gives the same: nothing is written over.

On a GPU a donated argument is gone after the call, where a CPU may have kept it.
"""

import jax
import jax.numpy as jnp
import numpy as np
from small_stream import buffer_of, examples

from ugclu_jax.learner import CLUState, request_program
from ugclu_jax.oracle import OracleSettings, oracle_program
from ugclu_jax.types import MethodState
from ugclu_jax.ugclu import ug_clu
from ugclu_jax.ugclu_settings import UNLEARNING_HYPER, UGCLUSettings

SETTINGS = UGCLUSettings(outer_steps=2, inner_steps=2, task_batch_size=2, remain_batch_size=2, saliency_batches=1)


def apply_fn(params, model_state, inputs, *, train, rng_key):
    return inputs @ params["kernel"] + params["bias"], model_state


def init_fn(rng_key):
    return {"kernel": jax.random.normal(rng_key, (3, 3)), "bias": jnp.zeros(3)}, {}


def bits(tree):
    return [
        np.asarray(leaf).tobytes()
        for leaf in jax.tree.leaves(tree)
        if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    ]


def test_a_request_leaves_its_state_and_examples():
    method = ug_clu(apply_fn, SETTINGS, SETTINGS, num_classes=3)
    given = CLUState(MethodState(*init_fn(jax.random.key(0))), buffer_of([2, 3, 4, 5])), examples([0, 1, 2])
    before, run = bits(given), request_program()
    results = [
        bits(run(method, "unlearn", jax.random.key(1), given[0], UNLEARNING_HYPER, given[1])[0]) for _ in range(2)
    ]
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(given))
    assert bits(given) == before and results[0] == results[1] != before


def test_oracles_leave_their_examples():
    program, given = oracle_program(apply_fn, init_fn, OracleSettings(epochs=1, batch_size=2)), examples([0, 1, 2])
    keys, before = jax.random.split(jax.random.key(0), 2), bits(given)
    results = [bits(program(keys, given)) for _ in range(2)]
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((given, keys)))
    assert bits(given) == before and results[0] == results[1]
