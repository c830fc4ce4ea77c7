"""A run's folder: what lies where, and that it belongs to the configuration at hand."""

import fcntl
import io
import json
import os
import re
import secrets
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from ugclu_jax import files, seals
from ugclu_jax.data.record import Record, content_digest
from ugclu_jax.version import __version__

CACHES = "caches.json"
LOST = "lost.json"
RUN_ID_DIGITS = 32
RUN_ID = re.compile(f"[0-9a-f]{{{RUN_ID_DIGITS}}}")
PROCESS_ID = re.compile("[0-9]{1,10}")
LONGEST_INSIDE = 400
"""Bytes that a path within a folder may have, of the 4095 that the system takes."""


class Caches(NamedTuple):
    """Absolute paths of what a run used outside of its folder."""

    data: set[str]
    oracles: set[str]  # folders of banks


@dataclass(frozen=True)
class RunFolder:
    """config.json, stream.json, examples.csv, metrics.jsonl, report.html, and a folder for each method and seed."""

    path: Path

    def checkpoints(self, method: str, seed: int) -> Path:
        """Folder of the Orbax checkpoints of one run of the stream."""
        return self.path / "runs" / method / f"seed-{seed}" / "checkpoints"

    def trace(self, method: str, seed: int, request: int) -> Path:
        """File of the per-step losses and norms of one request."""
        return self.path / "runs" / method / f"seed-{seed}" / "traces" / f"{request}.npz"

    @property
    def config(self) -> Path:
        """File of the configuration, and of what the run was made of."""
        return self.path / "config.json"

    @property
    def stream(self) -> Path:
        """File of the requests, resolved."""
        return self.path / "stream.json"

    @property
    def examples(self) -> Path:
        """File of every example's key, class and content, in the order of the run's rows."""
        return self.path / "examples.csv"

    def read_config(self) -> dict[str, Any] | None:
        """What `open` wrote; None where there is no run.

        Raises:
            ValueError: it is damaged.
        """
        if not self.config.exists():
            return None
        try:
            config = dict(json.loads(seals.read(self.path, self.config.name)))
            check_run_id(config.get("run"))
            return config
        except (ValueError, TypeError, RecursionError, files.DamagedFileError) as error:
            raise ValueError(f"{self.config} is not a configuration ({error}); give another --run-dir") from error

    def read_record(self) -> Record | None:
        """What the run remembers of its data; None where there is no run.

        Raises:
            ValueError: it is damaged.
        """
        config = self.read_config()
        if config is None:
            return None
        try:
            facts = config["made_of"]["data"]
            text = self.examples.read_bytes().decode(errors="surrogatepass")
            if content_digest(text) != facts["examples_csv"]:
                raise ValueError("its digest is not the one in config.json")
            return Record.from_csv(text, facts)
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise ValueError(
                f"{self.examples} is damaged ({error}); put it back, or give another --run-dir to start anew"
            ) from error

    def open(self, config: Mapping[str, Any], examples: str, stream: str) -> None:
        """Make the folder, or take up the one that the same configuration made.

        Args:
            config: the configuration, and what else must be the same at each start: library, network, data.
            examples: the record of the data, as a CSV.
            stream: the requests, which go on from those that are there.

        Raises:
            ValueError: it was made with another configuration, library or network (differing keys are named), or its
                configuration is damaged.
            OSError: it cannot be written.
        """
        check_writable(self.path, "--run-dir")
        there = self.read_config()
        if there is None:
            files.write(self.examples, examples)
            seals.write(self.path, self.stream.name, stream.encode(errors="surrogatepass"))
            text = json.dumps({"run": secrets.token_hex(RUN_ID_DIGITS // 2), **config}, indent=2) + "\n"
            seals.write(self.path, self.config.name, text.encode())  # last: a folder with it is complete
            return
        different = sorted(differences({key: value for key, value in there.items() if key != "run"}, config))
        if different:
            raise ValueError(
                f"run folder {self.path} was made with another configuration; differing: "
                f"{'; '.join(different)}. Give another --run-dir, or the same settings to resume"
            )
        if self.read_stream() != stream:
            seals.write(self.path, self.stream.name, stream.encode(errors="surrogatepass"))

    def read_stream(self) -> str:
        """The requests, as `open` wrote them.

        Raises:
            ValueError: they are damaged.
            OSError: they cannot be read.
        """
        try:
            return seals.read(self.path, self.stream.name).decode(errors="surrogatepass")
        except (ValueError, files.DamagedFileError) as error:
            raise ValueError(f"{error}; put it back, or give another --run-dir to start anew") from error

    def note_caches(self, data: Path | None = None, bank: Path | None = None) -> None:
        """Remember where the run leaves things outside of its folder, for `remains`.

        Args:
            data: a folder of prepared data sets.
            bank: a folder of the oracle cache.
        """

        def paths(one: Path | None) -> set[str]:
            return set() if one is None else {str(one.absolute())}

        noted = self.noted_caches()
        new = Caches(noted.data | paths(data), noted.oracles | paths(bank))
        if new != noted:
            text = json.dumps({key: sorted(paths) for key, paths in new._asdict().items()}, indent=1)
            seals.write(self.path, CACHES, text.encode())

    def noted_caches(self) -> "Caches":
        """What `note_caches` was told so far.

        Raises:
            DamagedFileError: the note is not what was written.
        """
        path = self.path / CACHES
        fix = "put it back; or delete it, digests.json, and by hand the caches that the run used"
        try:
            noted = json.loads(seals.read(self.path, CACHES))
            return Caches({str(one) for one in noted["data"]}, {str(one) for one in noted["oracles"]})
        except FileNotFoundError as error:
            if seals.knows(self.path, CACHES):
                raise files.DamagedFileError(f"{path} is gone; {fix}") from error
            return Caches(set(), set())
        except (ValueError, TypeError, KeyError, RecursionError, OSError) as error:
            raise files.DamagedFileError(f"{path} is damaged ({error}); {fix}") from error

    def run_id(self) -> str:
        """The id that the run got when its folder was made.

        Raises:
            ValueError: the folder names none.
            OSError: it cannot be read.
        """
        return check_run_id((self.read_config() or {}).get("run"))

    def identity(self, method: str, seed: int, data: str) -> dict[str, Any]:
        """What all checkpoints of a method and seed say of themselves: whose they are, and which library wrote them.

        Args:
            method, seed: that they belong to.
            data: fingerprint of the data.

        Raises:
            ValueError, OSError: as `run_id`.
        """
        return {"run": self.run_id(), "method": method, "seed": seed, "data": data, "version": __version__}

    def lock(self) -> IO[bytes]:
        """Take the folder for this process, as long as the file that is returned stays open.

        Raises:
            ValueError: another process has it; its number is given. Or `lock` is no lock file, but a link, say.
        """
        path = self.path / "lock"
        try:
            file = files.open_plain(path, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise ValueError(f"{path} is {error.strerror}; delete it, or give another --run-dir") from error
        try:
            content = file.read(100).decode(errors="replace").strip()
            if content and not PROCESS_ID.fullmatch(content):
                raise ValueError(f"{path} is not a lock of this library; delete it, or give another --run-dir")
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise ValueError(
                f"run folder {self.path} is in use by process {content}; wait for it, or give another --run-dir"
            ) from error
        except ValueError:
            file.close()
            raise
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()).encode())
        file.flush()
        return file

    def sweep(self) -> list[Path]:
        """Remove what a kill left half-written in the folder, and return it; checkpoints see to their own."""
        folders = [self.path, *self.path.glob("runs/*/*/traces")]
        return [path for folder in folders for path in files.sweep(folder)]

    def write_trace(self, method: str, seed: int, request: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Store the traces of one request, whole or not at all."""
        content = io.BytesIO()
        np.savez(content, allow_pickle=False, **arrays)
        name = str(self.trace(method, seed, request).relative_to(self.path))
        seals.write(self.path, name, content.getvalue())

    def write_metrics(self, lines: list[Mapping[str, Any]]) -> None:
        """Replace metrics.jsonl, whole or not at all: one JSON line a method, seed and request."""
        seals.write(self.path, "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode())

    def write_lost(self, why: Sequence[str]) -> None:
        """Note that all was served but some seeds that diverged, and why each did; nothing where none did."""
        if why:
            seals.write(self.path, LOST, (json.dumps(list(why), indent=1) + "\n").encode())
        else:
            (self.path / LOST).unlink(missing_ok=True)

    def lost(self) -> list[str]:
        """Why seeds diverged in a run that was served to its end; empty where none did, or the run has not ended.

        Raises:
            OSError, ValueError: the file is damaged.
        """
        try:
            return [str(each) for each in json.loads(seals.read(self.path, LOST))]
        except FileNotFoundError:
            return []


def check_run_id(value: Any) -> str:
    """The id of a run, as its folder has it.

    Raises:
        ValueError: it is none.

    >>> check_run_id("0123456789abcdef0123456789abcdef")
    '0123456789abcdef0123456789abcdef'
    >>> check_run_id(None)
    Traceback (most recent call last):
    ...
    ValueError: run must be 32 hexadecimal digits, got None
    """
    if not isinstance(value, str) or not RUN_ID.fullmatch(value):
        raise ValueError(f"run must be {RUN_ID_DIGITS} hexadecimal digits, got {value!r}")
    return value


def check_writable(path: Path, setting: str) -> None:
    """Make a folder where it is missing, and see that files can be made in it.

    Raises:
        OSError: naming the folder and the setting to change.
    """
    longest = os.pathconf("/", "PC_PATH_MAX") - LONGEST_INSIDE
    if len(os.fsencode(path.absolute())) > longest:
        raise OSError(f"folder {path} has a path longer than {longest} bytes; give another {setting}")
    try:
        path.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()
    except OSError as error:
        raise OSError(f"folder {path} cannot be written ({error.strerror}); give another {setting}") from error


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Keys whose values differ, dotted, with both values.

    >>> list(differences({"a": {"b": 1}, "c": 2}, {"a": {"b": 3}, "c": 2}))
    ['a.b (1 there, 3 here)']
    """
    for key in {**old, **new}:
        there, here = old.get(key, "nothing"), new.get(key, "nothing")
        if isinstance(there, Mapping) and isinstance(here, Mapping):
            yield from differences(there, here, f"{prefix}{key}.")
        elif there != here:
            yield f"{prefix}{key} ({json.dumps(there)} there, {json.dumps(here)} here)"
