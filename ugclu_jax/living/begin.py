"""The first state of a model: from data, with the weights that it has learned them with, or trained here."""

import hashlib
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ugclu_jax.data.classes import in_order
from ugclu_jax.data.dataset import from_arrays
from ugclu_jax.extras import installed_by
from ugclu_jax.harness.progress import Progress
from ugclu_jax.learner import RequestCost
from ugclu_jax.living import offered, serving, signing, tensors
from ugclu_jax.living.gather import encoded
from ugclu_jax.living.held import Held, fresh_buffers, inserted
from ugclu_jax.living.measures import of_request, verdict
from ugclu_jax.living.network import Described, check_settings, network, shapes
from ugclu_jax.living.results import Done
from ugclu_jax.living.store import Store
from ugclu_jax.types import ModelState, Params
from ugclu_jax.version import __version__


class Start(NamedTuple):
    """What a model begins with.

    Attributes:
        data: see `offered.read`.
        weights: a safetensors file of the network that has learned the data; None = it is trained here.
        classes: in the order of the network's outputs; none = those of the data by name, whole numbers by value.
        image_size: side of pictures.
        text_length: tokens of a text.
        vocabulary_size: most tokens that the tokenizer may have.
        mean, std: per channel of stored values over their largest, by which the deployed network normalises; none =
            those of the data.
        settings: see `network.SETTINGS`.
        held_out: most held-out examples that the folder keeps.
        seed: of everything that is drawn.
    """

    data: str
    weights: Path | None = None
    classes: tuple[str, ...] = ()
    image_size: int | None = None
    text_length: int = 128
    vocabulary_size: int = 8192
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    settings: Mapping[str, Any] = {}
    held_out: int = 500
    seed: int = 0


def versions() -> dict[str, str]:
    """What decides the rounding of a request beside data and settings."""
    return {
        "ugclu_jax": __version__,
        "jax": jax.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "platform": jax.default_backend(),
    }


def begin(
    folder: Path,
    start: Start,
    by: str | None = None,
    ticket: str | None = None,
    progress: Progress | None = None,
) -> Done:
    """Make a model's folder; `progress`: bars of a terminal.

    Raises:
        ValueError: the folder is there, the data or the weights do not fit, or a setting is none.
        OSError: something cannot be read or written.
    """
    check_settings(start.settings)
    if bool(start.mean) != bool(start.std):
        raise ValueError("mean and std must be given together: give both, a number a channel, or neither")
    found = offered.read(start.data, start.image_size)
    tokenizer = None
    if found.kind == "texts":
        tokenizer = _tokenizer([t for t, out in zip(found.inputs, found.held_out, strict=True) if not out], start)
    described = _described(found, start, tokenizer)
    found = encoded(found, tokenizer, described)
    rows = np.flatnonzero(~found.held_out)
    if not rows.size:
        raise ValueError(f"{start.data} has no example to learn: all are held out; give more")
    labels = np.array([described.classes.index(name) for name in found.classes], np.int32)
    examples = found.examples()
    began = time.perf_counter()
    key, buffer_key = jax.random.split(jax.random.key(start.seed))
    task = serving.examples(found.inputs[rows], labels[rows].tolist(), described)
    buffer, held_out = fresh_buffers(described, buffer_key)
    out = np.flatnonzero(found.held_out)
    buffer = inserted(buffer, task, rows)
    if out.size:
        held_out = inserted(held_out, serving.examples(found.inputs[out], labels[out].tolist(), described), out)
    params, model_state = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes(described))
    held = Held(described, params, model_state, buffer, held_out, tokenizer)
    if start.weights is None:
        outcome = serving.retrain(key, held, task, progress)
        held, evaluations, cost, method = outcome.held, outcome.evaluations, outcome.cost, serving.RETRAIN
    else:
        params, model_state = read_weights(start.weights, described)
        held = held._replace(params=params, model_state=model_state)
        evaluations, cost, method = 0.0, serving.FREE, "none"
    seconds = time.perf_counter() - began
    metrics = of_request(held, held, found.inputs[:0], labels[:0])
    with Store.create(folder) as store:
        with store.ledger() as ledger:
            secret = ledger.secret_digest()
        body = {
            "name": folder.name,
            "by": by,
            "ticket": ticket,
            "asked": start.data if start.weights is None else f"{start.data}, learned by {start.weights.name}",
            "source": _absolute(start.data),
            "method": method,
            "network": network(described).description,
            "versions": versions(),
            "public_key": signing.load(store.path).public,
            "secret": secret,
            "before": None,
            "after": held.digest(),
            "trained": len(rows),
            "held_out": len(out),
            "data": data_digest(examples),
            "metrics": metrics,
            "cost": cost_of(evaluations, seconds, cost),
        }
        with store.writing("init") as ledger:
            entry = store.commit(ledger, "init", body, entering=examples, generation=held.files())
    return Done(
        entry.number, "init", folder.name, method, len(rows), len(out), seconds, cost.compile_seconds, evaluations, "",
        held.digest(), metrics, verdict("init", metrics), found.notes,
    )  # fmt: skip


def cost_of(evaluations: float, seconds: float, cost: RequestCost) -> dict[str, float]:
    """What the ledger says of an entry's cost: gradient evaluations, seconds in all, of steps and of compilation."""
    spent = {"seconds": seconds, "step_seconds": cost.seconds, "compile_seconds": cost.compile_seconds}
    return {"evaluations": evaluations, **{name: round(value, 3) for name, value in spent.items()}}


def data_digest(examples: Sequence[Any]) -> str:
    """SHA-256 over contents, keys and classes of examples, in hexadecimal."""
    sha = hashlib.sha256()
    for each in examples:
        sha.update(each.content + f"{each.key}\0{each.class_name}\0{each.held_out}\n".encode())
    return sha.hexdigest()


def _absolute(source: str) -> str:
    return str(Path(source).absolute()) if Path(source).exists() else source


def _described(found: offered.Offered, start: Start, tokenizer: bytes | None) -> Described:
    there = in_order(found.classes)
    classes = start.classes or tuple(there)
    if missing := [name for name in there if name not in classes]:
        raise ValueError(f"class {missing[0]!r} of the data is not among the classes given: {', '.join(classes)}")
    if len(classes) < 2 or len(set(classes)) < len(classes):
        raise ValueError(f"classes are {', '.join(classes)}: there must be two or more, each once")
    common: dict[str, Any] = {
        "classes": classes,
        "settings": dict(start.settings),
        "held_out": start.held_out,
        "seed": start.seed,
    }
    if tokenizer is not None:
        with installed_by("text"):
            from tokenizers import Tokenizer
        size = Tokenizer.from_str(tokenizer.decode()).get_vocab_size()
        return Described(
            inputs="texts", shape=(start.text_length,), dtype="int32", scale=1.0, mean=(), std=(),
            vocabulary_size=size, **common,
        )  # fmt: skip
    trained = np.flatnonzero(~found.held_out)
    normal = from_arrays(
        "data", found.inputs[trained], np.zeros(len(trained), np.int32), found.inputs[:1], np.zeros(1, np.int32),
        class_names=("a", "b"), scale=found.scale, mean=start.mean or None, std=start.std or None,
    )  # fmt: skip
    return Described(
        inputs=found.kind, shape=tuple(found.inputs.shape[1:]), dtype=str(normal.train_inputs.dtype),
        scale=normal.scale, mean=normal.mean, std=normal.std, image_size=start.image_size, **common,
    )  # fmt: skip


def _tokenizer(texts: list[str], start: Start) -> bytes:
    with installed_by("text"):
        from ugclu_jax.data.text import train_tokenizer

    return train_tokenizer(texts, start.vocabulary_size).to_str().encode()


def read_weights(path: Path, described: Described) -> tuple[Params, ModelState]:
    """Weights of a network that was trained elsewhere.

    Args:
        path: safetensors; tensors are named `params/…` and `model_state/…` by their paths in the trees, as
            `ugclu export` writes them.
        described: the network.

    Raises:
        ValueError: a tensor is missing, one too many, or of another shape or type.
        OSError: the file cannot be read.
    """
    params, model_state = shapes(described)
    try:
        found = tensors.unpacked(path.read_bytes(), {"params": params, "model_state": model_state})
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return found["params"], found["model_state"]
