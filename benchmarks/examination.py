"""Which measure of unlearning passes fresh oracles, and what else does it take for unlearning?

Networks of embedded digits memorise 200 training examples, half of them with a wrong label, which then are to be
unlearned. Every measure gets six sets of networks of which it is known beforehand what they are: oracles of other
seeds, which it must pass, and five that are not distributed like them. Seeds were chosen before any was run.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import document
from benchmarks.process import ROOT
from ugclu_jax import data, evidence, metrics, models
from ugclu_jax.examples import bucket_size, pad_ids
from ugclu_jax.models.adapters import linen_apply_fn, normalise
from ugclu_jax.oracle import OracleSettings, oracle_program
from ugclu_jax.prediction import predict
from ugclu_jax.types import Array, Examples, ModelState, Params

DOCUMENT = ROOT / "docs" / "evidence.md"
NETWORKS, EPOCHS, UNLEARNED = 24, 40, 200
SEEDS = {"before": 0, "oracles": 1000, "fresh": 2000, "references": 3000}
"""First seed of each set of networks; the examples and their wrong labels are drawn with seed 0."""
FRESH, NOTHING, HALVED, MEAN, KNOWING, UNSURE = (
    "fresh oracles",
    "do nothing",
    "do nothing, logits halved",
    "mean of oracles",
    "oracles + 2 nats for the label",
    "oracles, logits halved",
)
PERMUTATIONS, LEVEL = 1999, 0.05


class Outputs(NamedTuple):
    """Logits of a set of networks."""

    unlearned: np.ndarray
    """[M, U, C] on the examples that are to be unlearned."""
    test: np.ndarray
    """[M, T, C] on test examples."""


class Networks(NamedTuple):
    """Everything that was trained, and what it was asked."""

    outputs: dict[str, Outputs]
    """Of the networks before, and of three sets of oracles, by the names of `SEEDS`."""
    labels: np.ndarray
    """[U] of the examples that are to be unlearned, as they were trained on: half of them wrong."""
    test_labels: np.ndarray
    """[T]."""


class Findings(NamedTuple):
    """What every measure says of one candidate."""

    energy: evidence.EnergyDistance
    test_energy: evidence.EnergyDistance
    matched: evidence.EnergyDistance
    klom: float
    """Gaussian KLoM, mean over examples."""
    rmia: float
    """Area under the curve against oracles on the same examples."""
    lira: float
    """Likewise of U-LiRA."""
    lira_at_one_percent: evidence.TruePositives
    quality: float
    """F, forgetting quality."""
    relative: evidence.RelativeTest
    kl: float
    """KL from the oracles on the unlearned examples, mean over networks, over its noise floor."""


class Measure(NamedTuple):
    """A row of the table."""

    name: str
    says: Callable[[Findings], str]
    rule: str
    passes: Callable[[Findings, Findings], bool]
    """Whether it takes a candidate for oracles, from what is found of it and of fresh oracles."""


def _distance(name: str, of: Callable[[Findings], evidence.EnergyDistance]) -> Measure:
    return Measure(
        name,
        lambda found: f"{of(found).value:.4f} ± {of(found).standard_error:.4f}",
        "below 3 standard errors",
        lambda found, _: of(found).value < 3 * of(found).standard_error,
    )


def _area(name: str, of: Callable[[Findings], float]) -> Measure:
    return Measure(
        name, lambda found: f"{of(found):.3f}", "within .05 of .5", lambda found, _: abs(of(found) - 0.5) < 0.05
    )


MEASURES = (
    _distance("E, unlearned", lambda found: found.energy),
    _distance("E, test", lambda found: found.test_energy),
    _distance("matched E, unlearned", lambda found: found.matched),
    Measure(
        "Gaussian KLoM, mean",
        lambda found: f"{found.klom:.3g}",
        "below twice fresh oracles",
        lambda found, fresh: found.klom < 2 * fresh.klom,
    ),
    _area("RMIA, AUC", lambda found: found.rmia),
    _area("U-LiRA, AUC", lambda found: found.lira),
    Measure(
        "U-LiRA, true positives at 1 %",
        lambda found: "{:.3f} ({:.3f}–{:.3f})".format(*found.lira_at_one_percent),
        "at most twice 1 %",
        lambda found, _: found.lira_at_one_percent.rate < 0.02,
    ),
    Measure(
        "forgetting quality F",
        lambda found: f"{found.quality:.3f}",
        "above half of fresh oracles",
        lambda found, fresh: found.quality > fresh.quality / 2,
    ),
    Measure(
        "relative test",
        lambda found: f"{'nearer' if found.relative.nearer else 'not nearer'}, p {found.relative.p_value:.4f}",
        f"nearer, p < {LEVEL:g}",
        lambda found, _: found.relative.nearer and found.relative.p_value < LEVEL,
    ),
    Measure("KL / floor, unlearned", lambda found: f"{found.kl:.3f}", "below 1.1", lambda found, _: found.kl < 1.1),
)


def train(networks: int = NETWORKS, epochs: int = EPOCHS) -> Networks:
    """Train all sets by one compiled program, and ask each network about unlearned and test examples."""
    digits = data.load("digits")
    rng = np.random.default_rng(0)
    unlearned = np.sort(rng.choice(len(digits.train_labels), UNLEARNED, replace=False))
    labels = digits.train_labels.copy()
    wrong = rng.permutation(unlearned)[: UNLEARNED // 2]
    labels[wrong] = (labels[wrong] + rng.integers(1, digits.num_classes, len(wrong))) % digits.num_classes
    module = models.create("mlp", digits.num_classes, input_shape=digits.train_inputs.shape[1:])
    preprocess = normalise(digits.mean, digits.std, digits.scale)
    inputs = jnp.asarray(digits.train_inputs)
    apply_fn = linen_apply_fn(module, preprocess)

    def init_fn(rng_key: Array) -> tuple[Params, ModelState]:
        return models.initialise("mlp", module, preprocess, rng_key, inputs[:1], models.ModelOptions())

    run = oracle_program(apply_fn, init_fn, OracleSettings(epochs=epochs))
    ask = jax.jit(jax.vmap(lambda network, x: predict(apply_fn, *network, x), in_axes=(0, None)))
    everything = np.arange(len(labels))
    outputs = {}
    for name, first in SEEDS.items():
        rows = everything if name == "before" else np.setdiff1d(everything, unlearned)
        padded = jnp.asarray(pad_ids(rows, bucket_size(len(everything))))
        examples = Examples(inputs, jnp.asarray(labels), padded, jnp.asarray(len(rows), jnp.int32))
        keys = jnp.stack([jax.random.key(first + i) for i in range(networks)])
        trained = run(keys, examples)
        on = (inputs[unlearned], jnp.asarray(digits.test_inputs))
        outputs[name] = Outputs(*(np.asarray(ask(trained, x), np.float64) for x in on))
    return Networks(outputs, labels[unlearned], digits.test_labels)


def candidates(found: Networks) -> dict[str, Outputs]:
    """Fresh oracles, and what is not distributed like them; of each as many networks as there are oracles."""
    before, fresh = found.outputs["before"], found.outputs["fresh"]
    mean = Outputs(*(np.stack([evidence.mean_of_oracles(logits)] * len(logits)) for logits in fresh))
    label = 2.0 * (np.arange(fresh.unlearned.shape[2]) == found.labels[:, None])
    return {
        FRESH: fresh,
        NOTHING: before,
        HALVED: Outputs(before.unlearned / 2, before.test / 2),
        MEAN: mean,
        KNOWING: Outputs(fresh.unlearned + label, fresh.test),
        UNSURE: Outputs(fresh.unlearned / 2, fresh.test / 2),
    }


def examine(candidate: Outputs, found: Networks) -> Findings:
    """Every measure of one candidate; attacks tell it from the oracles on the unlearned examples."""
    before, oracles, references = (found.outputs[name] for name in ("before", "oracles", "references"))

    def scores(networks: Outputs) -> np.ndarray:
        asked = (networks.unlearned, references.unlearned, found.labels)
        return evidence.rmia(*asked, networks.test, references.test, found.test_labels)

    attack = evidence.roc(*evidence.u_lira(candidate.unlearned, oracles.unlearned, found.labels))
    divergence = np.mean([metrics.oracle_divergence(oracles.unlearned, logits) for logits in candidate.unlearned])
    return Findings(
        energy=evidence.energy_distance(candidate.unlearned, oracles.unlearned),
        test_energy=evidence.energy_distance(candidate.test, oracles.test),
        matched=evidence.matched_energy_distance(candidate.unlearned, oracles.unlearned, candidate.test, oracles.test),
        klom=float(evidence.gaussian_klom(candidate.unlearned, oracles.unlearned, found.labels).mean()),
        rmia=evidence.roc(scores(candidate), scores(oracles)).auc,
        lira=attack.auc,
        lira_at_one_percent=evidence.true_positives_at(attack, 0.01),
        quality=evidence.forgetting_quality(candidate.unlearned, oracles.unlearned, found.labels).value,
        relative=evidence.relative_test(
            candidate.unlearned, oracles.unlearned, before.unlearned, permutations=PERMUTATIONS, seed=0
        ),
        kl=float(divergence) / metrics.noise_floor(oracles.unlearned),
    )


def table(found: dict[str, Findings]) -> document.Table:
    """A row a measure, a column a candidate; in bold where the measure takes the candidate for oracles."""
    rows = []
    for measure in MEASURES:
        cells = [
            f"**{measure.says(of)}**" if measure.passes(of, found[FRESH]) else measure.says(of) for of in found.values()
        ]
        rows.append((measure.name, *cells, measure.rule))
    return document.Table(
        "What each measure says of each set of networks; bold: it takes them for oracles",
        ("measure", *found, "it takes for oracles"),
        rows,
    )


def accuracies(found: Networks) -> str:
    """A sentence: how well the labels of unlearned and of test examples are known before, and to oracles."""
    shares = [
        np.mean(logits.argmax(2) == labels)
        for name in ("before", "oracles")
        for logits, labels in zip(found.outputs[name], (found.labels, found.test_labels), strict=True)
    ]
    return (
        "Accuracy on unlearned examples, by the labels they had, and on test examples: {:.3f} and {:.3f} before, "
        "{:.3f} and {:.3f} of the oracles.".format(*shares)
    )


def run() -> str:
    """Train, examine, and say it in markdown."""
    start = time.perf_counter()
    found = train()
    findings = {name: examine(candidate, found) for name, candidate in candidates(found).items()}
    return (
        f"{document.measured()}, by `python -m benchmarks.examination`, "
        f"{time.perf_counter() - start:.0f} seconds ({time.process_time():.0f} of processor time). {NETWORKS} networks "
        f"of each kind, MLP, {EPOCHS} epochs on 1,437 digits of which {UNLEARNED} are to be unlearned, half of these "
        f"with a wrong label. {accuracies(found)}\n\n{table(findings).markdown()}"
    )


if __name__ == "__main__":
    text = run()
    print(text)
    document.write("examination", document.marked("examination", text), {}, DOCUMENT)
