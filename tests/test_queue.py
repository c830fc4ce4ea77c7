"""The simulated queue against what can be solved by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.queue import LARGE, Cluster, Work, run, simulate


@pytest.mark.parametrize("cells, workers", [(1, 1), (7, 3), (9, 3), (10, 100)])
def test_equal_cells_without_kills_go_in_rounds(cells, workers):
    found = simulate(Work(1, cells, requests=4, request=2.0, start=3.0), Cluster(workers))
    assert found.seconds == math.ceil(cells / workers) * (3 + 4 * 2)
    assert (found.useful, found.starting, found.lost, found.kills) == (cells * 8, cells * 3, 0, 0)


def test_oracles_come_before_the_cells_of_their_table():
    work = Work(2, 3, request=5.0, start=1.0, oracles=2, oracle=10.0, oracle_bytes=7.0)
    found = simulate(work, Cluster(100))
    assert found.seconds == (1 + 20) + (1 + 5)
    assert found.useful == 2 * 20 + 6 * 5 and found.read == 6 * 14.0
    alone = simulate(work._replace(shared=False), Cluster(100))
    assert alone.seconds == 1 + 20 + 5 and alone.useful == 6 * 25 and alone.read == 0


def test_a_table_need_not_wait_for_the_oracles_of_another():
    """Three tables, two workers, cells of no length but their start: the third oracle runs beside the first cells."""
    work = Work(3, 1, request=4.0, oracles=1, oracle=10.0)
    # 0-10: two oracles; 10-20: the third beside both cells in turn (10-14, 14-18); 20-24: the last cell.
    assert simulate(work, Cluster(2)).seconds == 24
    # 0-10, 10-20: oracles; 20-24 two cells, 24-28 the third.
    assert simulate(work._replace(stages=True), Cluster(2)).seconds == 28


def test_reading_takes_its_share_of_the_bandwidth():
    work = Work(1, 4, request=1.0, oracles=3, oracle=1.0, oracle_bytes=10.0)
    found = simulate(work, Cluster(4, bandwidth=6.0))
    assert found.seconds == 3 + 30 * 4 / 6 + 1 and found.read == 120


@pytest.mark.parametrize("requests", [1, 4])
@pytest.mark.parametrize("kills, start, requeue", [(0.5, 0.3, 0.0), (1.0, 0.2, 0.7), (0.05, 1.0, 2.0)])
def test_the_mean_time_of_a_cell_that_is_killed(requests, kills, start, requeue):
    """`a + R (e^{λr} − 1) (1/λ + q + a)`, `a = (e^{λs} − 1) (1/λ + q)`: R requests of r seconds, s of a start, kills at
    rate λ, q until the next start. With f(k) the mean time to the end when k requests are left and one begins,
    f(k) = (1 − e^{−λr})/λ + e^{−λr} f(k−1) + (1 − e^{−λr}) (q + a + f(k)), and a start costs a in the same way."""
    request, cells = 1.0, 4000
    found = simulate(Work(1, cells, requests, request, start), Cluster(1, kills, requeue))
    # One worker, and the queue is long: a killed cell's delay costs no time; cells one after another in all.
    waits = 0.0
    a = math.expm1(kills * start) * (1 / kills + waits)
    mean = a + requests * math.expm1(kills * request) * (1 / kills + waits + a)
    deviation = mean * math.sqrt(1 / cells) * 3
    assert abs((found.useful + found.starting + found.lost) / cells - mean) < 3 * deviation
    alone = [simulate(Work(1, 1, requests, request, start), Cluster(1, kills, requeue), seed) for seed in range(2000)]
    a = math.expm1(kills * start) * (1 / kills + requeue)
    mean = a + requests * math.expm1(kills * request) * (1 / kills + requeue + a)
    seconds = np.array([each.seconds for each in alone])
    assert abs(seconds.mean() - mean) < 4 * seconds.std() / math.sqrt(len(seconds))


@settings(max_examples=50, deadline=None)
@given(
    tables=st.integers(1, 4),
    cells=st.integers(1, 6),
    requests=st.integers(1, 3),
    oracles=st.integers(0, 3),
    workers=st.integers(1, 5),
    kills=st.sampled_from([0.0, 0.1, 0.5]),
    shared=st.booleans(),
    stages=st.booleans(),
    seed=st.integers(0, 99),
)
def test_no_work_is_lost_or_done_twice(tables, cells, requests, oracles, workers, kills, shared, stages, seed):
    work = Work(tables, cells, requests, 1.5, 0.5, oracles, 2.0, 1.0, shared, stages)
    cluster = Cluster(workers, kills, 0.25)
    found = simulate(work, cluster, seed)
    assert found == simulate(work, cluster, seed)
    trained = tables * oracles * (1 if shared else cells)
    assert found.useful == pytest.approx(tables * cells * requests * 1.5 + trained * 2.0)
    busy = found.useful + found.starting + found.lost
    assert busy <= workers * found.seconds * (1 + 1e-12)
    longest = 0.5 + requests * 1.5 + (oracles * 2.0 + (0.5 if shared else 0) if oracles else 0)
    assert found.seconds >= max(longest, busy / workers) - 1e-9
    if not kills:
        # Graham: a list schedule with precedence takes no longer than this.
        assert found.seconds <= longest + busy / workers + 1e-9
        assert found.kills == 0 and found.lost == 0


def test_the_large_grid_is_what_its_page_says():
    assert LARGE.tables * LARGE.cells == 10_000
    assert 1.0e12 < LARGE.tables * LARGE.oracles * LARGE.oracle_bytes < 1.1e12


def test_its_table_has_a_row_a_plan():
    (table,) = run(True).tables
    assert len(table.rows) == 9 and table.markdown()
