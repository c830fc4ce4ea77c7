"""Work in a process of its own: its cores, its devices, its peak memory.

python -m benchmarks.process MODULE FUNCTION CORES ARGUMENTS    what `call` starts; the result is a line of JSON
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent


class Finished(NamedTuple):
    """A process that ended well."""

    output: str
    seconds: float
    peak_bytes: int  # largest resident memory


def cores_here() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


def run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Finished:
    """Run a command in the root of the repository.

    Raises:
        RuntimeError: it failed; with the end of what it said, the result included where it came so far.
    """
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        start = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=output, stderr=errors, env={**os.environ, **(environment or {})}
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        said = output.read()
        if process.returncode:
            raise RuntimeError(
                f"{' '.join(command)} ended with code {process.returncode}:\n{errors.read()[-2000:]}{said[-200:]}"
            )
    return Finished(said, seconds, usage.ru_maxrss * 1024)


def call(
    function: str, *, cores: int, environment: Mapping[str, str] | None = None, **arguments: Any
) -> tuple[Any, Finished]:
    """`function(cores=cores, **arguments)` in a new process that may use so many cores from its start.

    Args:
        function: "module:name"; takes and returns what JSON can hold.
        cores: the first so many of those of this process.
        environment: on top of this one's.
        arguments: of the function.

    Raises:
        ValueError: more cores than there are.
        RuntimeError: it failed.
    """
    if not 1 <= cores <= cores_here():
        raise ValueError(f"cores is {cores} and this process may use {cores_here()}: give 1 to that many")
    module, name = function.split(":")
    command = [sys.executable, "-m", "benchmarks.process", module, name, str(cores), json.dumps(arguments)]
    finished = run(command, environment)
    return json.loads(finished.output.splitlines()[-1]), finished


if __name__ == "__main__":
    _, module, name, cores, arguments = sys.argv
    # Before anything makes threads: XLA makes as many as there are cores at that moment.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(cores)])
    result = getattr(importlib.import_module(module), name)(cores=int(cores), **json.loads(arguments))
    print(json.dumps(result), flush=True)
    os._exit(0)  # the orderly end of a process with JAX may abort with a corrupted heap: jax-ml/jax#30731
