"""Experiments: one module each, run as `python -m experiments.NAME --help`.

Installed, without a checkout, they are `python -m ugclu_jax.experiments.NAME`.
"""

import os
import signal
import sys
from types import FrameType


def _leave(number: int, frame: FrameType | None) -> None:
    """Before work begins there is nothing to finish: no traceback of some import, and no wait."""
    os.write(2, b"Interrupted before work began.\n" if number == signal.SIGINT else b"Terminated before work began.\n")
    os._exit(128 + number)


# Under this name while Python looks for the module of `-m`: whoever imports these programs keeps handlers of their own.
if sys.argv[:1] == ["-m"]:
    for _number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(_number) is not signal.SIG_IGN:  # as under nohup, or of a job in the background
            signal.signal(_number, _leave)

from ugclu_jax import extras  # noqa: E402 (a second and more, in which Ctrl-C may come)

try:
    extras.require("run")
except extras.MissingExtraError as error:
    sys.exit(f"Error: {error}")  # nothing here is imported but to be run: a program says what is wrong in one line
