"""Programs that make data or weights of what a package ships: refused before anything is fetched."""

import argparse
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ugclu_jax.extras import MissingExtraError

T = TypeVar("T")
WIDTH = 80


def check_target(target: Path, suffix: str = "") -> Path:
    """Refuse a folder, or a file, that is there; and a file that nobody would read for the ending of its name.

    Args:
        target: what is to be made.
        suffix: that the name of a file must end in; none: it is a folder.

    Returns:
        The target.

    Raises:
        FileExistsError, ValueError: naming it.

    >>> check_target(Path("."))
    Traceback (most recent call last):
    ...
    FileExistsError: . is there already: delete it, or give another folder
    >>> check_target(Path("lite0.pth"), ".safetensors")
    Traceback (most recent call last):
    ...
    ValueError: target is lite0.pth: its name must end in .safetensors
    """
    if suffix and target.suffix != suffix:
        raise ValueError(f"target is {target}: its name must end in {suffix}")
    if target.exists():
        raise FileExistsError(f"{target} is there already: delete it, or give another {'name' if suffix else 'folder'}")
    return target


def parser(module: str, doc: str, target: str) -> argparse.ArgumentParser:
    """A command line with one argument, what is to be made.

    >>> str(parser("ugclu_jax.data.emoji", "Makes pictures.", "folder to make").parse_args(["a"]).target)
    'a'
    """
    paragraphs = doc.strip().split("\n\n")
    told = "\n\n".join(each if each.startswith(" ") else textwrap.fill(each, WIDTH) for each in paragraphs)
    raw = argparse.RawDescriptionHelpFormatter  # commands keep their lines
    found = argparse.ArgumentParser(prog=f"python -m {module}", description=told, formatter_class=raw)
    found.add_argument("target", type=Path, help=target)
    return found


def ended(check: Callable[[], T], work: Callable[[T], None]) -> int:
    """Check, and then work; say in a sentence what is wrong.

    Args:
        check: refuses what the user gave, before there is any work, or returns it.
        work: fetches and makes.

    Returns:
        The exit code: 2 for wrong use, 1 where the work failed.

    >>> ended(lambda: "a", lambda target: print("made", target))
    made a
    0
    """
    code = 2
    try:
        checked = check()
        code = 1
        work(checked)
    except (OSError, RuntimeError, ValueError, MissingExtraError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return code
    return 0
