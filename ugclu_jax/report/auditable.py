"""Whether a run is one that can be audited: finished, with requests to unlearn, and with its outputs."""

import json
from pathlib import Path
from typing import Any

from ugclu_jax import seals
from ugclu_jax.report import evidence, outputs
from ugclu_jax.report.metrics import Line, read_metrics


def read_config(run_dir: Path) -> dict[str, Any]:
    """The configuration of a run, as its folder has it.

    Raises:
        ValueError: it is missing or damaged.
    """
    path = run_dir / "config.json"
    if not path.is_file():
        raise ValueError(f"{str(path)!r} does not exist; a run's folder holds config.json beside metrics.jsonl")
    try:
        return dict(json.loads(seals.read(run_dir, path.name)))
    except (ValueError, TypeError, RecursionError, OSError) as error:
        raise ValueError(f"{str(path)!r} is not a configuration ({error})") from error


def auditable_lines(run_dir: Path) -> tuple[dict[str, Any], list[Line]]:
    """Configuration and lines of a finished run that unlearned something and kept its outputs.

    A seed that diverged, of a run that went on to its end without it, is no reason to refuse.

    Raises:
        ValueError: it is none; which of these it lacks, and what to do.
    """
    config, lines = read_config(run_dir), read_metrics(run_dir)
    if _unfinished(run_dir, config, lines):
        raise ValueError(f"run {str(run_dir)!r} has not finished; resume it with its command, then audit it")
    unlearning = [line for line in lines if line.kind == "unlearn"]
    if not unlearning:
        raise ValueError(f"run {str(run_dir)!r} has no request to unlearn: there is nothing to audit")
    for request in dict.fromkeys(line.request for line in unlearning):
        if not (run_dir / outputs.oracle_file(request)).is_file():
            raise ValueError(
                f"{str(run_dir / outputs.oracle_file(request))!r} does not exist: outputs were deleted, or the run is "
                "of an older version that kept none; run it again, in a new --run-dir"
            )
    return config, lines


def _unfinished(run_dir: Path, config: dict[str, Any], lines: list[Line]) -> bool:
    """Whether requests are still to be served; evidence is written at a run's end."""
    try:
        wanted = [(method, seed) for method in config["methods"] for seed in config["seeds"]]
        requests = len(json.loads(seals.read(run_dir, "stream.json")))
    except (ValueError, TypeError, KeyError, RecursionError, OSError) as error:
        raise ValueError(f"run {str(run_dir)!r} cannot be read ({error}); put the file back") from error
    there = {(line.method, line.seed, line.request) for line in lines}
    if all((*one, request) in there for one in wanted for request in range(requests)):
        return False
    reached = {request for _, _, request in there}
    return not (run_dir / evidence.FILE).is_file() or len(reached) < requests
