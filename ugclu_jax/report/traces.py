"""The losses within each request, from the traces that a run left."""

import io
import math
import re
import zipfile
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ugclu_jax import seals
from ugclu_jax.report.marks import mark_of
from ugclu_jax.report.summaries import RequestSummary
from ugclu_jax.report.svg import MUTED, STYLE, as_svg, log_scale

TASK, REMAIN = mark_of(0), mark_of(1)
TRACE_POINTS = 60  # a trace is averaged down to this many points before it is drawn


def _binned(losses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average a trace over blocks of steps, down to `TRACE_POINTS` points at most: (middle steps, means)."""
    blocks = np.array_split(np.arange(losses.size), min(TRACE_POINTS, losses.size))
    return np.array([block.mean() for block in blocks]), np.array([losses[block].mean() for block in blocks])


def _read_trace(run_dir: Path, name: str) -> dict[str, np.ndarray]:
    path = run_dir / name
    if not path.is_file():
        return {}
    try:
        with np.load(io.BytesIO(seals.read(run_dir, name)), allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{str(path)!r} is not a readable trace ({error}); delete it to report without it") from error


def missing_traces(run_dir: Path, own: list[RequestSummary]) -> list[str]:
    """Sentences on the traces of a method that are not in the run's folder, one a request."""
    found = []
    for summary in own:
        gone = [seed for seed in summary.seeds if not (run_dir / _name(summary, seed)).is_file()]
        if gone:
            seeds = ", ".join(map(str, gone))
            found.append(f"No trace of request {summary.request + 1}, seed {seeds}: {_name(summary, gone[0])} is gone.")
    return found


def _name(summary: RequestSummary, seed: int) -> str:
    return f"runs/{summary.method}/seed-{seed}/traces/{summary.request}.npz"


@matplotlib.rc_context(STYLE)
def trace_figure(run_dir: Path, own: list[RequestSummary]) -> Markup | None:
    """Draw the losses of a method, a panel a request and a line a seed.

    Args:
        run_dir: the run's folder.
        own: the method's requests.

    Returns:
        The figure; None where no trace was left.

    Raises:
        ValueError: a trace is damaged.
    """
    method = own[0].method
    columns = min(7, len(own))
    rows = math.ceil(len(own) / columns)
    figure = Figure(figsize=(11.0, 0.5 + 1.75 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    lowest = math.inf
    for axes, summary in zip(panels, own, strict=False):
        axes.set_title(f"{summary.request + 1} {summary.name}", fontsize=8)
        clipped = []
        for seed in summary.seeds:
            trace = _read_trace(run_dir, _name(summary, seed))
            remain = trace.get("remain_losses", np.zeros((0, 0)))
            remain = remain.mean(axis=1) if remain.ndim == 2 and remain.size else np.zeros(0)
            for losses, mark in ((trace.get("task_losses", np.zeros(0)), TASK), (remain, REMAIN)):
                if losses.size:
                    step, mean = _binned(losses)
                    mean = np.where(np.isfinite(mean), mean, np.nan)
                    lowest = min(lowest, np.nanmin(mean, initial=math.inf))
                    style = {"color": mark.colour, "linestyle": mark.dashes, "marker": "." if step.size == 1 else ""}
                    axes.plot(step, mean, linewidth=1.0, alpha=0.75, **style)
            clipped += list(trace.get("clipped", ()))
        if not axes.lines:
            axes.text(0.5, 0.5, "no trace", color=MUTED, ha="center", transform=axes.transAxes)
        if summary.kind == "unlearn":
            axes.patch.set(facecolor=MUTED, alpha=0.16)
        axes.set_xlabel(
            f"outer step (clipped {100 * np.mean(clipped):.0f} %)" if clipped else "outer step", fontsize=7.5
        )
    for axes in panels[len(own) :]:
        axes.set_axis_off()
    if not any(axes.lines for axes in panels):
        return None
    if 0 < lowest < math.inf:
        for axes in panels[: len(own)]:
            log_scale(axes)
    for axes in panels[::columns]:
        axes.set_ylabel("loss (nats)")
    entries = (
        (TASK, "task loss (what is learned or unlearned)"),
        (REMAIN, "remain loss (buffer), mean over inner steps"),
    )
    styles: list[dict[str, Any]] = [{"color": m.colour, "linestyle": m.dashes, "label": label} for m, label in entries]
    figure.legend(
        handles=[Line2D([], [], **style) for style in styles], loc="outside upper left", ncols=2, frameon=False
    )
    return as_svg(figure, f"traces-{re.sub(r'[^A-Za-z0-9_-]', '-', method)}")
