"""docs/benchmarks.md: one section a benchmark between two markers; a benchmark run again replaces its own alone."""

import argparse
import datetime
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.process import ROOT, cores_here

DOCUMENT = ROOT / "docs" / "benchmarks.md"
HEADER = """# Benchmarks

Made by `make bench`, each section by the command in it. Times are medians, with the lowest and highest of the repeats
in brackets; what a table compares was measured in turns in one process. Compilation is never part of a time unless it
is named.
"""
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "torch")


class Table(NamedTuple):
    """Rows of one question."""

    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    note: str = ""

    def markdown(self) -> str:
        """The table with its title above and its note below.

        Raises:
            ValueError: a row of another length than the header.
        """
        for row in self.rows:
            if len(row) != len(self.header):
                raise ValueError(f"row {row} has {len(row)} cells; it must have {len(self.header)}, as {self.header}")
        lines = [self.header, ("---",) * len(self.header), *self.rows]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return f"**{self.title}**\n\n{table}\n" + (f"\n{self.note}\n" if self.note else "")


class Section(NamedTuple):
    """What a benchmark found."""

    tables: list[Table]
    figures: dict[str, bytes] = {}  # noqa: RUF012, never written to; file name -> PNG


def measured() -> str:
    """Today's date and the commit of the code, with a word where that was changed since."""

    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)

    if shutil.which("git") is None or (commit := git("rev-parse", "--short=7", "HEAD")).returncode:
        return f"Measured {datetime.date.today()}, commit unknown"
    changed = " with changes" if git("diff", "--quiet", "HEAD", "--", "*.py").returncode else ""
    return f"Measured {datetime.date.today()}, commit `{commit.stdout.strip()}`{changed}"


def machine() -> str:
    """Processor, cores, memory, load, versions."""
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    processor = found.group(1) if found else platform.processor() or platform.machine()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = ", ".join(f"{name} {version}" for name in PACKAGES if (version := _version(name)))
    return (
        f"{processor}, {cores_here()} cores, {memory:.0f} GiB; load at the start {os.getloadavg()[0]:.2f}; "
        f"Python {platform.python_version()}, {versions}."
    )


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def section_text(name: str, question: str, where: str, seconds: float, section: Section) -> str:
    """The section as markdown, markers included; `where` names commit, machine and versions."""
    pictures = "".join(f"\n![{file}]({file})\n" for file in section.figures)
    tables = "\n".join(table.markdown() for table in section.tables)
    command = f"`python -m benchmarks.{name}`, {seconds:.0f} seconds. {where}"
    return marked(name, f"## {name}\n\n{question}\n\n{command}\n\n{tables}{pictures}")


def marked(name: str, text: str) -> str:
    """Text between the two markers by which `write` finds it."""
    return f"{_begin(name)}\n{text}{_end(name)}\n"


def write(name: str, text: str, figures: dict[str, bytes], document: Path) -> None:
    """Put a section into the document in place of the one of that name, or at the end, and its figures beside it.

    Raises:
        ValueError: the document has one of the section's two markers only.
    """
    document.parent.mkdir(parents=True, exist_ok=True)
    for file, content in figures.items():
        (document.parent / file).write_bytes(content)
    old = document.read_text() if document.exists() else HEADER
    begin, end = _begin(name), _end(name)
    if (begin in old) != (end in old):
        raise ValueError(f"{document} has one of the markers {begin} and {end} only: restore the other or delete both")
    if begin in old:
        before, rest = old.split(begin)
        new = before + text + rest.split(end)[1].removeprefix("\n")
    else:
        new = f"{old}\n{text}"
    document.write_text(new)


def _begin(name: str) -> str:
    return f"<!-- begin {name} -->"


def _end(name: str) -> str:
    return f"<!-- end {name} -->"


def main(name: str, docstring: str, run: Callable[[bool], Section], arguments: Sequence[str] | None = None) -> None:
    """Command line of a benchmark: run it, print its section, and write it to the document unless at smoke size."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=docstring)
    parser.add_argument("--smoke", action="store_true", help="smallest size, printed and not written")
    smoke = parser.parse_args(arguments).smoke
    where, start = f"{measured()}. {machine()}", time.perf_counter()
    section = run(smoke)
    text = section_text(name, docstring.strip(), where, time.perf_counter() - start, section)
    print(text)
    if not smoke:
        write(name, text, section.figures, DOCUMENT)
