"""What a request means before it is served: which examples, of which classes, and what it would cost."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ugclu_jax import data
from ugclu_jax.data.classes import in_order
from ugclu_jax.living import offered, serving
from ugclu_jax.living.gather import encoded, source_of
from ugclu_jax.living.held import Held, from_files
from ugclu_jax.living.ledger import Ledger
from ugclu_jax.living.network import Described
from ugclu_jax.living.results import Estimate, Understood
from ugclu_jax.living.rows import Example, Row
from ugclu_jax.living.selection import Asked, chosen
from ugclu_jax.living.store import MODEL_KINDS, Store
from ugclu_jax.requests.validate import some
from ugclu_jax.types import RequestKind

DEFAULT = "ug_clu"
"""The method with its one default, which nobody tunes."""


def current(store: Store) -> Held:
    """The model as it stands."""
    return from_files(store.current().files)


def is_there(source: str) -> bool:
    """Whether a source can be read again, by its name."""
    return Path(source).exists() or source in data.DATASETS


def estimate(
    ledger: Ledger,
    described: Described,
    kind: RequestKind,
    method: str,
    count: int,
    staying: Sequence[Row],
    more: str = "",
) -> Estimate:
    """What a request would cost by a method, and by training from scratch.

    Args:
        ledger: open.
        described: the network.
        kind: of the request.
        method: that is meant.
        count: examples to learn or to unlearn.
        staying: rows that retraining would read.
        more: a source that it would read beside theirs.
    """
    came = source_of(ledger)
    sources = list(dict.fromkeys([*(came[row.learned_by] for row in staying), *([more] if more else [])]))
    retained = sum(not row.example.held_out for row in staying) + (count if kind == "learn" else 0)
    costs = [serving.cost(described, name, kind, count, retained) for name in (method, serving.RETRAIN)]
    own, again = (_seconds(ledger, each, name) for each, name in zip(costs, (method, serving.RETRAIN), strict=True))
    missing = tuple(source for source in sources if not is_there(source))
    return Estimate(method, costs[0], own, costs[1], again, tuple(sources), missing)


def _seconds(ledger: Ledger, evaluations: float, method: str) -> float | None:
    """Of its steps, compilation apart, by the last request of the same method, or else the last of any."""
    spent = [e.body for e in ledger.entries() if e.kind in MODEL_KINDS and e.body.get("cost", {}).get("step_seconds")]
    alike = [body for body in spent if body["method"] == method] or spent
    return None if not alike else evaluations * alike[-1]["cost"]["step_seconds"] / alike[-1]["cost"]["evaluations"]


class Learning(NamedTuple):
    """What there is to learn."""

    understood: Understood
    found: offered.Offered
    examples: list[Example]
    more: Described


def understand_learning(store: Store, source: str, method: str = DEFAULT, relearn: bool = False) -> Learning:
    """What a source would teach the model, without any work.

    Raises:
        ValueError: an example was unlearned and `relearn` is not given, stands in the ledger with another content or
            class, or nothing is new; or the method or the inputs do not fit.
        OSError: the source cannot be read.
    """
    held = current(store)
    found = encoded(offered.read(source, held.described.image_size), held.tokenizer, held.described)
    examples = found.examples()
    with store.ledger() as ledger:
        present, known = ledger.present(), ledger.known([each.key for each in examples])
        changed = [each.key for each in examples if each.key in known and known[each.key].example[:3] != each[:3]]
        if changed:
            raise ValueError(
                f"{some(np.array(changed))}: an example of this key is retained with another content or class; unlearn "
                "it first, or give it another name"
            )
        new = [row for row, each in enumerate(examples) if each.key not in known]
        buried = ledger.buried([examples[row] for row in new])
        if buried and not relearn:
            raise ValueError(
                f"{some(np.array([each.key for each in buried]))}: unlearned before, by key or by content; leave it "
                "out, or give --relearn to learn it again"
            )
        found, examples = found.some(new), [examples[row] for row in new]
        trained = [row for row, each in enumerate(examples) if not each.held_out]
        if not trained:
            raise ValueError(
                f"{source} has nothing to learn: {len(known)} examples are learned already, others held out"
            )
        names = [name for name in in_order(found.classes) if name not in held.described.classes]
        more = _with_classes(held.described, names)
        serving.check_method(more, method, "learn")
        first = ledger.next_number()
        last = ledger.last()
        assert last is not None
        cost = estimate(ledger, more, "learn", method, len(trained), present, str(Path(source).absolute()))
    out = [row for row in range(len(examples)) if row not in set(trained)]
    notes = (*found.notes, *([f"{len(buried)} of them were unlearned before, and are learned again"] if buried else []))
    understood = Understood(
        "learn",
        source,
        tuple(first + row for row in trained),
        tuple(first + row for row in out),
        _counted([examples[row].class_name for row in trained]),
        tuple(each.key for each in examples[:3]),
        tuple(names),
        len(known),
        cost,
        last.number,
        notes,
    )
    return Learning(understood, found, examples, more)


def _with_classes(described: Described, names: Sequence[str]) -> Described:
    return dataclasses.replace(described, classes=(*described.classes, *names)) if names else described


def _counted(names: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name in names:
        found[name] = found.get(name, 0) + 1
    return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))


def understand_unlearning(store: Store, asked: Asked, method: str = DEFAULT) -> Understood:
    """What a request to unlearn means, without any work.

    Raises:
        ValueError: it names nothing that is retained, or the method is none.
    """
    held = current(store)
    serving.check_method(held.described, method, "unlearn")
    with store.ledger() as ledger, ledger.snapshot():
        present, last = ledger.present(), ledger.last()
        assert last is not None
        rows = chosen(asked, present)
        trained = [row for row in rows if not row.example.held_out]
        gone = {row.number for row in rows}
        staying = [row for row in present if row.number not in gone and not row.example.held_out]
        cost = estimate(ledger, held.described, "unlearn", method, len(trained), staying)
    notes = (
        [f"source data are not at hand ({', '.join(cost.missing)}): retraining is not possible"] if cost.missing else []
    )
    return Understood(
        "unlearn",
        asked.words(),
        tuple(row.number for row in trained),
        tuple(row.number for row in rows if row.example.held_out),
        _counted([row.example.class_name for row in trained]),
        tuple(row.example.key for row in rows[:3]),
        (),
        0,
        cost,
        last.number,
        tuple(notes),
    )
