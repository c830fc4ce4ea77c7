"""A process that has imported every program and waits: each row is a fork of it, milliseconds instead of seconds.

Started as `python zygote.py`; reads a line of JSON a row, answers with one. No thread of XLA is there when it forks.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from experiments import compare, grid, hypergradients, one_default, privacy_audit, report, search
from ugclu_jax import data
from ugclu_jax.harness.cli import main
from ugclu_jax.report import attack_figures, audit_tables, metrics, page, tables  # noqa: F401 (imported late by a program)

PROGRAMS: dict[str, Callable[[list[str]], int]] = {
    **{
        name: lambda arguments, name=name: main(name, "", arguments)
        for name in ("task_aware", "class_wise", "random_sample")
    },
    "compare": compare.run,
    "search": search.run,
    "grid": grid.run,
    "hypergradients": hypergradients.run,
    "one_default": one_default.run,
    "report": report.run,
    "privacy_audit": privacy_audit.run,
}
SECONDS = 60


def serve(row: dict) -> dict:
    """Fork, run one program in its folder, and tell how that ended."""
    folder = Path(row["folder"])
    # Beside the folder, which must stay as it was.
    out, err = (folder.with_name(f"{folder.name}.{name}") for name in ("out", "err"))
    child = os.fork()
    if child == 0:
        try:
            for path, number in ((out, 1), (err, 2)):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            os.chdir(folder)
            os.environ.update(row.get("environment", {}))
            code = PROGRAMS[row["program"]](row["arguments"])
            sys.stdout.flush()
        except BaseException:
            import traceback

            traceback.print_exc()
            code = 99
        os._exit(code)
    end = time.monotonic() + SECONDS
    status = None
    while status is None:
        done, found = os.waitpid(child, os.WNOHANG)
        if done:
            status = os.waitstatus_to_exitcode(found)
        elif time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
        else:
            time.sleep(0.002)
    texts = [path.read_bytes().decode("utf-8", "surrogateescape") for path in (out, err)]
    return {"code": status, "out": texts[0], "err": texts[1]}


if __name__ == "__main__":
    data.load("digits")  # imports what reads it
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(serve(json.loads(line))), flush=True)
