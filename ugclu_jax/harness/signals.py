"""Ctrl-C and SIGTERM: heard at once, obeyed between two requests; sent again, they end the process on the spot.

Python runs a handler between two of its own instructions, and a request is one call into XLA, minutes long. So a thread
listens: the interpreter's C handler writes the number of each signal into a socket, whatever the main thread is at.
"""

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
PATIENCE_SECONDS = 2.0
"""How long the last message may take to print, where nobody reads the terminal."""


class Stopped(Exception):
    """The process was asked to end, by a signal."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@dataclass
class Stop:
    """Whether a signal has asked for the end. A signal that raised by itself would do so in the middle of a save."""

    number: int | None = None
    in_hand: str = "what is in hand"
    """What is finished before the end: of the message."""
    processes: list["subprocess.Popen[bytes]"] = field(default_factory=list)
    """That work for this one: an end at once is theirs, too. Alone they would go on, and hold their folders."""

    def check(self, before: str = "what is in hand") -> None:
        """Between two pieces of work, the next of which is named.

        Raises:
            Stopped: a signal has come.

        >>> stop = Stop()
        >>> stop.check("request 1 of 7")
        >>> stop.in_hand
        'request 1 of 7'
        """
        if self.number is not None:
            raise Stopped(self.number)
        self.in_hand = before


@contextmanager
def stoppable(say: Callable[[str], None], last_words: Callable[[int], str]) -> Iterator[Stop]:
    """SIGTERM and Ctrl-C wait here for the request and the save in hand; sent again, they end the process at once.

    A checkpoint and every file of a run is whole or not there at any moment, so an end at once loses no more than a
    kill does: what is not yet saved.

    Args:
        say: prints a message, from another thread.
        last_words: of the second signal, by its number.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def hear(number: int) -> None:
        if stop.number is None:
            stop.number = number
            say(f"finishing {stop.in_hand}; {NAMES[signal.Signals(number)]} again stops now")
            return
        for process in list(stop.processes):
            process.kill()
        killing = threading.Timer(PATIENCE_SECONDS, os._exit, [128 + number])
        killing.daemon = True
        killing.start()
        say(last_words(number))
        os._exit(128 + number)

    def listen(ear: socket.socket) -> None:
        while heard := ear.recv(1):
            if heard[0] in NAMES:
                hear(heard[0])

    def nothing(number: int, frame: FrameType | None) -> None:
        """The thread does it all; but a signal without a handler would not be heard."""

    mouth, ear = socket.socketpair()
    mouth.setblocking(False)
    listener = threading.Thread(target=listen, args=[ear], name="signals", daemon=True)
    listener.start()
    before = {number: signal.signal(number, nothing) for number in NAMES}
    other = signal.set_wakeup_fd(mouth.fileno(), warn_on_full_buffer=False)
    try:
        yield stop
    finally:
        signal.set_wakeup_fd(other)
        for number, handler in before.items():
            signal.signal(number, handler)
        mouth.close()
        listener.join()
        ear.close()
