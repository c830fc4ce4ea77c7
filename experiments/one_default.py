"""Does one setting serve several kinds of work? Read from searches that drew the same points: no training.

    python -m experiments.one_default --method ug_clu_target --searches runs/search-a runs/search-b runs/search-c

With `--write FILE …` it also enters these settings files, beside what they hold. The points of a search depend on the
method alone, so trial 7 is the same setting in all of them. The setting with the smallest geometric mean of its
distances is the one default; below 0.005 a distance counts as that much, for energy distances are estimates and may be
negative. The quotient to the best of each search tells what one setting costs there. Chosen and judged on the seeds of
the searches: for other seeds compare it with the tuned ones by `experiments.compare`.
"""

import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import tyro
from rich import box
from rich.table import Table
from rich.text import Text

from ugclu_jax.files import write
from ugclu_jax.harness import trials
from ugclu_jax.harness.command_line import parse
from ugclu_jax.harness.settings_file import load_json
from ugclu_jax.harness.terminal import consoles, ended, say
from ugclu_jax.report.side_by_side import LEAST, geometric_mean
from ugclu_jax.report.visible import visible


@dataclass(frozen=True)
class OneDefaultOptions:
    """Find the setting whose distances have the smallest geometric mean."""

    method: Annotated[str, tyro.conf.arg(metavar="METHOD")]
    """A method that all searches had."""
    searches: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="RUN_DIR ...")]
    """Run folders of `experiments.search`."""
    write: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="SETTINGS_FILE [SETTINGS_FILE ...]")] = ()
    """Settings files that the setting is written into, beside what they hold."""


class Common(NamedTuple):
    """The one default."""

    trial: int
    point: dict[str, float]
    distances: list[float]  # of it, one a search
    best: list[float]  # distance of the best trial of each search
    settings: dict[str, Any]  # as a settings file has it

    @property
    def quotients(self) -> list[float]:
        """Distance over the best of each search, both of them at least `LEAST`."""
        pairs = zip(self.distances, self.best, strict=True)
        return [max(own, LEAST) / max(best, LEAST) for own, best in pairs]


def trials_of(folder: Path, method: str) -> list[dict[str, Any]]:
    """The trials of a method in the order of their numbers.

    Raises:
        ValueError: the search has none, or the folder no trials.
        OSError: they cannot be read, or are damaged.
    """
    if not trials.path_in(folder).is_file():
        raise ValueError(f"search {folder} has no {trials.FILE}; give the run folder of a search")
    found = trials.read(folder)
    own = [trial for (name, _), trial in sorted(found.items()) if name == method]
    if not own:
        there = ", ".join(dict.fromkeys(name for name, _ in found)) or "none at all"
        raise ValueError(f"search {folder} has no trial of {method}; it has {there}")
    return own


def common_default(searches: list[list[dict[str, Any]]]) -> Common:
    """The trial with the smallest geometric mean of its distances.

    Raises:
        ValueError: the searches drew other points, or every trial diverged somewhere.

    >>> search = lambda *found: [
    ...     {"trial": i, "point": {"x": i}, "distance": d, "settings": {}} for i, d in enumerate(found)
    ... ]
    >>> found = common_default([search(1.0, 1.2, 4.0), search(9.0, 3.6, 3.0)])
    >>> found.trial, [round(quotient, 3) for quotient in found.quotients]
    (1, [1.2, 1.2])
    """
    if not searches:
        raise ValueError("searches must be one or more folders of searches, got none")
    points = [[(entry["trial"], entry["point"]) for entry in search] for search in searches]
    if any(other != points[0] for other in points):
        raise ValueError("the searches drew different points; run them with the same --trials and --extras")
    best = [min(entry["distance"] for entry in search) for search in searches]
    table = [[search[i]["distance"] for search in searches] for i in range(len(points[0]))]
    means = [geometric_mean(row) for row in table]
    chosen = min(range(len(means)), key=means.__getitem__)
    if not math.isfinite(means[chosen]):
        raise ValueError("every trial diverged in one of the searches: no setting serves them all")
    trial, point = points[0][chosen]
    return Common(trial, point, table[chosen], best, searches[0][chosen]["settings"])


def run(arguments: list[str]) -> int:
    """Command line; returns the exit code."""
    return ended(lambda: _run(arguments))


def _run(arguments: list[str]) -> int:
    console, errors = consoles()
    try:
        (config,) = parse([OneDefaultOptions], arguments, "one_default", __doc__ or "").configurations
        found = common_default([trials_of(folder, config.method) for folder in config.searches])
        written = {path: trials.entered(load_json(path), found.settings) for path in config.write}
        for path, settings in written.items():
            write(path, json.dumps(settings, indent=2) + "\n")
    except BrokenPipeError:
        raise
    except (ValueError, OSError) as error:
        say(errors, "Error:", str(error))
        return 2
    title = Text(f"{visible(config.method)}: one default for {len(config.searches)} searches")
    table = Table(box=box.SIMPLE_HEAD, title=title)
    for column in ("search", "one default", "tuned", "quotient"):
        table.add_column(column, justify="left" if column == "search" else "right", no_wrap=True)
    rows = zip(config.searches, found.distances, found.best, found.quotients, strict=True)
    for folder, own, best, quotient in rows:
        table.add_row(Text(visible(folder.name)), f"{own:.3f}", f"{best:.3f}", f"{quotient:.2f}")
    console.print(table)
    values = ", ".join(f"{name} {value:.4g}" for name, value in found.point.items()) or "as given"
    say(console, "", f"Trial {found.trial}, geometric mean {geometric_mean(found.distances):.4f}: {values}")
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
