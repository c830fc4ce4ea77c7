"""Audit a finished run, from what it left on disk: is what was unlearned still to be told from its models?

    python -m experiments.privacy_audit RUN_DIR

For every method and unlearn request: distances between models and oracles (E, KLoM), attacks on single examples (RMIA,
U-LiRA) before, after, and on an oracle held out, forgetting quality, a test relative to the models before, gaps; over
the stream erosion, reversal and plasticity. What the models do not suffice for is said, with the number it would
need. The run's folder gets audit.md, audit.json and audit.png. No training. It is evidence, not proof.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from ugclu_jax.harness.config import path_of
from ugclu_jax.harness.terminal import consoles, ended, say


def run(arguments: Sequence[str]) -> int:
    """Command line; returns the exit code."""
    return ended(lambda: tyro.cli(main, args=list(arguments), prog="python -m experiments.privacy_audit"))


def main(run_dir: Annotated[str, tyro.conf.arg(metavar="RUN_DIR")], /) -> int:
    """Audit a finished run: distances, attacks and tests of every method at every unlearn request.

    Args:
        run_dir: the run's folder.
    """
    console, errors = consoles()
    try:
        audit(path_of(run_dir, "RUN_DIR"), console)
    except (ValueError, OSError) as error:
        say(errors, "Error:", str(error))
        return 2
    return 0


def audit(folder: Path, console: Console) -> None:
    """Print the audit of a run, and write it into its folder.

    Raises:
        ValueError, OSError: it is no finished run, or a file of it is damaged or gone.
    """
    # Seconds that `--help` need not wait for.
    from ugclu_jax import files, seals
    from ugclu_jax.harness.catalogue import split_name
    from ugclu_jax.report import audit, audit_tables, ending
    from ugclu_jax.report.attack_figures import Panel, roc_picture
    from ugclu_jax.report.auditable import auditable_lines
    from ugclu_jax.report.ranking import reservations
    from ugclu_jax.report.stream_audit import over_the_stream
    from ugclu_jax.report.summaries import methods_of

    config, lines = auditable_lines(folder)
    parts = {method: split_name(method) for method in methods_of(lines)}
    found = audit.gather(folder, lines, {method: learner for method, (learner, _) in parts.items()})
    streams = over_the_stream(folder, lines, parts)
    notes = reservations(config, parts)
    console.print(audit_tables.audit_table(found), soft_wrap=True)
    ending.space(console)
    console.print(audit_tables.stream_table(streams), soft_wrap=True)
    ending.space(console)
    for sentence in (*audit_tables.READING, *notes):
        ending.say(console, sentence, "yellow")
    for sentence in audit_tables.undefined(found, streams):
        ending.say(console, f"Not computed: {sentence}", "yellow")
    files.write(folder / "audit.md", audit_tables.markdown(found, streams, notes))
    seals.write(folder, "audit.json", audit_tables.as_json(found, streams, notes).encode())
    roc_picture(
        [Panel(f"{each.method}, request {each.request + 1}", each.curves) for each in found], folder / "audit.png"
    )
    ending.say(console, f"Audit: {folder / 'audit.md'}")


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
