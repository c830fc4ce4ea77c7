"""A run's folder: what lies where, and that it belongs to the configuration at hand."""

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from ugclu_jax.data.record import Record, content_digest


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
            return dict(json.loads(self.config.read_text()))
        except (ValueError, TypeError) as error:
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

    def open(self, settings: Mapping[str, Any], made_of: Mapping[str, Any], record: Record, stream: str) -> None:
        """Make the folder, or take up the one that the same configuration made.

        Args:
            settings: the configuration.
            made_of: what else must be the same at each start: the library's version, the network.
            record: of the data; where the run is taken up, its own, which `take_up` has compared.
            stream: the requests, which go on from those that are there.

        Raises:
            ValueError: it was made with another configuration, library or network (differing keys are named), or its
                configuration is damaged.
            OSError: it cannot be written.
        """
        check_writable(self.path, "--run-dir")
        text = record.to_csv()
        facts = {**record.facts, "examples_csv": content_digest(text)}
        config = {**settings, "made_of": {**made_of, "data": facts}}
        there = self.read_config()
        if there is None:
            write(self.examples, text)
            write(self.stream, stream)
            write(self.config, json.dumps(config, indent=2) + "\n")  # last: a folder with it is complete
            return
        different = sorted(differences(there, config))
        if different:
            raise ValueError(
                f"run folder {self.path} was made with another configuration; differing: "
                f"{'; '.join(different)}. Give another --run-dir, or the same settings to resume"
            )
        if self.stream.read_text() != stream:
            write(self.stream, stream)

    def lock(self) -> IO[str]:
        """Take the folder for this process, as long as the file that is returned stays open.

        Raises:
            ValueError: another process has it; its number is given.
        """
        file = (self.path / "lock").open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            process = file.read().strip()
            file.close()
            raise ValueError(
                f"run folder {self.path} is in use by process {process}; wait for it, or give another --run-dir"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        return file

    def write_trace(self, method: str, seed: int, request: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Store the traces of one request, whole or not at all."""
        path = self.trace(method, seed, request)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        os.replace(partial, path)

    def write_metrics(self, lines: list[Mapping[str, Any]]) -> None:
        """Replace metrics.jsonl, whole or not at all: one JSON line a method, seed and request."""
        write(self.path / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines))


def check_writable(path: Path, setting: str) -> None:
    """Make a folder where it is missing, and see that files can be made in it.

    Raises:
        OSError: naming the folder and the setting to change.
    """
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


def write(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(text.encode(errors="surrogatepass"))
    os.replace(partial, path)
