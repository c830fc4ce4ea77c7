"""Unlearn many requests from one state, and measure each with and without an oracle.

    python -m experiments.estimates --settings FILE --run-dir DIR

What `experiments.oracle_free` runs. The settings are data, model, capacity, oracles and one seed as
`experiments.compare` has them, with a further entry `requests`: how many. The run folder gets requests.jsonl, a line a
request as it ends, and the same command takes up where it stopped.
"""

import functools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import numpy as np
import tyro

from ugclu_jax import files
from ugclu_jax.data.dataset import Dataset
from ugclu_jax.harness.config import ExperimentConfig, from_dict, path_of
from ugclu_jax.harness.plan import load_dataset
from ugclu_jax.harness.run_folder import RunFolder
from ugclu_jax.harness.settings_file import load_json
from ugclu_jax.harness.signals import Stop, Stopped, stoppable
from ugclu_jax.harness.terminal import consoles, ended, say
from ugclu_jax.living import audit, measures, serving
from ugclu_jax.living.held import Held, filled, fresh_buffers, inserted
from ugclu_jax.living.network import Described

FILE = "requests.jsonl"
METHODS = ("ug_clu", "finetune_remain", "gradient_ascent", "neg_grad_plus", "salun", "do_nothing")
STEPS = (2, 10, 40)
"""Outer steps: from too few to many."""
REFERENCES = 4
"""Small networks, trained on the buffer, that RMIA has."""
MOST_HELD_OUT = 1000


class Request(NamedTuple):
    """One request of the study."""

    method: str
    steps: int
    rows: np.ndarray
    of: str  # random, or class


def requests(labels: np.ndarray, number: int, seed: int) -> list[Request]:
    """Requests of every method, kind and strength in turn, on examples that are drawn anew for each.

    The next seed goes on where one ends.

    >>> [(each.method, each.steps, each.of) for each in requests(np.arange(20) % 2, 7, seed=0)][::3]
    [('ug_clu', 2, 'random'), ('neg_grad_plus', 2, 'class'), ('ug_clu', 10, 'class')]
    >>> requests(np.arange(20) % 2, 7, seed=1)[0][:2]
    ('finetune_remain', 10)
    """
    draw, made = np.random.default_rng(seed), []
    for each in range(seed * number, (seed + 1) * number):
        method, steps = METHODS[each % len(METHODS)], STEPS[(each // len(METHODS)) % len(STEPS)]
        if (each + each // len(METHODS)) % 2:  # so that each method has both
            rows, of = np.flatnonzero(labels == draw.integers(labels.max() + 1)), "class"
            rows = draw.choice(rows, max(len(rows) // 2, min(len(rows), 8)), replace=False)
        else:
            rows, of = draw.choice(len(labels), max(len(labels) // 20, min(len(labels), 16)), replace=False), "random"
        made.append(Request(method, steps, np.sort(rows), of))
    return made


class Model:
    """One trained network, that every request begins from."""

    def __init__(self, dataset: Dataset, config: ExperimentConfig) -> None:
        self.dataset, self.config = dataset, config
        self.key = jax.random.key(config.seeds[0])
        inputs, labels = dataset.train_inputs, dataset.train_labels
        base = self.described(STEPS[0])
        everything = serving.examples(inputs, labels.tolist(), base)
        buffers = fresh_buffers(base, jax.random.fold_in(self.key, 0))
        rows = np.arange(len(labels))
        test = rows[: min(len(dataset.test_labels), base.held_out, len(rows))] + len(labels)
        tested = serving.examples(dataset.test_inputs[: len(test)], dataset.test_labels[: len(test)].tolist(), base)
        params, model_state = self.networks(base, everything, 1, 1)[0]
        samples = inserted(buffers[0], everything, rows), inserted(buffers[1], tested, test)
        self.held = Held(base, params, model_state, *samples)

    def described(self, steps: int) -> Described:
        """The network, whose requests take so many steps."""
        dataset, config = self.dataset, self.config
        kind = {"settings": {"outer_steps": steps, "inner_steps": 5}}
        settings = {
            "model": config.model,
            "capacity": config.capacity,
            "oracle": {"epochs": config.oracle.epochs, "batch_size": config.oracle.batch_size},
            "learn": kind,
            "unlearn": kind,
        }
        shape, held_out = dataset.train_inputs.shape[1:], min(len(dataset.test_labels), MOST_HELD_OUT)
        return Described(
            dataset.class_names, "arrays", shape, str(dataset.train_inputs.dtype), dataset.scale, dataset.mean,
            dataset.std, settings=settings, held_out=held_out,
        )  # fmt: skip

    def networks(self, described: Described, task: Any, number: int, draw: int) -> list[Any]:
        """So many networks, trained from scratch on examples."""
        keys = jax.random.split(jax.random.fold_in(self.key, draw), number)
        return serving.trained(keys, described, task, "", None)[0]

    def measured(self, asked: Request, place: int) -> dict[str, Any]:
        """Serve a request; what an audit estimates of it, and how far it is from its oracles; or why it was lost.

        Estimates grow with the distance that they stand for: areas are given as their distance from 1/2.
        """
        inputs, labels = self.dataset.train_inputs, self.dataset.train_labels
        config, described = self.config, self.described(asked.steps)
        held, gone, own = self.held._replace(described=described), inputs[asked.rows], labels[asked.rows]
        task, key = serving.examples(gone, own.tolist(), described), jax.random.fold_in(self.key, 2 * place + 3)
        known = {"request": place, "method": asked.method, "steps": asked.steps, "of": asked.of, "examples": len(own)}
        try:
            after = serving.serve(key, held, asked.method, "unlearn", task, asked.rows, asked.rows).held
        except serving.DivergedError as error:  # a result: far too many steps of some methods end so
            return known | {"lost": str(error)}
        metrics = measures.of_request(held, after, gone, own)
        sample, classes, _ = filled(after.buffer)
        small = serving.examples(sample, classes.tolist(), described)
        references = self.networks(described, small, REFERENCES, 2)
        against = audit.against_references(after, references, audit.Gone(gone, own, len(own)))
        if against is None:
            raise ValueError(f"request {place + 1}: no held-out example has a class that is unlearned")
        staying = np.setdiff1d(np.arange(len(labels)), asked.rows)
        rest = serving.examples(inputs[staying], labels[staying].tolist(), described)
        true = audit.distances(after, self.networks(described, rest, config.oracle_seeds, 2 * place + 4), gone)
        attack, rmia = metrics["attack"]["area"][1], against["area"]
        return known | {
            "attack": abs(attack[0] - 0.5),
            "rmia": abs(rmia[0] - 0.5),
            "accuracy": metrics["unlearned"]["accuracy"][1][0],
            "loss": metrics["unlearned"]["loss"][1][0],
            "drift_held_out": metrics["held_out"]["moved"][0],
            "drift_buffer": metrics["buffer"]["moved"][0],
            "passes": {"attack": attack[1] <= 0.5 <= attack[2], "rmia": rmia[1] <= 0.5 <= rmia[2]},
            "distance": true["hellinger"],
            "floor": true["hellinger_floor"],
        }


def read(folder: Path) -> list[dict[str, Any]]:
    """The requests of a folder that have been measured, in order; none where there are none yet.

    Raises:
        DamagedFileError: a line is none.
        OSError: the file cannot be read.
    """
    path, found = folder / FILE, []
    if not path.exists():
        return []
    for number, line in enumerate(path.read_text().splitlines()):
        try:
            entry = json.loads(line)
            measured = [] if "lost" in entry else [float(entry["distance"]), float(entry["floor"])]
            if entry["request"] != number or not np.isfinite(measured).all():
                raise ValueError(entry)
        except (ValueError, TypeError, KeyError) as error:
            told = f"{path} line {number + 1} is no request; delete it and what follows to measure them anew"
            raise files.DamagedFileError(told) from error
        found.append(entry)
    return found


def run(arguments: Sequence[str]) -> int:
    """Command line; returns the exit code."""
    return ended(lambda: tyro.cli(main, args=list(arguments), prog="python -m experiments.estimates"))


def main(settings: Annotated[str, tyro.conf.arg(metavar="FILE")], run_dir: str) -> int:
    """Unlearn many requests from one state, and measure each with and without an oracle.

    Args:
        settings: JSON file: data, model, capacity, oracles, and how many `requests`.
        run_dir: folder of the run; the same command resumes there.
    """
    _, errors = consoles()
    try:
        given, folder = load_json(path_of(settings, "--settings")), path_of(run_dir, "--run-dir")
        number = given.pop("requests")
        config = from_dict(ExperimentConfig, given)
        dataset = load_dataset(config)
        folder.mkdir(parents=True, exist_ok=True)
        done, lock = read(folder), RunFolder(folder).lock()
    except (ValueError, OSError, KeyError) as error:
        say(errors, "Error:", str(error))
        return 2
    with lock, stoppable(lambda message: say(errors, "", message), lambda _: "Resume with the same command.") as stop:
        try:
            _serve(folder, dataset, config, number, done, stop)
        except Stopped as error:
            return 128 + error.number
        except (ValueError, OSError) as error:
            say(errors, "Run failed:", str(error))
            return 1
    return 0


def _serve(
    folder: Path, dataset: Dataset, config: ExperimentConfig, number: int, done: list[dict[str, Any]], stop: Stop
) -> None:
    asked = requests(dataset.train_labels, number, config.seeds[0])
    model = functools.cache(lambda: Model(dataset, config))  # where nothing is left to do nothing is trained
    for place in range(len(done), number):
        stop.check(f"request {place + 1} of {number}")
        done.append(model().measured(asked[place], place))
        files.write(folder / FILE, "".join(json.dumps(each) + "\n" for each in done))


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
