"""Bars on a terminal, and elsewhere a plain line for each request, as it happens."""

import io

import numpy as np
from rich.console import Console

from ugclu_jax.descent import Report
from ugclu_jax.fast_slow import FastSlowStep
from ugclu_jax.harness.progress import Progress
from ugclu_jax.ugclu_step import StepInfo


def drive(console: Console) -> str:
    """One request of UG-CLU, one of fine-tuning, and a wait."""
    progress = Progress(console)
    with progress:
        with progress.request("ug_clu seed 0  1/3 [/learn]"):  # a name that looks like markup
            progress.on_step(np.array(7), 20, StepInfo(np.array(1.25), None))
            progress._bars.refresh()
        with progress.request("without a fast step"):
            update = FastSlowStep((), (), np.array([0.5, 1.0]), *[np.array(0.0)] * 3)
            progress.on_step(np.array(1), 4, StepInfo(None, update))
            progress._bars.refresh()
        with progress.request("finetune"):
            progress.on_step(np.array(3), 5, (Report(remain_loss=np.array(0.5)), np.array(9.0)))
            progress._bars.refresh()
        with progress.request("ssd"):  # which takes no loss
            progress.on_step(np.array(2), 9, (Report(),))
            progress._bars.refresh()
        with progress.waiting("oracles after request 1"):
            progress._bars.refresh()
        progress.on_step(
            np.array(1), 2, (Report(task_loss=np.array(0.0)), None)
        )  # a late call finds no bar, and that is no error
    return console.file.getvalue()


def test_a_terminal_shows_how_far_the_request_is_and_its_loss():
    shown = drive(Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None))
    for text in (
        "[/learn]",
        "7/20",
        "loss 1.250",
        "20/20",
        "1/4",
        "loss 0.750",
        "3/5",
        "loss 0.500",
        "5/5",
        "2/9",
        "9/9",
        "oracles after request 1",
    ):
        assert text in shown, text


MEASURED = {
    "method": "ug_clu",
    "seed": 3,
    "request": 1,
    "kind": "unlearn",
    "name": "user [red]7[/]\x1b[2J",  # what looks like markup, and what would clear the screen
    "before": {"UA": 0.75},
    "model": {"LA": 0.5, "UA": 0.25, "KL": {"test": 2.0}},
    "oracle": {"LA": 1.0, "UA": 0.125},
    "noise_floor": {"KL": {"test": 0.5}},
    "timing": {"RTE": 1.25},
}


def test_a_pipe_gets_no_byte_of_a_bar():
    assert drive(Console(file=io.StringIO(), force_terminal=False)) == ""


def test_a_pipe_gets_a_plain_line_for_each_request_at_once():
    flushed = []

    class Pipe(io.StringIO):
        def flush(self):
            flushed.append(self.getvalue())

    progress = Progress(Console(file=Pipe(), force_terminal=False, width=40))
    with progress, progress.request("anything"):
        progress.measured(MEASURED, requests=7)
        assert flushed[-1] == (
            "ug_clu  seed 3  request 2/7  unlearn user [red]7[/]\\x1b[2J  LA .500|1.00  UA .750→.250|.125  "
            "KL test 2.00|.500  1.25 s\n"
        )


def test_a_terminal_gets_no_line_beside_its_bar():
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    Progress(console).measured(MEASURED, requests=7)
    assert console.file.getvalue() == ""


def test_the_bar_of_a_request_that_fails_is_closed():
    progress = Progress(Console(file=io.StringIO(), force_terminal=True, width=100))
    with progress:
        for _ in range(2):
            try:
                with progress.request("fails"):
                    raise KeyboardInterrupt
            except KeyboardInterrupt:
                pass
    assert all(bar.finished for bar in progress._bars.tasks)
