"""The report of a run, from what the run left on disk; or several runs side by side.

    python -m experiments.report RUN_DIR               write RUN_DIR/report.html again
    python -m experiments.report RUN_DIR --markdown    print the comparison table for a README
    python -m experiments.report RUN_DIR --no-show-unlearned   without pictures or texts of unlearned examples
    python -m experiments.report RUN_DIR RUN_DIR … --out table.md table.csv table.tex   methods across runs

No training: a run that has not finished is reported as far as it got.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from ugclu_jax.files import write
from ugclu_jax.harness.config import path_of
from ugclu_jax.harness.terminal import consoles, ended, say
from ugclu_jax.report.side_by_side import FORMATS, By, as_markdown, difference_sentences, side_by_side, table


def run(arguments: Sequence[str]) -> int:
    """Command line; returns the exit code."""
    return ended(lambda: tyro.cli(main, args=list(arguments), prog="python -m experiments.report"))


def main(
    run_dirs: Annotated[tuple[str, ...], tyro.conf.arg(metavar="RUN_DIR ...")],
    /,
    markdown: bool = False,
    show_unlearned: bool = True,
    by: By = "matched",
    out: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILE ...")] = (),
) -> int:
    """Rebuild a run's HTML report, or print its comparison table; or put the methods of several runs side by side.

    Args:
        run_dirs: the folder of a run, or of several.
        markdown: print the markdown table for a README instead: of the run's requests, or of the runs.
        show_unlearned: show the unlearned examples that the run kept for its report.
        by: the distance that several runs are compared by.
        out: also write the table of several runs, as .md, .csv or .tex.
    """
    # Seconds that `--help` need not wait for.
    from ugclu_jax.harness.remains import remains
    from ugclu_jax.report.metrics import read_metrics
    from ugclu_jax.report.page import write_html
    from ugclu_jax.report.tables import request_markdown

    console, errors = consoles()
    try:
        folders = [path_of(run_dir, "RUN_DIR") for run_dir in run_dirs]
        if len(folders) != 1:
            return _several(console, folders, by, out, markdown)
        if out:
            raise ValueError("--out is for several runs; give more than one RUN_DIR, or leave it out")
        (folder,) = folders
        if markdown:
            text = request_markdown(read_metrics(folder))
        else:
            text = str(write_html(folder, remains(folder), show_unlearned=show_unlearned))
    except (ValueError, OSError) as error:
        say(errors, "Error:", str(error))
        return 2
    say(console, "", text)
    return 0


def _several(console: Console, folders: Sequence[Path], by: By, out: Sequence[Path], markdown: bool) -> int:
    """Print the table of several runs, and write it.

    Raises:
        ValueError: there is no folder, no run in one, or a file of another ending than the tables have.
    """
    if not folders:
        raise ValueError("RUN_DIR is missing: give the folder of a run, or of several")
    for path in out:
        if path.suffix not in FORMATS:
            raise ValueError(f"--out is {str(path)!r}: it must end in {', '.join(FORMATS)}")
    runs = side_by_side(folders, by)
    if markdown:
        say(console, "", as_markdown(runs))
    else:
        say(console, "", runs.title)
        console.print(table(runs), soft_wrap=True)
        for sentence in difference_sentences(runs):
            say(console, "differs:", sentence, "yellow")
    for path in out:
        write(path, FORMATS[path.suffix](runs))
        say(console, "", str(path))
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
