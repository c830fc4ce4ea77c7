"""The report of a run, from what the run left on disk.

    python -m experiments.report RUN_DIR               write RUN_DIR/report.html again
    python -m experiments.report RUN_DIR --markdown    print the comparison table for a README

No training: a run that has not finished is reported as far as it got.
"""

import sys
from pathlib import Path
from typing import Annotated

import tyro


def main(run_dir: Annotated[Path, tyro.conf.arg(metavar="RUN_DIR")], /, markdown: bool = False) -> None:
    """Rebuild a run's HTML report, or print its comparison table.

    Args:
        run_dir: the run's folder.
        markdown: print the markdown table for a README instead of writing report.html.
    """
    # Seconds that `--help` need not wait for.
    from ugclu_jax.report.metrics import read_metrics
    from ugclu_jax.report.page import write_html
    from ugclu_jax.report.tables import request_markdown

    try:
        print(request_markdown(read_metrics(run_dir)) if markdown else write_html(run_dir))
    except (ValueError, OSError) as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    tyro.cli(main)
