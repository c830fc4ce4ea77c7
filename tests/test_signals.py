"""Ctrl-C and SIGTERM: heard at once while a request goes on, obeyed at its end; the second time at once."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ugclu_jax.harness.signals import Stop, Stopped, stoppable

ROOT = Path(__file__).parent.parent
# One C call that lasts for seconds, and holds no lock of the interpreter: what a request is to Python.
BUSY = """
import hashlib, sys
from ugclu_jax.harness.signals import Stopped, stoppable
say = lambda text: print(text, file=sys.stderr, flush=True)
with stoppable(say, lambda number: f"last words {number}") as stop:
    stop.check("request 1 of 7")
    say("begun")
    hashlib.pbkdf2_hmac("sha256", b"", b"", int(sys.argv[1]))
    say("the call has ended")
    try:
        stop.check("request 2 of 7")
    except Stopped as error:
        say(f"stopped by {error.number}")
        sys.exit(128 + error.number)
"""
MINUTE, SECOND = "60000000", "1500000"


@contextlib.contextmanager
def started(length: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", BUSY, length]
    environment = {**os.environ, "PYTHONPATH": "."}
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None and process.stderr.readline() == "begun\n"
        time.sleep(0.1)  # into the call
        yield process


@pytest.mark.parametrize(("number", "name"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")])
def test_the_first_is_answered_at_once_and_the_second_obeyed_at_once(number, name):
    """Both while the call into C goes on, whose end would be said."""
    with started(MINUTE) as process:
        assert process.stderr is not None
        process.send_signal(number)
        assert process.stderr.readline() == f"finishing request 1 of 7; {name} again stops now\n"
        process.send_signal(number)
        assert process.stderr.read() == f"last words {int(number)}\n"
    assert process.returncode == 128 + number


def test_one_alone_waits_for_the_request():
    with started(SECOND) as process:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    assert said == "finishing request 1 of 7; Ctrl-C again stops now\nthe call has ended\nstopped by 2\n"
    assert process.returncode == 130


def test_handlers_come_back_and_a_run_may_follow_a_run():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    for _ in range(2):
        said: list[str] = []
        with stoppable(said.append, str) as stop:
            stop.check("request 3 of 7")
            signal.raise_signal(signal.SIGTERM)
            for _ in range(500):
                if said:
                    break
                time.sleep(0.01)
            with pytest.raises(Stopped):
                stop.check()
        assert said == ["finishing request 3 of 7; SIGTERM again stops now"]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert signal.set_wakeup_fd(-1) == -1


def test_nothing_is_stopped_that_nobody_asked_to_stop():
    stop = Stop()
    stop.check("request 1 of 7")
    assert (stop.number, stop.in_hand) == (None, "request 1 of 7")


@pytest.mark.parametrize(("number", "said"), [(signal.SIGINT, "Interrupted"), (signal.SIGTERM, "Terminated")])
def test_during_imports_there_is_one_line_and_no_traceback(number, said, tmp_path):
    """The package of the programs is imported, and holds at the first import after it."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Hold:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == 'ugclu_jax.extras':\n"
        "            import time\n"
        "            print('importing', flush=True)\n"
        "            time.sleep(60)\n"
        "sys.meta_path.insert(0, Hold())\n"
    )
    with subprocess.Popen(
        [sys.executable, "-m", "experiments.task_aware", "--help"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "importing\n"
        process.send_signal(number)
        _, errors = process.communicate()
    assert process.returncode == 128 + number
    assert errors == f"{said} before work began.\n"


def test_who_imports_a_program_keeps_handlers_of_its_own():
    code = (
        "import signal; before = signal.getsignal(signal.SIGINT); import experiments.task_aware; "
        "assert signal.getsignal(signal.SIGINT) is before"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, env={**os.environ, "PYTHONPATH": "."})
