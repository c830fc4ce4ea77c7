"""Measurements against numbers worked out by hand."""

import json
import math

import numpy as np
import pytest

from ugclu_jax.data.dataset import from_arrays
from ugclu_jax.evaluation import (
    MIA_LEAST,
    Accuracies,
    Labels,
    Logits,
    ModelMetrics,
    as_dict,
    measure_model,
    measure_oracles,
)
from ugclu_jax.requests import Groups, situations, task_aware

TRAIN_LABELS = np.array([0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3])
TEST_LABELS = np.array([0, 1, 2, 3, 3])
GROUPS = Groups({"low": (0, 1), "high": (2, 3)})


def rows(count):
    return np.zeros((count, 1), np.uint8)


def make_dataset(train_labels, test_labels):
    classes = [str(c) for c in range(4)]
    names = {"class_names": classes}
    return from_arrays("toy", rows(len(train_labels)), train_labels, rows(len(test_labels)), test_labels, **names)


DATASET = make_dataset(TRAIN_LABELS, TEST_LABELS)

LABELS = Labels(TRAIN_LABELS, TEST_LABELS)
HALF, QUARTER = math.log(2), math.log(4)


def logits_of(predictions, sure=20.0):
    """Outputs that put all but e^-20 on the predicted class."""
    return sure * np.eye(4)[np.asarray(predictions)]


def after(sequence):
    return situations(task_aware(TRAIN_LABELS, [(0, 1), (2, 3)], sequence), TRAIN_LABELS, TEST_LABELS, 4, GROUPS)


def measure(train, test, oracles, situation, history=()):
    theirs = measure_oracles(oracles, LABELS, situation, seed=0)
    return measure_model(Logits(train, test), LABELS, situation, history, 0, oracles, theirs.oracle), theirs


UNIFORM = np.zeros((2, 12, 4))
UNIFORM_ORACLES = Logits(UNIFORM, UNIFORM[:, :5])
KNOWN = ModelMetrics(  # an earlier request, all right
    Accuracies(1.0, 1.0, 1.0, None, None, None, None, {"low": 1.0, "high": 1.0}, {}), 0.0, None, None, None
)


def test_accuracies_and_divergences_of_a_model_by_hand():
    situation = after("L1 L2 U1")[-1]
    # Retained ids 2, 3, 6, 7, 10, 11: the last is wrong. Unlearned 0, 1, 4, 5, 8, 9: the first two are still known.
    train = logits_of([0, 1, 2, 3, 3, 3, 2, 3, 3, 3, 2, 2])
    # Test labels 0 1 2 3 3: class 0 known, 1 not; 2 known, 3 known once.
    test = logits_of([0, 2, 2, 3, 2])
    uniform_theirs = measure_oracles(UNIFORM_ORACLES, LABELS, situation, seed=0).oracle
    own, theirs = measure(train, test, UNIFORM_ORACLES, situation, [KNOWN, KNOWN])
    assert pytest.approx(1 - 2 / 3) == own.FM
    assert pytest.approx(5 / 6) == own.accuracies.RA
    assert pytest.approx(2 / 6) == own.accuracies.UA
    assert own.accuracies.TA == own.accuracies.LA == pytest.approx(2 / 3)
    assert own.accuracies.UA_test == pytest.approx(1 / 2)
    assert own.accuracies.group_accuracy == pytest.approx({"low": 1 / 2, "high": 2 / 3})
    assert own.accuracies.past_UA == pytest.approx({2: 2 / 6})
    # KL(uniform ‖ nearly one-hot) = Σ ¼ (log ¼ + 20·[wrong]) up to e^-20; the same on every input.
    for side in ("retained", "unlearned", "test", "unlearned_test"):
        assert getattr(own.divergences.KL, side) == pytest.approx(0.75 * 20 - QUARTER, abs=1e-6)
        assert getattr(theirs.noise_floor.KL, side) == pytest.approx(0, abs=1e-12)
    assert own.divergences.KL.learned is None and theirs.noise_floor.KL.learned is None
    # Uniform logits: argmax is class 0, hence UA* = 3/6, RA* = TA* = 0.
    assert pytest.approx(1 / 2) == uniform_theirs.UA and uniform_theirs.RA == uniform_theirs.TA == 0
    assert own.ToW == pytest.approx((1 - 1 / 6) * (1 - 5 / 6) * (1 - 2 / 3))
    assert own.accuracies.MIA is None and len(situation.retained) < MIA_LEAST  # too few to fit an attacker


def test_divergence_of_two_half_sure_models_by_hand():
    situation = after("L1")[-1]
    # Oracles: uniform over all four classes. Model: uniform over the first two, e^-40 on the others.
    half = np.tile([0.0, 0.0, -40.0, -40.0], (12, 1))
    own, _ = measure(half, half[:5], UNIFORM_ORACLES, situation)
    assert own.divergences.KL.learned == pytest.approx(0.5 * (-HALF) + 0.5 * (40 - HALF), rel=1e-6)
    # JS with m = (3/8, 3/8, 1/8, 1/8)
    js = 0.5 * (0.5 * math.log(2 / 3) + 0.5 * math.log(2)) + 0.5 * math.log(4 / 3)
    assert own.divergences.JS.learned == pytest.approx(js, rel=1e-6)


def test_noise_floor_and_oracle_metrics_are_means_over_oracles():
    situation = after("L1")[-1]
    half = np.tile([0.0, 0.0, -40.0, -40.0], (12, 1))
    pair = Logits(np.stack([np.zeros((12, 4)), half]), np.stack([np.zeros((5, 4)), half[:5]]))
    theirs = measure_oracles(pair, LABELS, situation, seed=0)
    there, back = 0.5 * (-HALF) + 0.5 * (40 - HALF), HALF  # KL of either direction
    assert theirs.noise_floor.KL.retained == pytest.approx((there + back) / 2, rel=1e-6)
    sure = Logits(
        np.stack([logits_of(TRAIN_LABELS), logits_of([2] * 12)]), np.stack([logits_of(TEST_LABELS), logits_of([2] * 5)])
    )
    assert pytest.approx((1 + 0) / 2) == measure_oracles(sure, LABELS, situation, seed=0).oracle.RA


def test_forgetting_and_relapse_look_back():
    stages = after("L1 L2 U1 L1 U1")
    perfect, nothing = [0, 1, 2, 3], [1, 0, 3, 2]
    # Predictions for labels 0..3 after each request.
    predictions = [perfect, [0, 0, 2, 3], nothing, [0, 1, 3, 2], [0, 0, 2, 3]]
    history, results = [], []
    for situation, answers in zip(stages, predictions, strict=True):
        answers = np.array(answers)
        train, test = logits_of(answers[TRAIN_LABELS]), logits_of(answers[TEST_LABELS])
        own, _ = measure(train, test, UNIFORM_ORACLES, situation, history)
        history.append(own)
        results.append(own)
    assert results[0].FM == 0  # nothing can have been forgotten
    assert pytest.approx(0.5) == results[1].FM  # "low" fell from 1 to 1/2; "high" is new
    assert pytest.approx(1.0) == results[2].FM  # "high" fell from 1 to 0; "low" is not retained
    assert pytest.approx(1.0) == results[3].FM  # "low" was learned anew and starts anew; "high" is still at 0
    assert pytest.approx(0.0) == results[4].FM  # "high" is back
    assert [own.relapse for own in results] == [None, None, 0.0, None, 0.0]
    assert results[2].accuracies.past_UA == {2: 0.0} and results[4].accuracies.past_UA == {4: 0.5}


def test_relapse_is_the_largest_rise_over_what_is_still_unlearned():
    stages = after("L1 U1 L2")
    values = []
    history = []
    for answers in ([0, 1, 2, 3], [1, 0, 2, 3], [0, 0, 2, 3]):
        answers = np.array(answers)
        train, test = logits_of(answers[TRAIN_LABELS]), logits_of(answers[TEST_LABELS])
        own, _ = measure(train, test, UNIFORM_ORACLES, stages[len(history)], history)
        history.append(own)
        values.append(own.relapse)
    assert values == [None, 0.0, 0.5]
    nothing_retained = history[1]
    assert (
        nothing_retained.accuracies.LA
        is nothing_retained.accuracies.RA
        is nothing_retained.FM
        is nothing_retained.ToW
        is None
    )
    assert nothing_retained.divergences.KL.retained is nothing_retained.divergences.KL.test is None
    assert nothing_retained.divergences.KL.unlearned is not None


def test_membership_is_attacked_where_there_are_enough():
    many = make_dataset(np.tile(TRAIN_LABELS, 10), np.tile(TEST_LABELS, 20))
    labels = Labels(many.train_labels, many.test_labels)
    stream = task_aware(labels.train, [(0, 1), (2, 3)], "L1 L2 U1")
    situation = situations(stream, labels.train, labels.test, 4, GROUPS)[-1]
    rng = np.random.default_rng(0)
    oracles = Logits(rng.normal(size=(2, 120, 4)), rng.normal(size=(2, 100, 4)))
    theirs = measure_oracles(oracles, labels, situation, seed=0).oracle
    # A model that is sure of whatever it was trained on, retained or not: members are told apart, and so is the rest.
    sure = Logits(logits_of(many.train_labels), rng.normal(size=(100, 4)))
    own = measure_model(sure, labels, situation, [KNOWN, KNOWN], 0, oracles, theirs)
    assert own.accuracies.MIA["loss"] > 0.95 and own.accuracies.MIA_AUC["loss"] > 0.95
    assert set(own.accuracies.MIA) == set(own.accuracies.MIA_AUC) == set(theirs.MIA)
    assert abs(theirs.MIA_AUC["loss"] - 0.5) < 0.25
    again = measure_model(sure, labels, situation, [KNOWN, KNOWN], 0, oracles, theirs)
    assert again == own


def test_metrics_survive_the_line_that_they_are_written_to():
    situation = after("L1 L2 U1")[-1]
    answers = logits_of(TRAIN_LABELS), logits_of(TEST_LABELS)
    whole, theirs = measure(*answers, UNIFORM_ORACLES, situation, [KNOWN, KNOWN])
    alone = measure_model(Logits(*answers), LABELS, situation, [KNOWN, KNOWN], seed=0)
    for own in (whole, alone):
        assert ModelMetrics.from_dict(json.loads(json.dumps(own.to_dict()))) == own
    accuracies = ["LA", "RA", "TA", "UA", "UA_test", "MIA", "MIA_AUC", "group_accuracy", "past_UA"]
    assert list(alone.to_dict()) == [*accuracies, "FM", "relapse"]
    assert list(whole.to_dict()) == [*accuracies, "FM", "relapse", "KL", "JS", "ToW"]
    assert list(whole.to_dict()["KL"]) == ["retained", "learned", "unlearned", "test", "unlearned_test"]
    assert as_dict(theirs) == {"oracle": as_dict(theirs.oracle), "noise_floor": as_dict(theirs.noise_floor)}
