"""Answers without training as methods of a run: the network that was learned, its outputs changed before they are read.

Where nothing is unlearned yet they answer as the network does.
"""

from collections.abc import Callable, Mapping

import numpy as np

from ugclu_jax.evaluation import Logits
from ugclu_jax.harness.plan import RunFailed, Step

Answer = Callable[[Logits, Step, np.ndarray, Logits], Logits]
"""From outputs of a network, the request they were measured after, training labels, and outputs of the oracles."""


def answers(name: str, step: Step) -> bool:
    """Whether an unlearner changes outputs after a request; it may ask the oracles then."""
    return name in ANSWERS and step.situation.unlearned is not None


def answered(name: str, logits: Logits, step: Step, train_labels: np.ndarray, oracles: Logits) -> Logits:
    """The outputs that count as a method's, from those of its network `[N, C]`; for the unlearners that `answers`.

    Raises:
        RunFailed: there is no such answer.
    """
    try:
        return ANSWERS[name](logits, step, train_labels, oracles)
    except ValueError as error:
        raise RunFailed(f"{name} has no answer after request {step.index + 1}: {error}; leave it out") from error


def _masked(logits: Logits, step: Step, train_labels: np.ndarray, oracles: Logits) -> Logits:
    """Without the classes of which everything that was learned is unlearned."""
    from ugclu_jax.evidence import mask_logits  # scipy, which `--help` need not wait for; so below

    removed = np.setdiff1d(train_labels[step.situation.unlearned], train_labels[step.situation.retained])
    return Logits(*(mask_logits(each, removed.tolist()) for each in (logits.train, logits.test)))


def _cooled(logits: Logits, step: Step, train_labels: np.ndarray, oracles: Logits) -> Logits:
    from ugclu_jax.evidence import cool

    rows = step.view.situation.test
    test = logits.test[rows][None], oracles.test[:, rows]
    return Logits(*(cool(each[None], *test)[0] for each in (logits.train, logits.test)))


def _averaged(logits: Logits, step: Step, train_labels: np.ndarray, oracles: Logits) -> Logits:
    from ugclu_jax.evidence import mean_of_oracles

    return Logits(mean_of_oracles(oracles.train), mean_of_oracles(oracles.test))


ANSWERS: Mapping[str, Answer] = {"mask_logits": _masked, "cool": _cooled, "mean_of_oracles": _averaged}
