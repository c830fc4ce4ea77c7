"""Energy distances along a stream: their weighted sums against the distances themselves, and errors against loops."""

import numpy as np
import pytest

from experiments.long_stream import CLASSES, PARTS, sliding
from ugclu_jax import requests
from ugclu_jax.evidence import energy_distance, pair_distances, slope_weights, weighted_energy
from ugclu_jax.report.trends import Along

RNG = np.random.default_rng(0)


def stream(models=4, oracles=5, steps=3):
    return [(RNG.normal(size=(models, 6, 3)), RNG.normal(size=(oracles, 6, 3)) + t) for t in range(steps)]


def test_one_request_has_the_distance_and_its_error():
    models, oracles = stream(steps=1)[0]
    found, known = weighted_energy([pair_distances(models, oracles)], [1.0]), energy_distance(models, oracles)
    np.testing.assert_allclose(found, known[:2], rtol=1e-12)


def test_a_weighted_sum_is_that_of_the_distances_and_its_error_a_jackknife_of_the_sum():
    pairs, weights = stream(), np.array([0.5, -2.0, 1.0])
    found = weighted_energy([pair_distances(*each) for each in pairs], weights)

    def total(models, oracles):
        return sum(w * energy_distance(m[models], o[oracles]).value for w, (m, o) in zip(weights, pairs, strict=True))

    assert found.value == pytest.approx(total(range(4), range(5)), rel=1e-12)
    variance = 0.0
    for number, of in ((4, lambda kept: total(kept, range(5))), (5, lambda kept: total(range(4), kept))):
        left_out = [of([i for i in range(number) if i != one]) for one in range(number)]
        variance += (number - 1) / number * sum((each - sum(left_out) / number) ** 2 for each in left_out)
    assert found.standard_error == pytest.approx(variance**0.5, rel=1e-9)


def test_slopes_and_means_along_a_stream():
    pairs = [pair_distances(*each) for each in stream(steps=4)]
    found = Along((10, 12, 15, 20), tuple(pairs))
    assert found.slope().value == pytest.approx(100 * np.polyfit(found.requests, found.each(), 1)[0], rel=1e-9)
    assert found.mean().value == pytest.approx(np.mean(found.each()), rel=1e-12)


def test_a_method_less_itself_is_nothing_without_error():
    found = Along((0, 1), tuple(pair_distances(*each) for each in stream(steps=2)))
    assert found.minus(found).slope() == (0.0, 0.0)
    other = Along((0, 1), tuple(pair_distances(m + 1, o) for m, o in stream(steps=2)))
    assert found.minus(other).mean().value == pytest.approx(found.mean().value - other.mean().value, abs=1e-12)


def test_two_models_have_no_error():
    assert weighted_energy([pair_distances(*stream(models=2)[0])], [1.0]).standard_error is None


def test_what_has_no_slope_is_refused():
    with pytest.raises(ValueError, match=r"times are \[3.0, 3.0\]: .* two different ones"):
        slope_weights([3, 3])
    with pytest.raises(ValueError, match=r"weights have shape \(2,\) for 1 requests"):
        weighted_energy([pair_distances(*stream()[0])], [1.0, 1.0])


def test_the_stream_is_one_of_a_hundred_requests_over_thirty_tasks():
    words = sliding(CLASSES * PARTS, 15, 100).split()
    labels = np.arange(60) % CLASSES
    found = requests.task_aware(labels, requests.split_classes(CLASSES, CLASSES), " ".join(words), PARTS)
    assert len(found) == 100 and sum(each.kind == "unlearn" for each in found) == 43 and words[-1][0] == "U"
    assert {word[1:] for word in words if word[0] == "L"} == {str(task) for task in range(1, 31)}
    again = [word for place, word in enumerate(words) if word[0] == "L" and word in words[:place]]
    assert len(again) == 27
    assert [each.ids.tolist() for each in found[:3]] == [[0, 30], [10, 40], [20, 50]], "parts of the class 0"
