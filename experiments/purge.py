"""Remove what still holds traces of the examples that a run has unlearned.

    python -m experiments.purge RUN_DIR --dry-run      list it
    python -m experiments.purge RUN_DIR                remove it, and read every array that is left to prove it

That is: the weights of checkpoints from before the last request to unlearn, the run's oracles, prepared data sets that
have the examples' inputs, and thumbnails that were kept for the report, which is written again without them. Source
files are the user's own affair. Outputs of models and oracles on the examples stay, as figures do: docs/limits.md says
where. The run resumes, and is reported, as before.
"""

import sys
from collections.abc import Sequence
from typing import Annotated

import tyro

from ugclu_jax.harness.config import path_of
from ugclu_jax.harness.terminal import consoles, ended, say


def run(arguments: Sequence[str]) -> int:
    """Command line; returns the exit code."""
    return ended(lambda: tyro.cli(main, args=list(arguments), prog="python -m experiments.purge"))


def main(run_dir: Annotated[str, tyro.conf.arg(metavar="RUN_DIR")], /, dry_run: bool = False) -> int:
    """List what still holds traces of the examples that a run has unlearned, and remove it.

    Args:
        run_dir: the run's folder.
        dry_run: list it only.
    """
    # Seconds that `--help` need not wait for.
    from ugclu_jax import checkpoints
    from ugclu_jax.harness import remains
    from ugclu_jax.harness.run_folder import RunFolder
    from ugclu_jax.report.page import write_html

    console, errors = consoles()
    try:
        folder = path_of(run_dir, "RUN_DIR")
        if not RunFolder(folder).config.is_file():
            raise ValueError(f"RUN_DIR is {run_dir!r}, where there is no run: it has no config.json")
        with RunFolder(folder).lock():
            found = remains.look(folder)
            assert found is not None
            listed = list(remains.remaining(found)) if dry_run else remains.purge(found)
            places = [] if dry_run else list(remains.left(found))
    except (ValueError, OSError) as error:
        say(errors, "Error:", str(error))
        return 2
    except checkpoints.CorruptCheckpointError as error:
        say(errors, "Error:", f"{error}; run its command again to mend it, then purge. Nothing was removed")
        return 1
    for each in listed:
        say(console, "", f"{'remains' if dry_run else 'removed'}  {each.size:>9}  {each.what:15}  {each.path}")
    examples = f"{len(found.forgotten.digests)} unlearned examples"
    if dry_run:
        say(console, "", f"{len(listed)} things hold traces of {examples}")
        return 0
    if any(each.path.name == remains.REPORT for each in listed):
        try:
            write_html(folder, remains.remains(folder))
        except (ValueError, OSError) as error:
            say(errors, "Error:", f"all of it was removed, but the report cannot be written again: {error}")
            return 1
    if places:
        say(errors, "Error:", f"the scan still finds one of {examples} in {', '.join(places)}: delete it by hand")
        return 1
    say(console, "", f"{len(listed)} things removed; the scan of every array that is left finds none of {examples}")
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
