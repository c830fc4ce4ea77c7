"""What a configuration needs at the least, against what the machine has: refused before work, and only where absurd.

Every figure is a lower bound. What passes may still be too much; what is refused could not have ended well: a kill by
the system after an hour, or a counter that runs over.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax

from ugclu_jax.data.dataset import Dataset
from ugclu_jax.data.memory import memory_bytes
from ugclu_jax.harness.config import ExperimentConfig
from ugclu_jax.requests import Stream

YEAR_SECONDS = 365.25 * 86_400
LONGEST_SECONDS = 10 * YEAR_SECONDS
STEP_SECONDS = 2e-6
"""No step of a compiled loop on any machine that we know is shorter."""
MOST = 2**31 - 1
"""Steps and rows are counted in int32 on the device."""


class Demand(NamedTuple):
    """What a setting leads to.

    Attributes:
        key: of the setting, dotted.
        value: that it has.
        what: it makes, in words.
        amount: of bytes, or of seconds.
    """

    key: str
    value: Any
    what: str
    amount: float


def device_bytes() -> int:
    """Memory of one device; of the machine, where that is its own.

    >>> device_bytes() > 2**20
    True
    """
    stats = jax.local_devices()[0].memory_stats() or {}
    return int(stats.get("bytes_limit", memory_bytes()))


def in_bytes(amount: float) -> str:
    """Bytes in words.

    >>> in_bytes(5e6), in_bytes(2**31), in_bytes(1e30)
    ('5 MB', '2.15 GB', '1e+21 GB')
    """
    return f"{amount / 1e9:.3g} GB" if amount >= 1e9 else f"{max(amount, 1e6) / 1e6:.3g} MB"


def counts(config: ExperimentConfig) -> Iterator[tuple[str, int]]:
    """The settings that are counted on the device."""
    yield "capacity", config.capacity
    for kind, own in (("learn", config.learn.settings), ("unlearn", config.unlearn.settings)):
        for name in ("outer_steps", "inner_steps", "task_batch_size", "remain_batch_size", "saliency_batches"):
            yield f"{kind}.settings.{name}", getattr(own, name)
    yield "oracle.epochs", config.oracle.epochs
    yield "oracle.batch_size", config.oracle.batch_size
    yield "oracle_seeds", config.oracle_seeds
    yield "data.text_length", config.data.text_length
    yield "data.vocabulary_size", config.data.vocabulary_size
    if config.data.image_size is not None:
        yield "data.image_size", config.data.image_size
    for name in ("width", "depth"):
        if getattr(config.model_options, name) is not None:
            yield f"model_options.{name}", getattr(config.model_options, name)


def check_counts(config: ExperimentConfig) -> None:
    """Refuse what runs over the counters of a device, before any data are read.

    Raises:
        ValueError: naming the setting.

    >>> check_counts(ExperimentConfig(capacity=2**31))
    Traceback (most recent call last):
        ...
    ValueError: capacity must be at most 2147483647, got 2147483648: a device counts no further
    """
    for key, value in counts(config):
        if value > MOST:
            raise ValueError(f"{key} must be at most {MOST}, got {value}: a device counts no further")
    side = config.data.image_size
    if side is not None:
        _refuse_memory([Demand("data.image_size", side, f"one image of {side} x {side}", 3.0 * side * side)])
    options = config.model_options
    if options.width is not None:
        layers = options.depth or 1
        demand = Demand("model_options.width", options.width, "the network", 4.0 * options.width**2 * layers)
        _refuse_memory([demand])
    if options.depth is not None:
        _refuse_memory([Demand("model_options.depth", options.depth, "its program", 1e6 * options.depth)])


def check(config: ExperimentConfig, dataset: Dataset, stream: Stream) -> None:
    """Refuse what does not fit into this machine, or ends after ten years.

    Args:
        config: of the run.
        dataset: as it was cut.
        stream: of requests.

    Raises:
        ValueError: naming the setting to lower, what it needs and what there is.
    """
    _refuse_memory([*_held(config, dataset, stream)])
    total = config.oracle.epochs * -(-len(dataset.train_labels) // config.oracle.batch_size)
    if total > MOST:
        raise ValueError(
            f"oracle.epochs is {config.oracle.epochs}: with {len(dataset.train_labels)} examples in batches of "
            f"{config.oracle.batch_size} that is {total} steps, and a device counts {MOST}; give fewer"
        )
    longest = max(_spent(config, stream, total), key=lambda demand: demand.amount)
    if longest.amount > LONGEST_SECONDS:
        raise ValueError(
            f"{longest.key} is {longest.value}: {longest.what} would take more than "
            f"{longest.amount / YEAR_SECONDS:.0f} years; give fewer"
        )


def _held(config: ExperimentConfig, dataset: Dataset, stream: Stream) -> Iterator[Demand]:
    row = dataset.train_inputs[:1]
    number = float(row.size)  # of values of one example
    yield Demand("capacity", config.capacity, "the buffer", config.capacity * (row.nbytes + 8.0))
    for kind, own in (("learn", config.learn.settings), ("unlearn", config.unlearn.settings)):
        for name in ("task_batch_size", "remain_batch_size"):
            size = getattr(own, name)
            yield Demand(f"{kind}.settings.{name}", size, "a batch", 4.0 * size * number)
        yield Demand(f"{kind}.settings.outer_steps", own.outer_steps, "its record", 20.0 * own.outer_steps)
    size = config.oracle.batch_size
    yield Demand("oracle.batch_size", size, "a batch of an oracle", 4.0 * size * number)
    yield Demand("oracle_seeds", config.oracle_seeds, "outputs of the oracles", _outputs(config, dataset, stream))


def _outputs(config: ExperimentConfig, dataset: Dataset, stream: Stream) -> float:
    """Bytes of what is held of all oracles: outputs on what a request's evaluation reads, its own examples at least."""
    last, limit = len(stream) - 1, config.evaluation_examples
    asked = [
        len(request.ids)
        for index, request in enumerate(stream)
        if config.oracles == "all" or request.kind == "unlearn" or index == last
    ]
    rows = sum(number if limit is None else min(number, limit) for number in asked)
    return 4.0 * dataset.num_classes * rows * config.oracle_seeds


def _spent(config: ExperimentConfig, stream: Stream, oracle_steps: int) -> Iterator[Demand]:
    runs = len(config.methods) * len(config.seeds)
    for kind, own in (("learn", config.learn.settings), ("unlearn", config.unlearn.settings)):
        requests = sum(request.kind == kind for request in stream)
        steps = requests * own.outer_steps * (1 + own.inner_steps) * runs
        name = "outer_steps" if own.outer_steps >= own.inner_steps else "inner_steps"
        yield Demand(f"{kind}.settings.{name}", getattr(own, name), f"{requests} requests", STEP_SECONDS * steps)
    steps = len(stream) * oracle_steps
    yield Demand("oracle.epochs", config.oracle.epochs, "the oracles", STEP_SECONDS * steps)


def _refuse_memory(demands: list[Demand]) -> None:
    """Refuse the largest of some demands where all together are more than there is."""
    there = max(memory_bytes(), device_bytes())
    if sum(demand.amount for demand in demands) <= there:
        return
    most = max(demands, key=lambda demand: demand.amount)
    raise ValueError(
        f"{most.key} is {most.value}: {most.what} would need {in_bytes(most.amount)} of memory or more, and this "
        f"machine has {in_bytes(there)}; give less"
    )
