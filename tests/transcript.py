"""Pages that show a terminal: their files are written, their commands run, and what came out is laid beside the page.

Figures differ from machine to machine in the last digits, times altogether, and digests by the version of a library:
all these are compared as "#". `UPDATE=1
python tests/transcript.py PAGE [DATA]` writes what came out into the page.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

BLOCK = re.compile(r"```(\w+)\n(.*?)```\n", re.DOTALL)
DECIMAL = re.compile(r"\d*\.\d+|\d+(?= s here)|(?<=\|)\d+|\d+(?=\|)|[0-9a-f]{16,}")


class Command(NamedTuple):
    """What is typed, and what is to come out."""

    typed: str
    expected: str


def steps(page: str) -> list[tuple[str, str] | Command]:
    """Files (name, text) to write and commands to run, in the order of the page."""
    found: list[tuple[str, str] | Command] = []
    for kind, text in BLOCK.findall(page):
        first, _, rest = text.partition("\n")
        if match := re.fullmatch(r"(?:#|//) (\S+\.\w+)", first):
            found.append((match[1], rest))
        elif kind == "console":
            for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
                lines = part.split("\n")
                typed = [lines.pop(0)]
                while typed[-1].endswith("\\"):
                    typed.append(lines.pop(0))
                found.append(Command("\n".join(typed), "\n".join(lines).rstrip("\n")))
    return found


def run(page: str, folder: Path) -> list[tuple[Command, str]]:
    """Write the files and run the commands of a page in a folder; what each printed."""
    root = Path(__file__).parent.parent
    own = Path(tempfile.mkdtemp(prefix="ugclu-"))  # the checkout's `ugclu`, whatever is installed
    (own / "ugclu").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ugclu_jax.living "$@"\n')
    (own / "ugclu").chmod(0o755)
    path = os.pathsep.join((str(own), str(Path(sys.executable).parent), os.environ["PATH"]))
    environment = {**os.environ, "PYTHONPATH": str(root), "PATH": path, "HOME": str(folder), "COLUMNS": "80"}
    came = []
    for step in steps(page):
        if not isinstance(step, Command):
            (folder / step[0]).write_text(step[1])
            continue
        done = subprocess.run(
            ["bash", "-c", step.typed],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        came.append((step, done.stdout.rstrip("\n").replace(str(folder), "/home/you")))
    return came


def alike(text: str) -> list[str]:
    """Lines in which decimals and digests are "#", for a comparison."""
    lines = [line for line in text.splitlines() if not line.startswith("Seconds:")]
    return [re.sub(r" {2,}", "  ", DECIMAL.sub("#", line)) for line in lines]


def updated(page: str, came: list[tuple[Command, str]]) -> str:
    """The page with what came out in the place of what was expected."""
    done, rest = "", page
    for command, output in came:
        before = f"$ {command.typed}\n" + (f"{command.expected}\n" if command.expected else "")
        head, _, rest = rest.partition(before)
        done += f"{head}$ {command.typed}\n" + (f"{output}\n" if output else "")
    return done + rest


if __name__ == "__main__":
    place = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as made:
        for data in sys.argv[2:]:  # a folder that the page's commands read as `data`
            Path(made, "data").symlink_to(Path(data).absolute())
        content = updated(place.read_text(), run(place.read_text(), Path(made)))
    if os.environ.get("UPDATE"):
        place.write_text(content)
    else:
        print(content)
