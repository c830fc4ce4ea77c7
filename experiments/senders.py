"""Forget some senders of mails one after another, audit each, and attack each against senders never seen.

    python -m experiments.senders --settings FILE --run-dir DIR

What `experiments.people` runs. The settings are those of `experiments.compare`, with a further entry `senders`: how
many are forgotten, those with the most mails among what is learned, first. The run folder gets audit.md, audit.json and
audit.png, and people.json: the area of the attack by sender. Data without senders, such as digits, are shared out among
as many made-up ones. Nothing says who a sender is: they are numbered.
"""

import functools
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from ugclu_jax import seals
from ugclu_jax.data.dataset import Dataset
from ugclu_jax.files import write
from ugclu_jax.harness.config import from_dict, path_of
from ugclu_jax.harness.plan import load_dataset
from ugclu_jax.harness.run_folder import RunFolder
from ugclu_jax.harness.scenarios import SCENARIOS
from ugclu_jax.harness.settings_file import load_json
from ugclu_jax.harness.terminal import consoles, ended, say
from ugclu_jax.report import outputs
from ugclu_jax.report.metrics import read_metrics
from ugclu_jax.report.summaries import methods_of

from . import compare, privacy_audit

FILE = "people.json"
MADE_UP = 3
"""Examples of a sender where the data know none."""
_SPLITS = ("train.jsonl", "test.jsonl")


def senders_of(dataset: Dataset, folder: Path | None) -> tuple[list[str | None], list[str | None]]:
    """Who sent each training and each test example; None is unknown.

    Args:
        dataset: whose examples they are.
        folder: of a set of mails, see `ugclu_jax.data.mails`; None = every three training examples have one sender.

    Raises:
        OSError: it has no such files.
    """
    if folder is None:
        training: list[str | None] = [str(row // MADE_UP) for row in range(len(dataset.train_keys))]
        return training, [f"test {row}" for row in range(len(dataset.test_keys))]
    known: dict[str, str | None] = {}
    for name in _SPLITS:
        with (folder / name).open(encoding="utf-8") as lines:
            known |= {entry["id"]: entry["sender"] for entry in map(json.loads, lines)}
    return [known[key] for key in dataset.train_keys.tolist()], [known[key] for key in dataset.test_keys.tolist()]


def most(senders: Sequence[str | None], number: int) -> list[str]:
    """Those with the most examples, the first one with the most; equal ones in the order of their names.

    >>> most(["b", "a", None, "a", "c", "c"], 2)
    ['a', 'c']
    """
    counts = Counter(sender for sender in senders if sender is not None)
    return sorted(counts, key=lambda sender: (-counts[sender], sender))[:number]


def stream(dataset: Dataset, chosen: Sequence[str], training: Sequence[str | None], test: Sequence[str | None]) -> str:
    """Learn everything, then forget the senders, each in a request of its own; as JSON."""
    requests: list[dict[str, Any]] = [{"learn": {"classes": list(dataset.class_names)}, "name": "all"}]
    for number, sender in enumerate(chosen, start=1):
        keys = [key for key, own in zip(dataset.train_keys.tolist(), training, strict=True) if own == sender]
        keys += [key for key, own in zip(dataset.test_keys.tolist(), test, strict=True) if own == sender]
        ids = [int(key.split("/")[1]) for key in keys] if dataset.keys_are == "position" else keys
        requests.append({"unlearn": {"ids": ids}, "name": f"sender {number}"})
    return json.dumps(requests) + "\n"


def area(logits: np.ndarray, labels: np.ndarray, other_logits: np.ndarray, other_labels: np.ndarray) -> float:
    """Area under the curve of an attack by margin: a sender's mails against mails of senders never seen.

    Args:
        logits: [N, C] of one network on the sender's mails.
        labels: [N], their folders.
        other_logits: [K, C] of it on mails of senders never seen.
        other_labels: [K]; only mails of folders that the sender's are in are compared.

    Returns:
        1/2 where the sender's mails look like those of strangers; NaN where there are none of the same folders.

    >>> one, first, second = np.array([[3.0, 0.0], [4.0, 0.0]]), np.array([0, 0]), np.array([1, 1])
    >>> area(one, first, one - [2.0, 0.0], first), area(one, first, one, second)
    (1.0, nan)
    """
    from ugclu_jax.evidence import margins, roc  # scipy, which `--help` need not wait for

    same = np.isin(other_labels, labels)
    if not same.any():
        return float("nan")
    return roc(margins(logits, labels), margins(other_logits[same], other_labels[same])).auc


def attacked(run_dir: Path, dataset: Dataset, chosen: Sequence[str], who: Sequence[Sequence[str | None]]) -> Any:
    """The areas of every sender: of the models before and after the request that forgets them, and of the oracles.

    Args:
        run_dir: of the finished run.
        dataset: that it learned.
        chosen: whom it forgot, in order.
        who: senders of the training and of the test split.

    Returns:
        By method, a list with one entry a sender: "before", "after" and "oracles", one area a network each.

    Raises:
        ValueError, OSError: outputs are damaged or gone.
    """
    lines, learned = read_metrics(run_dir), set(who[0])
    stranger = np.array([sender is not None and sender not in learned for sender in who[1]])
    found: dict[str, list[dict[str, list[float]]]] = {}
    for method in methods_of(lines):
        for request, sender in enumerate(chosen, start=1):
            seeds = [line.seed for line in lines if (line.method, line.request) == (method, request)]
            stack = outputs.stack(run_dir, {seed: outputs.model_file(method, seed, request) for seed in seeds})
            oracles = outputs.read(run_dir, outputs.oracle_file(request))
            rows = np.array([who[0][row] == sender for row in oracles[outputs.ROWS + "unlearned"]])
            others = stranger[oracles[outputs.ROWS + "test"]]
            at = {"unlearned": rows, "test": others}
            labels = {side: oracles[outputs.LABELS + side][own] for side, own in at.items()}
            areas = functools.partial(_areas, at, labels)
            sides = {"before": areas(stack.sets, outputs.BEFORE), "after": areas(stack.sets)} if stack.members else {}
            found.setdefault(method, []).append({**sides, "oracles": areas(oracles)})
    return found


def _areas(
    at: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray], sets: outputs.Arrays, prefix: str = ""
) -> list[float]:
    """Of each network, what an attacker by margin finds of the unlearned rows among the strangers'."""
    own, other = (sets[prefix + side][:, rows] for side, rows in at.items())
    return [area(a, labels["unlearned"], b, labels["test"]) for a, b in zip(own, other, strict=True)]


def run(arguments: Sequence[str]) -> int:
    """Command line; returns the exit code."""
    return ended(lambda: tyro.cli(main, args=list(arguments), prog="python -m experiments.senders"))


def main(settings: Annotated[str, tyro.conf.arg(metavar="FILE")], run_dir: str) -> int:
    """Forget senders one after another, and audit each.

    Args:
        settings: JSON file, those of compare and how many `senders`.
        run_dir: folder of the run; the same command resumes there.
    """
    console, errors = consoles()
    try:
        given, folder = load_json(path_of(settings, "--settings")), path_of(run_dir, "--run-dir")
        number = given.pop("senders")
        methods, dataset_settings = (
            given.pop("methods"),
            {k: given[k] for k in given if k in ("dataset", "data", "per_class")},
        )
        dataset = load_dataset(from_dict(SCENARIOS["task_aware"].config, dataset_settings))
        mails = Path(given["data"]["directory"]) if given["dataset"] == "text" else None
        who = senders_of(dataset, mails)
        chosen = most(who[0], number)
        if len(chosen) < number:
            raise ValueError(f"senders is {number}, and the mails that are learned have {len(chosen)}: give fewer")
        folder.parent.mkdir(parents=True, exist_ok=True)
        requests, own = (folder.with_name(f"{folder.name}-{what}.json") for what in ("stream", "settings"))
        write(requests, stream(dataset, chosen, *who))
        write(own, json.dumps(given, indent=2) + "\n")
    except (ValueError, OSError, KeyError) as error:
        say(errors, "Error:", str(error))
        return 2
    words = ["--scenario", "task_aware", "--settings", str(own), "--stream", str(requests), "--run-dir", str(folder)]
    code = compare.run([*words, "--no-counterfactuals", "--no-show-unlearned", "--methods", *methods])
    if code and not RunFolder(folder).lost():  # seeds that diverged are counted; the others are audited
        return code
    try:
        privacy_audit.audit(folder, console)
        seals.write(folder, FILE, (json.dumps(attacked(folder, dataset, chosen, who), indent=1) + "\n").encode())
    except (ValueError, OSError) as error:
        say(errors, "Error:", str(error))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
