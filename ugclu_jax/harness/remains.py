"""What still holds traces of unlearned examples, in a run's folder and in the caches that it used; and its end.

Four kinds of things do, after every request to unlearn was served and its checkpoints were rewritten:

- weights of kept checkpoints from before the last request to unlearn: that model still knows the examples;
- the run's oracles: networks that were trained with them, and outputs of all networks on them;
- prepared data sets that have their inputs, whether their source files are still there or not;
- thumbnails, or beginnings of texts, that were kept for the report, and a report that shows them.

What stay are figures: those in metrics.jsonl, evidence.json, the traces and the report, and the outputs of models and
oracles on the examples, from which these are computed; and in examples.csv and stream.json the keys of the examples and
digests of their inputs, by which the run would know them again.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ugclu_jax import checkpoints, files
from ugclu_jax.data import cache
from ugclu_jax.data.dataset import DIGEST_BYTES
from ugclu_jax.data.record import Record
from ugclu_jax.harness.run_folder import RunFolder
from ugclu_jax.report import shown
from ugclu_jax.report.remains import Remain
from ugclu_jax.requests import Ledger, Names, Stream, from_json

WEIGHTS, ORACLES, INPUTS = "earlier weights", "oracles", "prepared inputs"
SHOWN = "shown examples"
FOREIGN = "weights of another run"
REPORT = "report.html"
ARCHIVES = ("runs/*/*/traces/*.npz", "runs/*/*/outputs/*.npz", "oracles/*.npz", "counterfactuals/**/*.npz")
"""Arrays in a run's folder beside checkpoints."""


class Served(NamedTuple):
    """One method and seed of a run, as far as it got."""

    folder: Path  # of its checkpoints
    whose: Mapping[str, Any]
    newest: int  # request, -1 before the first
    unlearned: int  # the last request to unlearn up to it, -1 where there is none

    def identity(self, request: int) -> dict[str, Any]:
        """What the checkpoint of a request says of itself."""
        return {**self.whose, "request": request}


class Forgotten(NamedTuple):
    """The unlearned examples, by digests of their inputs; those that equal another example's are not among them."""

    digests: frozenset[bytes]
    facts: Mapping[str, Any]  # of the data: shape, dtype, scale, mean, std

    def among(self, array: np.ndarray) -> bool:
        """Whether one of them is a row of an array, as it is stored, or as numbers, scaled to 1, or normalised.

        >>> import hashlib
        >>> facts = {"shape": [2], "dtype": "uint8", "scale": 255.0, "mean": [0.5], "std": [0.25]}
        >>> wanted = Forgotten(frozenset([hashlib.sha256(bytes([3, 9])).digest()[:DIGEST_BYTES]]), facts)
        >>> wanted.among(np.array([[0, 0], [3, 9]], np.uint8)), wanted.among(np.array([[9, 3]], np.uint8))
        (True, False)
        >>> wanted.among((np.array([3, 9], np.float32) / 255 - 0.5) / 0.25)
        True
        """
        return any(sha(row) in self.digests for rows in self._readings(array) for row in rows)

    def stand_in(self, entry: Path) -> bool:
        """Whether one of them stands in a prepared data set, or it is damaged, so that nobody can say."""
        try:
            arrays = cache.arrays_of(entry)
        except (ValueError, OSError):
            return True
        alike = [array for array in arrays if list(array.shape[1:]) == self.facts["shape"]]
        return any(self.among(array) for array in alike if str(array.dtype) == self.facts["dtype"])

    def _readings(self, array: np.ndarray) -> Iterator[np.ndarray]:
        shape, dtype = tuple(self.facts["shape"]), np.dtype(self.facts["dtype"])
        numeric = array.dtype.kind in "uif" or array.dtype.name == "bfloat16"
        if not numeric or not array.size or array.size % int(np.prod(shape)):
            return
        rows = array.reshape(-1, *shape)
        if array.dtype == dtype:
            yield rows
            return
        numbers = rows.astype(np.float64)
        yield _rounded(numbers, dtype)
        if dtype.kind == "u" and array.dtype.kind != "i":
            scale = self.facts["scale"]
            yield _rounded(numbers * scale, dtype)
            yield _rounded((numbers * self.facts["std"] + self.facts["mean"]) * scale, dtype)


def _rounded(numbers: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    limits = np.iinfo(dtype) if dtype.kind in "ui" else np.finfo(dtype)
    whole = np.rint(np.nan_to_num(numbers)) if dtype.kind in "ui" else numbers
    return np.clip(whole, limits.min, limits.max).astype(dtype)


def sha(row: np.ndarray) -> bytes:
    """The digest by which a run's record knows an input, see `Dataset.digests`."""
    return hashlib.sha256(np.ascontiguousarray(row).data).digest()[:DIGEST_BYTES]


class Look(NamedTuple):
    """A run, looked at."""

    folder: RunFolder
    served: list[Served]
    forgotten: Forgotten


def look(run: Path) -> Look | None:
    """What a run has unlearned, from its folder alone; None where there is no run.

    Raises:
        ValueError, OSError: the folder is damaged or cannot be read.
    """
    folder = RunFolder(run.absolute())
    record, config = folder.read_record(), folder.read_config()
    if record is None or config is None:
        return None
    stream = from_json(folder.read_stream(), _names(record))
    unlearning = [index for index, request in enumerate(stream) if request.kind == "unlearn"]
    served = []
    for method in config["methods"]:
        for seed in config["seeds"]:
            place = folder.checkpoints(method, seed)
            whose = folder.identity(method, seed, record.facts["fingerprint"])
            newest = max((r for r in checkpoints.requests(place) if r < len(stream)), default=-1)
            before = [index for index in unlearning if index <= newest]
            served.append(Served(place, whose, newest, max(before, default=-1)))
    return Look(folder, served, forgotten(record, stream[: 1 + min(one.newest for one in served)]))


def forgotten(record: Record, stream: Stream) -> Forgotten:
    """The examples that a stream has unlearned at its end, and the test examples that its requests to unlearn name."""
    train, test = record.digests[~record.is_test], record.digests[record.is_test]
    ledger = Ledger(len(train))
    gone_test = np.zeros(len(test), bool)
    for request in stream:
        ledger.enter(request)
        gone_test[request.held_out] = request.kind == "unlearn"
    gone_train = ledger.status == Ledger.UNLEARNED
    gone = {digest.tobytes() for digest in (*train[gone_train], *test[gone_test])}
    others = {digest.tobytes() for digest in (*train[~gone_train], *test[~gone_test])}
    blank = sha(np.zeros(record.facts["shape"], record.facts["dtype"]))  # so are empty rows of a buffer
    return Forgotten(frozenset(gone - others - {blank}), record.facts)


def _names(record: Record) -> Names:
    labels = np.array([record.facts["classes"].index(name) for name in record.classes])
    train, test = ~record.is_test, record.is_test
    positions = record.facts["keys_are"] == "position"
    classes = tuple(record.facts["classes"])
    return Names(record.keys[train], labels[train], record.keys[test], labels[test], classes, positions)


def remains(run: Path) -> list[Remain] | None:
    """What still holds traces of the unlearned, for the report and `experiments.purge`.

    Args:
        run: a run's folder.

    Returns:
        Files and folders; empty where nothing was unlearned or nothing is left; None where there is no run.

    Raises:
        ValueError, OSError: the folder is damaged or cannot be read.
    """
    found = look(run)
    return None if found is None else list(remaining(found))


def remaining(found: Look) -> Iterator[Remain]:
    """See `remains`."""
    for one in found.served:
        for request in checkpoints.requests(one.folder) if one.unlearned >= 0 else []:
            path = one.folder / str(request)
            if request > one.newest:
                yield Remain(FOREIGN, path, size(path))
            elif request < one.unlearned:
                yield Remain(WEIGHTS, path, size(path))
    yield from shown_examples(found.folder.path)
    if not found.forgotten.digests:
        return
    caches = found.folder.noted_caches()
    for path in map(Path, sorted(caches.oracles)):
        if path.exists():
            yield Remain(ORACLES, path, size(path))
    for folder in map(Path, sorted(caches.data)):
        for entry in cache.entries(folder):
            if found.forgotten.stand_in(entry):
                yield Remain(INPUTS, entry, size(entry))


def shown_examples(run: Path) -> Iterator[Remain]:
    """Files of a run's folder from which unlearned examples can be looked at."""
    page = run / REPORT
    for path in [*shown.files_of(run), *([page] if shown.is_in(page) else [])]:
        yield Remain(SHOWN, path, size(path))


def size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    inside: Iterable[Path] = path.rglob("*") if path.is_dir() else [path]
    return sum(each.lstat().st_size for each in inside if each.is_file())


def purge(found: Look) -> list[Remain]:
    """Remove what remains. What a kill leaves of it is removed by the next start, or when this is called again.

    A report that shows unlearned examples goes too; it can be written again without them.

    Call it with the run's lock. The newest checkpoint of every method and seed is read back whole before any earlier
    one is removed: from it the run goes on.

    Returns:
        What was removed.

    Raises:
        CorruptCheckpointError: a newest checkpoint is damaged; nothing was removed.
        OSError: something cannot be removed.
    """
    for one in found.served:
        checkpoints.sweep(one.folder)
        if one.unlearned >= 0:
            checkpoints.read(one.folder, one.newest, one.identity(one.newest))
    removed = []
    for each in remaining(found):
        if each.what in (WEIGHTS, FOREIGN):
            checkpoints.delete(each.path.parent, int(each.path.name))
        else:
            files.discard(each.path)
        removed.append(each)
    return removed


def left(found: Look) -> Iterator[str]:
    """Where an unlearned example still stands as a row of an array: every array of every file is read.

    What cannot be read counts as a place where one may stand.
    """
    for one in found.served:
        for request in checkpoints.requests(one.folder):
            try:
                arrays = checkpoints.read(one.folder, request, one.identity(request))
            except checkpoints.CorruptCheckpointError as error:
                yield str(error)
                continue
            if any(map(found.forgotten.among, arrays)):
                yield str(one.folder / str(request))
    caches = found.folder.noted_caches()
    banks = (path for bank in map(Path, caches.oracles) if bank.is_dir() for path in sorted(bank.iterdir()))
    kept = (path for pattern in ARCHIVES for path in found.folder.path.glob(pattern))
    for path in (*kept, *banks):
        if path.is_file() and any(map(found.forgotten.among, _arrays(path))):
            yield str(path)
    for entry in (entry for folder in caches.data for entry in cache.entries(Path(folder))):
        if found.forgotten.stand_in(entry):
            yield str(entry)


def _arrays(path: Path) -> list[np.ndarray]:
    with files.open_plain(path) as file, np.load(file, allow_pickle=False) as stored:
        return [stored[name] for name in stored.files]
