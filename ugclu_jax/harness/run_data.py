"""A run takes up its data: in the rows of its first start, whatever has come, gone or moved since; or it refuses."""

from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from ugclu_jax import checkpoints, devices
from ugclu_jax.data.dataset import Dataset
from ugclu_jax.data.record import Record, aligned, record
from ugclu_jax.harness.config import ExperimentConfig
from ugclu_jax.harness.run_folder import RunFolder
from ugclu_jax.harness.scenarios import names_of
from ugclu_jax.requests import Ledger, Stream, from_json
from ugclu_jax.requests.validate import some


class RunData(NamedTuple):
    """The data of a run as it goes on.

    Attributes:
        dataset: in the rows of the run's record.
        record: of the first start, or of this one where it is the first.
        known: the requests that the run's folder has, with what they meant when they were first asked for.
        gone_train, gone_test: rows of unlearned examples that are no longer in the data.
        notes: what differs from the first start, in sentences.
    """

    dataset: Dataset
    record: Record
    known: Stream
    gone_train: np.ndarray
    gone_test: np.ndarray
    notes: tuple[str, ...]


def take_up(path: Path, dataset: Dataset, config: ExperimentConfig) -> RunData:
    """The data of a run, and the requests that it knows.

    What is gone from the data must have been unlearned, by every method and seed, and never be asked for again.

    Args:
        path: of the run's folder, which need not exist.
        dataset: as loaded and cut.
        config: says which methods and seeds the run has.

    Raises:
        ValueError: the run's record is damaged, or the data are not those of the run; what differs is named.
        OSError: the folder cannot be read.
    """
    folder = RunFolder(path.absolute())
    # Several processes each read a share.
    digests = devices.sum_over_processes(dataset.digests(jax.process_index(), jax.process_count()))
    before = folder.read_record()
    none = np.zeros(0, np.int64)
    if before is None:
        return RunData(dataset, record(dataset, digests), (), none, none, ())
    if before.facts["fingerprint"] == dataset.fingerprint(digests):
        return RunData(dataset, before, known_requests(folder, dataset), none, none, ())
    try:
        found = aligned(dataset, digests, before)
    except ValueError as error:
        raise other_data(folder, error) from error
    known = known_requests(folder, found.dataset)
    served = min(
        max(checkpoints.requests(folder.checkpoints(method, seed)), default=-1) + 1
        for method in config.methods
        for seed in config.seeds
    )
    try:
        check_gone(found.dataset, found.gone_train, found.gone_test, known, served)
    except ValueError as error:
        raise other_data(folder, error) from error
    return RunData(found.dataset, before, known, found.gone_train, found.gone_test, found.notes)


def other_data(folder: RunFolder, reason: ValueError) -> ValueError:
    """The refusal of data that are not those of a run."""
    return ValueError(
        f"run folder {folder.path} was made with other data: {reason}. Put them back as they were to resume, or give "
        "another --run-dir to start anew"
    )


def known_requests(folder: RunFolder, dataset: Dataset) -> Stream:
    """The requests that a run's folder has, on data in the run's rows.

    Raises:
        ValueError: their file is damaged.
        OSError: it cannot be read.
    """
    text = folder.read_stream()
    try:
        return from_json(text, names_of(dataset))
    except ValueError as error:
        raise ValueError(
            f"{folder.stream} is damaged ({error}); put it back, or give another --run-dir to start anew"
        ) from error


def check_gone(dataset: Dataset, gone_train: np.ndarray, gone_test: np.ndarray, known: Stream, served: int) -> None:
    """Refuse examples that are gone from the data and still needed.

    Args:
        dataset: in the rows of the run.
        gone_train, gone_test: rows.
        known: the requests of the run.
        served: how many of them all methods and seeds have served.

    Raises:
        ValueError: an example is gone that is not unlearned yet, or that a later request asks for, or a test example
            that no served request to unlearn named.
    """
    ledger = Ledger(len(dataset.train_keys))
    for request in known[:served]:
        ledger.enter(request)
    needed = gone_train[ledger.status[gone_train] != Ledger.UNLEARNED]
    asked = [request.ids for request in known[served:]]
    needed = np.union1d(needed, np.intersect1d(gone_train, np.concatenate(asked))) if asked else needed
    held_out = [request.held_out for request in known[:served] if request.kind == "unlearn"]
    needed_test = np.setdiff1d(gone_test, np.concatenate(held_out)) if held_out else gone_test
    keys = [*dataset.train_keys[needed].tolist(), *dataset.test_keys[needed_test].tolist()]
    if keys:
        is_are = "is" if len(keys) == 1 else "are"
        raise ValueError(f"{some(np.array(keys))} {is_are} gone, and not unlearned by this run")
