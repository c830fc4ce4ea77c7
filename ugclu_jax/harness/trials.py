"""The trials of a search on disk, and how what is found enters a settings file."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ugclu_jax import files
from ugclu_jax.harness.budget import given_for
from ugclu_jax.harness.catalogue import PLAIN
from ugclu_jax.harness.config import merge, shown
from ugclu_jax.types import REQUEST_KINDS

FILE = "trials.jsonl"
Trial = dict[str, Any]
"""One scored point: method, trial (its number), point, distance and settings at least."""


def path_in(folder: Path) -> Path:
    """Of the trials of a search."""
    return folder / FILE


def read(folder: Path) -> dict[tuple[str, int], Trial]:
    """The trials that a search has scored so far, by method and number; none where it has not scored any.

    Raises:
        DamagedFileError: a line of their file is no trial, with the number of the line.
        OSError: it cannot be read.
    """
    path, found = path_in(folder), {}
    if not path.exists():
        return {}
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        try:
            entry = json.loads(line)
            # What is compared and divided: anything else in the place of a number ends here.
            numbers = {"trial": int(entry["trial"]), "distance": float(entry["distance"])}
            point = {str(name): float(value) for name, value in dict(entry["point"]).items()}
            trial = {**entry, **numbers, "point": point, "settings": dict(entry["settings"])}
            found[str(entry["method"]), trial["trial"]] = trial
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            told = f"{path} line {number} is {shown(line)}, which is no trial; delete the line to score it anew"
            raise files.DamagedFileError(told) from error
    return found


def write(folder: Path, trials: Iterable[Trial]) -> None:
    """Keep the trials, all of them or none."""
    files.write(path_in(folder), "".join(json.dumps(trial) + "\n" for trial in trials))


def entered(settings: dict[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a file with what was found in them.

    >>> both, one = {"references": {"ug_clu_plain": {"hyper": {"clip_norm": 1.0}}}}, {"unlearn": {"hyper": {}}}
    >>> entered(both, {"references": {"ug_clu_plain": one}})["references"]["ug_clu_plain"]
    {'learn': {'hyper': {'clip_norm': 1.0}}, 'unlearn': {'hyper': {'clip_norm': 1.0}}}
    """
    if PLAIN in found.get("references", {}) and PLAIN in settings.get("references", {}):
        apart = {kind: given_for(settings["references"], PLAIN, kind) for kind in REQUEST_KINDS}
        settings = settings | {"references": settings["references"] | {PLAIN: apart}}
    return merge(settings, dict(found))
