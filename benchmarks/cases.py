"""The unlearn requests that are measured: network, data, buffer, settings."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ugclu_jax import buffer as buffer_lib
from ugclu_jax import data, models
from ugclu_jax.components import preserving_gradient
from ugclu_jax.data.dataset import Dataset, from_arrays
from ugclu_jax.devices import AXIS
from ugclu_jax.examples import bucket_size, pad_ids
from ugclu_jax.learner import CLUState
from ugclu_jax.models import ModelOptions
from ugclu_jax.models.adapters import linen_apply_fn, normalise
from ugclu_jax.types import (
    EVALUATION_EXAMPLES,
    ApplyFn,
    Array,
    Batch,
    Examples,
    InitFn,
    Method,
    MethodState,
    ModelState,
    Params,
    PyTree,
)
from ugclu_jax.ugclu import ug_clu
from ugclu_jax.ugclu_plain import PLAIN, PLAIN_HYPER
from ugclu_jax.ugclu_settings import UGCLUHyper, UGCLUSettings


class Case(NamedTuple):
    """One unlearn request, ready to be served."""

    name: str
    model: str  # a key of `ugclu_jax.models.MODELS`
    data: str  # where its inputs come from
    dataset: Dataset
    apply_fn: ApplyFn
    shared_apply_fn: ApplyFn  # the same of a batch that is divided over `devices.AXIS`
    init_fn: InitFn
    settings: UGCLUSettings
    hyper: UGCLUHyper
    rng_key: Array
    state: CLUState
    task: Examples
    options: ModelOptions

    def method(self, divided: bool = False) -> Method:
        """UG-CLU with the same settings for both kinds of request, for one device or batches divided over several."""
        apply_fn = self.shared_apply_fn if divided else self.apply_fn
        return ug_clu(apply_fn, self.settings, self.settings, num_classes=self.dataset.num_classes)


def random_images(name: str, count: int, shape: tuple[int, ...]) -> Dataset:
    """Noise of ten classes: what is measured does not depend on what the images show."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, *shape), np.uint8)
    return from_arrays(name, images, np.arange(count) % 10, images[:10], np.arange(10))


def examples(dataset: Dataset, ids: np.ndarray, size: int | None = None) -> Examples:
    """Training rows as a request takes them, padded to their bucket size unless another is given."""
    padded = pad_ids(ids, size or bucket_size(len(ids)))
    inputs, labels = jnp.asarray(dataset.train_inputs), jnp.asarray(dataset.train_labels)
    return Examples(inputs, labels, jnp.asarray(padded), jnp.asarray(len(ids), jnp.int32))


def make(
    name: str,
    model: str,
    data_name: str,
    dataset: Dataset,
    settings: UGCLUSettings,
    capacity: int,
    options: ModelOptions,
) -> Case:
    """A fresh network and a buffer of everything; the request unlearns classes 0 and 1."""
    shape = dataset.train_inputs.shape[1:]
    module = models.create(model, dataset.num_classes, input_shape=shape, options=options)
    preprocess = normalise(dataset.mean, dataset.std, dataset.scale)
    example = jnp.asarray(dataset.train_inputs[:1])

    def init_fn(rng_key: Array) -> tuple[Params, ModelState]:
        return models.initialise(model, module, preprocess, rng_key, example, options)

    params, model_state = jax.jit(init_fn)(jax.random.key(0))
    empty = buffer_lib.init(capacity, shape, jnp.uint8, jax.random.key(1))
    buffer = jax.jit(buffer_lib.insert)(empty, examples(dataset, np.arange(len(dataset.train_labels))))
    return Case(
        name=name,
        model=model,
        data=data_name,
        dataset=dataset,
        apply_fn=linen_apply_fn(module, preprocess),
        shared_apply_fn=linen_apply_fn(models.over_devices(module, AXIS), preprocess),
        init_fn=init_fn,
        settings=settings,
        hyper=dataclasses.replace(
            PLAIN_HYPER, fast_learning_rate=0.001, remain_learning_rate=0.02, remain_weight_decay=0.001
        ),
        rng_key=jax.random.key(2),
        state=CLUState(MethodState(params, model_state), buffer),
        task=examples(dataset, np.flatnonzero(dataset.train_labels < 2)),
        options=options,
    )


def gradient(case: Case) -> Callable[[Params], PyTree]:
    """One gradient evaluation as a function of the parameters: a batch of `EVALUATION_EXAMPLES`, by its labels."""
    dataset, network = case.dataset, case.state.method
    inputs = jnp.asarray(dataset.train_inputs[:EVALUATION_EXAMPLES])
    batch = Batch(inputs, jnp.asarray(dataset.train_labels[: len(inputs)]), jnp.ones(len(inputs)))
    return lambda params: preserving_gradient(case.apply_fn, params, network.model_state, batch)


def in_float64(case: Case, steps: int) -> Case:
    """The case with `steps` outer and inner steps, all of it computed in float64: where JAX has that enabled.

    In float32, rounding flips rectifiers that are near 0, and under batch normalisation a flip moves every gradient:
    two right programs end a request far apart.
    """
    dataset = case.dataset
    module = models.create(
        case.model, dataset.num_classes, input_shape=dataset.train_inputs.shape[1:], options=case.options
    ).clone(dtype=jnp.float64)
    mean, std = (np.asarray(values, np.float64) for values in (dataset.mean, dataset.std))

    def preprocess(inputs: Array) -> Array:
        return (inputs.astype(jnp.float64) / dataset.scale - mean) / std

    def widened(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), tree)

    return case._replace(
        apply_fn=linen_apply_fn(module, preprocess),
        shared_apply_fn=linen_apply_fn(models.over_devices(module, AXIS), preprocess),
        settings=dataclasses.replace(case.settings, outer_steps=steps, inner_steps=steps),
        hyper=widened(case.hyper),
        state=case.state._replace(method=widened(case.state.method)),
    )


def digits_mlp(smoke: bool) -> Case:
    """A request of the paper's form on the data of `make demo`."""
    settings = dataclasses.replace(
        PLAIN, outer_steps=3 if smoke else 40, inner_steps=2 if smoke else 5, saliency_batches=2 if smoke else 8
    )
    return make("MLP", "mlp", "digits", data.load("digits"), settings, 300, ModelOptions())


def fashion_cnn(smoke: bool) -> Case:
    """A request of the paper's form on the data of `--dataset fashion_mnist`."""
    dataset, data_name = random_images("noise", 640, (28, 28, 1)), "random 28×28 images"
    if not smoke:
        try:
            dataset, data_name = data.load("fashion_mnist"), "Fashion-MNIST"
        except FileNotFoundError:
            data_name = "random 28×28 images (Fashion-MNIST is not installed)"
    small = dataclasses.replace(
        PLAIN, outer_steps=2, inner_steps=2, task_batch_size=16, remain_batch_size=16, saliency_batches=1
    )
    settings = small if smoke else dataclasses.replace(PLAIN, inner_steps=5)
    return make("CNN", "cnn", data_name, dataset, settings, 100 if smoke else 5000, ModelOptions())


def random_resnet(smoke: bool) -> Case:
    """A few steps of the paper's form, small: a mask that needs no gradient of each example."""
    batch = 8 if smoke else 32
    settings = dataclasses.replace(
        PLAIN,
        outer_steps=1 if smoke else 3,
        inner_steps=1 if smoke else 2,
        task_batch_size=batch,
        remain_batch_size=batch,
        saliency="batch_fisher",
        saliency_batches=1,
    )
    side = 8 if smoke else 32
    dataset = random_images("noise", 640, (side, side, 3))
    options = ModelOptions(width=4, depth=1) if smoke else ModelOptions()
    return make("ResNet-18", "resnet18", f"random {side}×{side} images", dataset, settings, 400, options)


CASES: dict[str, Callable[..., Case]] = {"mlp": digits_mlp, "cnn": fashion_cnn, "resnet18": random_resnet}
