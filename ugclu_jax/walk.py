"""A stream of requests, served and measured one after another: what `ugclu_jax.run` gives a notebook."""

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ugclu_jax.api import Data, learn, unlearn
from ugclu_jax.evaluation import (
    Accuracies,
    Divergences,
    Labels,
    Logits,
    ModelMetrics,
    OracleMetrics,
    measure_model,
    measure_oracles,
)
from ugclu_jax.learner import CLUState, predict_program
from ugclu_jax.oracle import OracleSettings, oracle_program
from ugclu_jax.requests import Groups, Request, Situation, situations, validate
from ugclu_jax.types import (
    AnyHyper,
    ApplyFn,
    Array,
    Examples,
    Info,
    InitFn,
    Method,
    ModelState,
    Params,
    RequestKind,
    Rows,
)

Predict = Callable[[Params, ModelState, Rows], Array]


@dataclass(frozen=True)
class Oracle:
    """What a model is compared with: networks trained from scratch on what is retained.

    Args:
        apply_fn, init_fn: the network; see `types.ApplyFn` and `types.InitFn`.
        settings: how it is trained.
        seeds: how many of them, 2 or more; their mutual distance is the noise floor.

    Raises:
        ValueError: fewer than 2.
    """

    apply_fn: ApplyFn
    init_fn: InitFn
    settings: OracleSettings = OracleSettings()
    seeds: int = 3

    def __post_init__(self) -> None:
        if self.seeds < 2:
            raise ValueError(
                f"seeds of an oracle must be at least 2, got {self.seeds}: their distance is the noise floor"
            )

    @functools.cached_property
    def train(self) -> Callable[[Array, Examples], tuple[Params, ModelState]]:
        """`(rng_keys [S], examples) -> (params, model_state)`, stacked over S; compiled once a shape."""
        return oracle_program(self.apply_fn, self.init_fn, self.settings)


class Step(NamedTuple):
    """What one request led to."""

    request: Request
    situation: Situation  # what is retained, learned, unlearned after it
    state: CLUState
    info: Info
    seconds: float  # of the request, its compilation included the first time
    metrics: ModelMetrics
    oracle: Accuracies | None  # the oracles' own, averaged; None without them
    noise_floor: Divergences | None  # between oracles of different seeds; likewise


def run(
    rng_key: Array,
    method: Method,
    state: CLUState,
    data: Data,
    stream: Sequence[Request],
    *,
    test: Data | tuple[Any, Any],
    hyper: Mapping[RequestKind, AnyHyper] | None = None,
    oracle: Oracle | None = None,
    groups: Groups | None = None,
) -> Iterator[Step]:
    """Serve a stream, and measure the model after each request.

    Args:
        rng_key: of the run; request t gets `fold_in(rng_key, t)`.
        method: the method, made for a model.
        state: from `init`, before the first request.
        data: all training examples; the requests name their rows.
        stream: the requests, see `ugclu_jax.requests`.
        test: examples that are never learned, or their `(inputs, labels)`.
        hyper: hyperparameters by kind of request; those that are not there are the method's defaults.
        oracle: what the model is compared with after each request, or None: then no distance is measured.
        groups: the parts of the test split whose accuracies are averaged; None = classes.

    Yields:
        A `Step` for each request, as soon as it is served.

    Raises:
        ValueError: a stream that cannot be served (see `requests.validate`), or a method made for no model.

    >>> from ugclu_jax import UGCLUHyper, init, ug_clu
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> rng = np.random.default_rng(0)
    >>> labels = np.arange(40) % 2
    >>> data = Data(rng.normal(size=(40, 2)).astype(np.float32) + 4 * np.eye(2, dtype=np.float32)[labels], labels)
    >>> method = ug_clu(linear, num_classes=2)
    >>> state = init(jax.random.key(0), method, jnp.zeros((2, 2)), data, capacity=20)
    >>> stream = [Request("learn", "both", np.arange(40)), Request("unlearn", "ones", np.flatnonzero(labels == 1))]
    >>> longer = UGCLUHyper(output_budget=0.3, remain_learning_rate=0.01, kept_share=0.9, distillation_weight=0.0)
    >>> for step in run(jax.random.key(1), method, state, data, stream, test=data, hyper={"unlearn": longer}):
    ...     print(step.request.name, step.metrics.RA > 0.9, step.metrics.UA)
    both True None
    ones True 0.0
    """
    if method.apply_fn is None:
        raise ValueError(f"{method.name} was made for no model: combine it with a method that was")
    validate(stream, len(data))
    test = test if isinstance(test, Data) else Data(*test)
    labels, classes = Labels(data.labels, test.labels), max(data.num_classes, test.num_classes)
    groups = Groups({str(c): (c,) for c in range(classes)}) if groups is None else groups
    predict, history, given = predict_program(method.apply_fn), list[ModelMetrics](), hyper or {}
    for index, situation in enumerate(situations(stream, data.labels, test.labels, classes, groups)):
        request, serve = stream[index], learn if stream[index].kind == "learn" else unlearn
        start = time.perf_counter()
        key = jax.random.fold_in(rng_key, index)
        state, info = serve(key, method, state, data[request.ids], given.get(request.kind))
        seconds = time.perf_counter() - start
        outputs = _logits(predict, state.method.params, state.method.model_state, data, test)
        references, known = _references(oracle, predict, data, test, situation, labels, index)
        own = None if known is None else known.oracle
        history.append(measure_model(outputs, labels, situation, history, index, references, own))
        floor = None if known is None else known.noise_floor
        yield Step(request, situation, state, info, seconds, history[-1], own, floor)


def _logits(predict: Predict, params: Params, model_state: ModelState, data: Data, test: Data) -> Logits:
    return Logits(*(np.asarray(predict(params, model_state, each.inputs)) for each in (data, test)))


def _references(
    oracle: Oracle | None,
    predict: Predict,
    data: Data,
    test: Data,
    situation: Situation,
    labels: Labels,
    index: int,
) -> tuple[Logits | None, OracleMetrics | None]:
    """Outputs of the oracles after a request, and what is measured of them."""
    if oracle is None:
        return None, None
    keys = jax.vmap(jax.random.key)(jnp.arange(oracle.seeds))
    # One padded size for all requests: the program is compiled once.
    params, model_state = oracle.train(keys, data.padded(situation.retained, len(data)))
    networks = (jax.tree.map(lambda x, s=s: x[s], (params, model_state)) for s in range(oracle.seeds))
    each = [_logits(predict, own, own_state, data, test) for own, own_state in networks]
    found = Logits(np.stack([one.train for one in each]), np.stack([one.test for one in each]))
    return found, measure_oracles(found, labels, situation, seed=index)
