"""The streams of a program: what they are printed to, in whatever encoding a terminal has, and how they close."""

import codecs
import contextlib
import os
import sys
from collections.abc import Callable
from typing import TextIO

from rich.console import Console
from rich.markup import escape

from ugclu_jax.report.visible import visible_lines

_SPELLED = {
    "…": "...", "·": "-", "–": "-", "—": "-", "→": "->", "×": "x", "±": "+-", "≥": ">=", "≤": "<=", "∞": "inf",
    "‖": "||", "╭": "+", "╮": "+", "╰": "+", "╯": "+", "─": "-", "━": "-", "│": "|", "┃": "|", "α": "alpha",
    "β": "beta", "γ": "gamma", "δ": "delta", "λ": "lambda", "τ": "tau", "θ": "theta", "ᵢ": "i",
}  # fmt: skip
"""Our own signs in ASCII; any other character becomes its number, as `\\u732b`."""


def _spell(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)  # it is registered for streams that are written
    wanted = error.object[error.start : error.end]
    return "".join(_SPELLED.get(c) or c.encode("ascii", "backslashreplace").decode() for c in wanted), error.end


codecs.register_error("ugclu_jax.spelled", _spell)


def forgiving(stream: TextIO | None) -> None:
    """Let a stream spell what its encoding has no sign for, instead of ending the program.

    >>> import io
    >>> ascii = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    >>> forgiving(ascii)
    >>> _ = ascii.write("β → 猫"), ascii.flush()
    >>> ascii.buffer.getvalue()
    b'beta -> \\\\u732b'
    """
    # What stands in for a stream under a test or in a notebook takes every character.
    reconfigure: Callable[..., None] | None = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="ugclu_jax.spelled")


def consoles() -> tuple[Console, Console]:
    """Of output and of errors."""
    forgiving(sys.stdout)
    forgiving(sys.stderr)
    return Console(), Console(stderr=True)


def say(console: Console, title: str, message: str, style: str = "red") -> None:
    """Print one message, whatever it quotes: no markup, no control character, no line torn.

    >>> say(Console(), "Error:", "no folder [b]\\x1b[2J")
    Error: no folder [b]\\x1b[2J
    """
    start = f"[{style}]{escape(title)}[/] " if title else ""
    console.print(start + escape(visible_lines(message)), highlight=False, soft_wrap=True)


def ended(work: Callable[[], int]) -> int:
    """Run a program, and close what it printed to: a reader that left, as `head` does, is no error.

    Returns:
        The exit code of the work; 141 where nobody reads any more, 1 where the output cannot be written.
    """
    if sys.stdout is None:  # closed by whoever started the program: its number must not go to a file of the run
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (as long as the process)
    code = 0
    try:
        try:
            code = work()
        except SystemExit as stop:  # of tyro, after a help or a message
            if stop.code is not None and not isinstance(stop.code, int):
                raise
            code = stop.code or 0
        sys.stdout.flush()
    except BrokenPipeError:
        _to_nowhere()
        return 141  # as a process that SIGPIPE ends
    except OSError as error:  # of the stream: the work names its own
        _to_nowhere()
        say(Console(stderr=True), "Error:", f"the output cannot be written ({error.strerror}); give it another place")
        return 1
    return code


def _to_nowhere() -> None:
    """Or the interpreter would try once more at its end, and complain."""
    with contextlib.suppress(OSError, ValueError), open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
