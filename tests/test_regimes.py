"""From which number of epochs on there is something to unlearn, on rows made here."""

import pytest
from test_compared import row_of

from experiments import regimes
from ugclu_jax.report.compared import Measured
from ugclu_jax.report.evidence import Energy, Pair


def point(epochs: int, nothing: float, own: float | None) -> regimes.Point:
    return regimes.Point(epochs, 0.01, Measured(nothing, 0.01), {"a": None if own is None else Measured(own, 0.01)})


def test_the_onset_is_where_it_holds_from_there_on():
    """By counting back from the end in a way of its own."""
    for pattern in range(32):
        holds = [bool(pattern >> place & 1) for place in range(5)]
        found = regimes.onset(holds)
        wanted = [place for place in range(5) if all(holds[place:])]
        assert found == (wanted[0] if wanted else None)


def test_a_distance_within_the_noise_of_fresh_oracles_means_nothing():
    text = regimes.meaning([point(5, 0.019, 0.0), point(10, 0.021, 0.01), point(20, 0.2, 0.05)])
    assert text == (
        "from 10 epochs on doing nothing is told from fresh oracles (matched E .021 ±.010 there), "
        "a is nearer from 20 on"
    )
    assert regimes.meaning([point(5, 0.5, 0.5)]).endswith("a is nearer at no length")
    assert regimes.meaning([point(5, 0.5, None)]).endswith("a is nearer at no length")
    assert regimes.meaning([]) == "no cell has a distance of doing nothing"


def test_the_yardstick_is_that_of_fresh_oracles_where_there_is_one():
    nothing = row_of(0.3, 0.02)
    assert regimes.point_of(5, {"do_nothing": nothing, "a": row_of(0.1)}) == regimes.Point(
        5, 0.02, Measured(0.3, 0.02), {"a": Measured(0.1, 0.01)}
    )
    fresh = Pair(Energy(0.0, 0.001), Energy(0.0, 0.002))
    assert regimes.point_of(5, {"do_nothing": nothing._replace(fresh=fresh)}).fresh == pytest.approx(0.003)
    assert regimes.point_of(5, {"do_nothing": row_of(0.3, unfinished=1)}) is None


def test_sizes_and_epochs_that_are_none_are_refused():
    with pytest.raises(ValueError, match=r"epochs must be different numbers of 1 or more, got \(0, 5\)"):
        regimes.RegimesConfig(epochs=(0, 5))
    with pytest.raises(ValueError, match=r"sizes must be different numbers of 2 or more, got \(5, 5\)"):
        regimes.RegimesConfig(sizes=(5, 5))
