"""Learn and unlearn on a model's folder: understood first, then served, and committed as a whole."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ugclu_jax.harness.progress import Progress
from ugclu_jax.living import serving
from ugclu_jax.living.begin import cost_of, data_digest, versions
from ugclu_jax.living.gather import gathered
from ugclu_jax.living.held import Held, inserted, removed
from ugclu_jax.living.ledger import Ledger
from ugclu_jax.living.measures import of_request, verdict
from ugclu_jax.living.network import grown
from ugclu_jax.living.results import Done, Understood
from ugclu_jax.living.rows import Example, Row
from ugclu_jax.living.selection import Asked
from ugclu_jax.living.store import Store
from ugclu_jax.living.understanding import DEFAULT, current, understand_learning, understand_unlearning
from ugclu_jax.requests.validate import some
from ugclu_jax.types import RequestKind


class Who(NamedTuple):
    """For whom a request is served."""

    name: str | None = None
    by: str | None = None
    ticket: str | None = None


def key_of(held: Held, entry: int) -> jax.Array:
    """The key of an entry's request: an operation that is done again draws the same."""
    return jax.random.fold_in(jax.random.key(held.described.seed), entry)


def learn(
    store: Store,
    source: str,
    who: Who,
    method: str = DEFAULT,
    relearn: bool = False,
    progress: Progress | None = None,
) -> Done:
    """Learn what a source has and the model does not know; `progress`: bars of a terminal.

    Raises:
        ValueError, OSError: as `understand_learning`; another process writes; or retraining lacks source data.
    """
    with store.writing("learn") as ledger:
        asked = understand_learning(store, source, method, relearn)
        held, number, began = current(store), asked.understood.entry + 1, time.perf_counter()
        key, grow_key = jax.random.split(key_of(held, number))
        before = held
        if asked.understood.new_classes:
            held = held._replace(params=grown(held.described, held.params, asked.more, grow_key), described=asked.more)
        labels = np.array([held.described.classes.index(name) for name in asked.found.classes], np.int32)
        rows, out = np.flatnonzero(~asked.found.held_out), np.flatnonzero(asked.found.held_out)
        task = serving.examples(asked.found.inputs[rows], labels[rows].tolist(), held.described)
        numbers = np.array(asked.understood.trained, np.int64)
        if method == serving.RETRAIN:
            old = [row for row in ledger.present() if not row.example.held_out]
            inputs, known = _all_of(ledger, held, old)
            whole = serving.examples(
                [*inputs, *asked.found.inputs[rows]], [*known, *labels[rows].tolist()], held.described
            )
            outcome = serving.retrain(key, held, whole, progress)
            outcome = outcome._replace(held=outcome.held._replace(buffer=inserted(held.buffer, task, numbers)))
        else:
            outcome = serving.serve(key, held, method, "learn", task, numbers, np.zeros(0, np.int64), progress)
        after = outcome.held
        if out.size:
            sample = serving.examples(asked.found.inputs[out], labels[out].tolist(), held.described)
            after = after._replace(held_out=inserted(after.held_out, sample, np.array(asked.understood.held_out)))
        metrics = of_request(before, after, asked.found.inputs[:0], labels[:0])
        body = {
            "source": str(Path(source).absolute()) if Path(source).exists() else source,
            "classes": list(asked.understood.new_classes),
            "data": data_digest(asked.examples),
        }
        return _committed(
            store, ledger, "learn", who, method, asked.understood, before, after, outcome,
            time.perf_counter() - began, metrics, body, entering=asked.examples,
        )  # fmt: skip


def unlearn(
    store: Store,
    asked: Asked,
    who: Who,
    method: str = DEFAULT,
    sources: Sequence[str] = (),
    progress: Progress | None = None,
) -> Done:
    """Unlearn what a request means; no byte of it is in the folder afterwards.

    Args:
        store: of the model.
        asked: which examples.
        who: for whom.
        method: of the library, or `retrain`.
        sources: where the examples' inputs are, where not where they came from.
        progress: bars of a terminal; None: there is none.

    Raises:
        ValueError, OSError: as `understand_unlearning`; another process writes; no input is at hand and the method
            steps on them; or retraining lacks source data.
    """
    with store.writing("unlearn") as ledger:
        understood = understand_unlearning(store, asked, method)
        held, number, began = current(store), understood.entry + 1, time.perf_counter()
        present = {row.number: row for row in ledger.present()}
        rows = [present[each] for each in understood.trained]
        leaving = np.array([*understood.trained, *understood.held_out], np.int64)
        there = gathered(ledger, held, rows, sources)
        at_hand = [row for row in rows if row.number in there.inputs]
        labels = np.array([held.described.classes.index(row.example.class_name) for row in at_hand], np.int32)
        inputs = [there.inputs[row.number] for row in at_hand]
        notes = list(understood.notes)
        if there.missing:
            keys = some(np.array([row.example.key for row in there.missing]))
            notes.append(f"not at hand, so that nothing could step on them: {keys}")
        without = held._replace(buffer=removed(held.buffer, leaving), held_out=removed(held.held_out, leaving))
        key = key_of(held, number)
        if not rows:  # held-out ones alone: the network never saw them
            outcome, method = serving.Outcome(without, 0.0, serving.FREE), "none"
        elif method == serving.RETRAIN:
            gone = set(leaving.tolist())
            staying = [row for row in present.values() if row.number not in gone and not row.example.held_out]
            whole = serving.examples(*_all_of(ledger, held, staying), held.described)
            outcome = serving.retrain(key, without, whole, progress)
        elif not at_hand:
            raise ValueError(
                f"none of the {len(rows)} examples is at hand: their source is gone, and the buffer has none of them. "
                "Say where they are by --data, or retrain by --retrain, which does not read them"
            )
        else:
            task = serving.examples(inputs, labels.tolist(), held.described)
            numbers = np.array([row.number for row in at_hand])
            outcome = serving.serve(key, held, method, "unlearn", task, numbers, leaving, progress)
        after = outcome.held
        stack = np.stack(inputs) if inputs else np.zeros((0, *held.described.shape), held.described.dtype)
        metrics = of_request(held, after, stack, labels)
        body = {
            "not_at_hand": len(there.missing),
            "commitments": ledger.commitments(leaving.tolist()),
        }
        return _committed(
            store, ledger, "unlearn", who, method, understood._replace(notes=tuple(notes)), held, after,
            outcome, time.perf_counter() - began, metrics, body, leaving=leaving.tolist(),
        )  # fmt: skip


def _all_of(ledger: Ledger, held: Held, rows: Sequence[Row]) -> tuple[list[np.ndarray], list[int]]:
    """Inputs and labels of retained examples, all of them.

    Raises:
        ValueError: some are not at hand.
    """
    if not rows:
        raise ValueError("nothing would be retained: there is nothing to retrain on; delete the model's folder instead")
    there = gathered(ledger, held, rows)
    if there.missing:
        keys = some(np.array([row.example.key for row in there.missing]))
        raise ValueError(
            f"{keys} cannot be read from where it was learned, or has another content: retraining needs all that is "
            f"retained; put it back, unlearn it too, or choose --method {DEFAULT}"
        )
    labels = [held.described.classes.index(row.example.class_name) for row in rows]
    return [there.inputs[row.number] for row in rows], labels


def _committed(
    store: Store, ledger: Ledger, kind: RequestKind, who: Who, method: str, understood: Understood, before: Held,
    after: Held, outcome: serving.Outcome, seconds: float, metrics: dict[str, Any], body: dict[str, Any],
    entering: Sequence[Example] = (), leaving: Sequence[int] = (),
) -> Done:  # fmt: skip
    said = verdict(kind, metrics)
    name = who.name or understood.asked
    entry = store.commit(
        ledger,
        kind,
        {
            **body,
            "name": name,
            "by": who.by,
            "ticket": who.ticket,
            "asked": understood.asked,
            "method": method,
            "settings": dict(after.described.settings),
            "versions": versions(),
            "before": before.digest(),
            "after": after.digest(),
            "trained": len(understood.trained),
            "held_out": len(understood.held_out),
            "metrics": metrics,
            "verdict": said,
            "cost": cost_of(outcome.evaluations, seconds, outcome.cost),
        },
        entering=entering,
        leaving=leaving,
        generation=after.files(),
    )
    return Done(
        entry.number, kind, name, method, len(understood.trained), len(understood.held_out), seconds,
        outcome.cost.compile_seconds, outcome.evaluations, before.digest(), after.digest(), metrics, said,
        understood.notes,
    )  # fmt: skip
