"""What evidence there is that a request to unlearn did so, without retraining; and with it, where that is asked for.

Population attack and drift: `measures.py`. RMIA: every unlearned example against N reference networks that never saw
it, trained from scratch on the buffer by one mapped program, and kept in the folder. With `oracle`: networks trained
from scratch on all that is retained, the distances of the model to them, and theirs among themselves, the floor.

References:
    Yeom et al., arXiv 1709.01604 (the population attack); Zarifzadeh et al., arXiv 2312.03262 (RMIA).
"""

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from ugclu_jax import bank
from ugclu_jax.evidence.energy import hellinger_distances
from ugclu_jax.evidence.operating import roc, true_positives_at
from ugclu_jax.evidence.rmia import rmia
from ugclu_jax.harness.progress import Progress
from ugclu_jax.living import chain, gather, measures, offered, serving
from ugclu_jax.living.held import Held, filled
from ugclu_jax.living.ledger import Ledger
from ugclu_jax.living.measures import LEAST, area, mean
from ugclu_jax.living.network import network
from ugclu_jax.living.rows import Entry
from ugclu_jax.living.store import REFERENCES, Store
from ugclu_jax.living.understanding import current, is_there
from ugclu_jax.metrics import noise_floor, oracle_divergence
from ugclu_jax.types import ModelState, Params

ORACLES = 3
"""Networks that stand for retraining; their mutual distance is the floor."""
_PURPOSE = {"references": 71, "oracles": 72}  # what goes into the keys beside the seed
EVIDENCE = (
    "This is evidence, not proof: an attack that finds nothing is one attack, and weights may know what none of these "
    "asks for. The proof is training from scratch (--retrain)."
)


class Gone(NamedTuple):
    """Unlearned examples that are still at hand somewhere, told by their tombstones."""

    inputs: np.ndarray
    labels: np.ndarray
    wanted: int  # how many were trained on and left, held-out ones included


def audit(
    store: Store,
    number: int | None,
    references: int,
    oracle: bool,
    sources: Sequence[str],
    progress: Progress | None = None,
) -> dict[str, Any]:
    """See `LivingModel.audit`."""
    if references < 0 or references == 1:
        raise ValueError(f"references is {references}: it must be 0, or 2 or more networks")
    with store.writing("audit") as ledger:
        entry = ledger.last(("unlearn",)) if number is None else ledger.entry(number)
        if entry is None or entry.kind != "unlearn":
            what = "nothing was unlearned yet" if entry is None else f"entry {entry.number} is of kind {entry.kind}"
            raise ValueError(f"{what}: an audit is of a request to unlearn; see history")
        held = current(store)
        gone = found_again(ledger, held, entry, sources)
        found: dict[str, Any] = {"request": entry.number, "at_the_request": entry.body["metrics"]}
        if len(gone.labels):
            found["now"] = measures.of_request(held, held, gone.inputs, gone.labels)
        digests: dict[str, str] = {}
        if references:
            networks, digests = _trained_on_buffer(store, held, references, progress)
            found["rmia"] = against_references(held, networks, gone)
        if oracle:
            found["oracle"] = _against_oracles(ledger, held, gone, progress)
        found["sentences"] = [*sentences(entry, found, gone, references), EVIDENCE]
        body = {
            "name": f"audit of {entry.number}",
            "asked": f"entry {entry.number}",
            "request": entry.number,
            "found": found,
            "references": digests,
        }
        store.commit(ledger, "audit", body)
    return found


def found_again(ledger: Ledger, held: Held, entry: Entry, sources: Sequence[str]) -> Gone:
    """The examples that an entry unlearned, where a source still has them."""
    marks = {left.content_tombstone for left in ledger.left() if left.left_by == entry.number}
    places = list(sources) or [source for source in gather.source_of(ledger).values() if is_there(source)]
    inputs, labels = list[np.ndarray](), list[int]()
    for place in dict.fromkeys(places):
        try:
            there = gather.encoded(offered.read(place, held.described.image_size), held.tokenizer, held.described)
        except (OSError, ValueError):
            if sources:
                raise
            continue
        for example, row in zip(there.examples(), there.inputs, strict=True):
            mark = chain.tombstone(ledger.secret, "content", example.content)
            if mark in marks and not example.held_out and example.class_name in held.described.classes:
                marks.discard(mark)
                inputs.append(row)
                labels.append(held.described.classes.index(example.class_name))
    shape = (0, *held.described.shape)
    stack = np.stack(inputs) if inputs else np.zeros(shape, held.described.dtype)
    return Gone(stack, np.array(labels, np.int32), entry.body["trained"])


def _trained_on_buffer(
    store: Store, held: Held, number: int, progress: Progress | None
) -> tuple[list[tuple[Params, ModelState]], dict[str, str]]:
    """Reference networks from the folder, or trained now, with the digests of their files."""
    inputs, labels, numbers = filled(held.buffer)
    data = hashlib.sha256(np.ascontiguousarray(inputs).tobytes() + labels.tobytes()).hexdigest()
    made = network(held.described)
    settings, purpose = held.described.config().oracle, _PURPOSE["references"]
    name = bank.content_hash(data=data, ids=numbers, model=made.description, settings=settings, purpose=purpose)
    folder = store.path / REFERENCES / name
    like = jax.eval_shape(made.init_fn, jax.random.key(0))
    task = serving.examples(inputs, labels.tolist(), held.described)

    def train(seeds: tuple[int, ...], size: int) -> list[Any]:
        filled_up = [*seeds, *seeds[:1] * (size - len(seeds))]
        keys = jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(purpose), seed))(np.array(filled_up, np.uint32))
        made, _ = serving.trained(keys, held.described, task, f"{len(seeds)} reference networks", progress)
        return made[: len(seeds)]

    found = [tree for _, tree in bank.members(folder, range(number), like, train, at_once=number)]
    files = (bank.file_of(folder, seed) for seed in range(number))
    return found, {f"{name}/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _logits(held: Held, networks: Sequence[tuple[Params, ModelState]], inputs: np.ndarray) -> np.ndarray:
    """Outputs of several networks, [networks, N, C]."""
    return np.stack([held._replace(params=params, model_state=state).logits(inputs) for params, state in networks])


def against_references(held: Held, networks: Sequence[tuple[Params, ModelState]], gone: Gone) -> dict[str, Any] | None:
    """RMIA of the unlearned examples, against held-out ones that no network saw; None where there are too few.

    Half of the held-out examples are the population of the attack; the other half is what the unlearned are told from.
    """
    inputs, labels, _ = filled(held.held_out)
    known = np.isin(labels, np.unique(filled(held.buffer)[1]))
    alike = known & np.isin(labels, gone.labels)
    rows = np.flatnonzero(alike if alike.sum() >= 2 * LEAST else known)
    if len(rows) < 2 * LEAST or len(gone.labels) < LEAST:
        return None
    population, others = rows[::2], rows[1::2]
    sets = {"gone": (gone.inputs, gone.labels)} | {
        name: (inputs[each], labels[each]) for name, each in (("population", population), ("others", others))
    }
    own = {name: held.logits(each) for name, (each, _) in sets.items()}
    theirs = {name: _logits(held, networks, each) for name, (each, _) in sets.items()}
    scores = {
        name: rmia(
            own[name], theirs[name], sets[name][1], own["population"], theirs["population"], sets["population"][1]
        )
        for name in ("gone", "others")
    }
    curve = roc(scores["gone"], scores["others"])
    rate = true_positives_at(curve, 0.01)
    resolved = np.isfinite(rate.rate)
    return {
        "area": [round(value, 6) for value in area(scores["gone"], scores["others"])],
        "same_classes": bool(alike[rows].all()),
        "references": len(networks),
        "population": len(population),
        "others": len(others),
        "true_positives_at_1_percent": [round(value, 6) for value in rate] if resolved else None,
    }


def _against_oracles(ledger: Ledger, held: Held, gone: Gone, progress: Progress | None) -> dict[str, Any]:
    rows = [row for row in ledger.present() if not row.example.held_out]
    there = gather.gathered(ledger, held, rows)
    if there.missing:
        raise ValueError(
            f"{len(there.missing)} retained examples are not at hand: an oracle is trained on all of them; put them "
            "back, or leave --oracle out"
        )
    labels = [held.described.classes.index(row.example.class_name) for row in rows]
    task = serving.examples([there.inputs[row.number] for row in rows], labels, held.described)
    seeds = np.arange(ORACLES, dtype=np.uint32)
    keys = jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(_PURPOSE["oracles"]), seed))(seeds)
    networks, _ = serving.trained(keys, held.described, task, f"{ORACLES} oracles", progress)
    sets = {"held_out": filled(held.held_out)[0], "unlearned": gone.inputs}
    return {name: distances(held, networks, inputs) for name, inputs in sets.items() if len(inputs)}


def distances(held: Held, networks: Sequence[tuple[Params, ModelState]], inputs: np.ndarray) -> dict[str, Any]:
    """How far a model is from oracles, and they from one another, on some inputs.

    `E₁ = mean_x [mean_o d(m, o) − mean_{o≠o′} d(o, o′)]` with the Hellinger distance d: 0 in expectation where the
    model is one more oracle. The energy distance itself needs several models; a folder has one.
    """
    own, theirs = held.logits(inputs)[None], _logits(held, networks, inputs)
    across = hellinger_distances(own, theirs).mean((-2, -1))
    pairs, number = hellinger_distances(theirs, theirs), len(networks)
    among = (pairs.sum((-2, -1)) - np.trace(pairs, axis1=-2, axis2=-1)) / (number * (number - 1))
    return {
        "excess": [round(value, 6) for value in mean(across - among)] if len(inputs) > 1 else None,
        "hellinger": round(float(across.mean()), 6),
        "hellinger_floor": round(float(among.mean()), 6),
        "kl": round(oracle_divergence(theirs, own[0]), 6),
        "kl_floor": round(noise_floor(theirs), 6),
        "oracles": number,
    }


def sentences(entry: Entry, found: dict[str, Any], gone: Gone, references: int) -> list[str]:
    """What an audit found, in words."""
    body = entry.body
    said = [f"Request {entry.number} ({body['asked']}) unlearned {body['trained']} examples by {body['method']}."]
    if len(gone.labels):
        said.append(f"{len(gone.labels)} of them are still at hand, and were asked again.")
        said.append(_today(found["now"]))
    else:
        said.append(f"None of them is at hand any more. At the request: {measures.verdict('unlearn', body['metrics'])}")
    for name, words in (("buffer", "the buffer"), ("held_out", "held-out examples")):
        if drift := body["metrics"].get(name):
            (moved, *_), (changed, low, high) = drift["moved"], drift["changed"]
            said.append(
                f"Drift on {words} by the request: {100 * changed:.1f} % of {drift['count']} predictions changed "
                f"({100 * low:.1f} … {100 * high:.1f} %), outputs moved by {moved:.3g} nats."
            )
    classes = body["metrics"].get("classes", {})
    fell = {name: after[0] - before[0] for name, (before, after) in classes.items() if after[0] != before[0]}
    if fell:
        parts = (f"{name} {change:+.3f}" for name, change in sorted(fell.items(), key=lambda item: item[1])[:5])
        said.append(f"Accuracy on held-out examples that changed, by class: {', '.join(parts)}.")
    if references:
        if found["rmia"] is None:
            said.append(
                f"RMIA: fewer than {LEAST} unlearned or {2 * LEAST} held-out examples are at hand; it says nothing."
            )
        else:
            value, low, high = found["rmia"]["area"]
            told = "do not tell" if low <= 0.5 <= high else "tell"
            others = "held-out examples" if found["rmia"]["same_classes"] else "held-out examples of other classes"
            said.append(
                f"RMIA against {references} reference networks: its scores {told} the unlearned from {others} "
                f"(area {value:.3f}, {low:.3f} … {high:.3f}; 0.5 is a guess)."
            )
    for name, each in found.get("oracle", {}).items():
        said.append(
            f"On {name.replace('_', '-')} inputs the model is {each['hellinger']:.3f} (Hellinger) from "
            f"{each['oracles']} retrained networks, which are {each['hellinger_floor']:.3f} from one another; KL "
            f"{each['kl']:.3g}, floor {each['kl_floor']:.3g}."
        )
    return said


def _today(metrics: dict[str, Any]) -> str:
    """What the network says of the unlearned examples now."""
    _, (right, low, high) = metrics["unlearned"]["accuracy"]
    said = f"Today it is right on {right:.3g} of them ({low:.3g} … {high:.3g})"
    return f"{said}; {measures.told_by_loss(metrics['attack'])}." if "attack" in metrics else f"{said}."
