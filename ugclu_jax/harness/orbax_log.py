"""What Orbax logs, in a file of the run: a failed save is pages long, and a terminal wants the sentence alone."""

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

from ugclu_jax import files


class _Log(logging.FileHandler):
    """Made when there is something to write; a link in its place is replaced, not followed."""

    def _open(self) -> io.TextIOWrapper:
        if os.path.islink(self.baseFilename):
            os.unlink(self.baseFilename)
        file = files.open_plain(Path(self.baseFilename), os.O_RDWR | os.O_CREAT)
        file.seek(0, os.SEEK_END)
        return io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace")

    def emit(self, record: logging.LogRecord) -> None:
        """As ever, but that it cannot be opened is no reason to fail."""
        with contextlib.suppress(OSError):
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Nothing: what cannot be written here is told by the error that it was about, on a full disk least of all."""


@contextlib.contextmanager
def logged(path: Path) -> Iterator[None]:
    """Keep what Orbax logs in a file, not on the terminal: a failed save is pages long.

    Args:
        path: of the file, which grows; it is made where there is something to log.
    """
    loggers = [logging.getLogger(name) for name in ("absl", "orbax", "asyncio")]
    before = [(logger.handlers[:], logger.propagate) for logger in loggers]
    log = _Log(path, delay=True)
    log.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for logger in loggers:
        logger.handlers[:], logger.propagate = [log], False
    try:
        with warnings.catch_warnings():
            # A coroutine of its own that it leaves where a checkpoint is damaged.
            warnings.filterwarnings("ignore", "coroutine 'Store", RuntimeWarning)
            yield
    finally:
        for logger, (handlers, propagate) in zip(loggers, before, strict=True):
            logger.handlers[:], logger.propagate = handlers, propagate
        with contextlib.suppress(OSError):  # as in `handleError`
            log.close()
