"""The report of a run, from what the run left on disk.

    python -m experiments.report RUN_DIR               write RUN_DIR/report.html again
    python -m experiments.report RUN_DIR --markdown    print the comparison table for a README
    python -m experiments.report RUN_DIR --no-show-unlearned   without pictures or texts of unlearned examples

No training: a run that has not finished is reported as far as it got.
"""

import sys
from collections.abc import Sequence
from typing import Annotated

import tyro

from ugclu_jax.harness.config import path_of
from ugclu_jax.harness.terminal import consoles, ended, say


def run(arguments: Sequence[str]) -> int:
    """Command line; returns the exit code."""
    return ended(lambda: tyro.cli(main, args=list(arguments), prog="python -m experiments.report"))


def main(
    run_dir: Annotated[str, tyro.conf.arg(metavar="RUN_DIR")], /, markdown: bool = False, show_unlearned: bool = True
) -> int:
    """Rebuild a run's HTML report, or print its comparison table.

    Args:
        run_dir: the run's folder.
        markdown: print the markdown table for a README instead of writing report.html.
        show_unlearned: show the unlearned examples that the run kept for its report.
    """
    # Seconds that `--help` need not wait for.
    from ugclu_jax.harness.remains import remains
    from ugclu_jax.report.metrics import read_metrics
    from ugclu_jax.report.page import write_html
    from ugclu_jax.report.tables import request_markdown

    console, errors = consoles()
    try:
        folder = path_of(run_dir, "RUN_DIR")
        if markdown:
            text = request_markdown(read_metrics(folder))
        else:
            text = str(write_html(folder, remains(folder), show_unlearned=show_unlearned))
    except (ValueError, OSError) as error:
        say(errors, "Error:", str(error))
        return 2
    say(console, "", text)
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
