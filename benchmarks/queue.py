"""How long does a grid take on a cluster whose machines are taken away now and then, and what is lost?

A simulation, event by event, of cells in a queue: no training, the same numbers on every machine. A cell starts (it
imports, compiles and reads its oracles), then serves requests, each of which is saved when it ends. A machine is taken
away at random, at a constant rate while it works: the request in hand is lost, and the cell waits in the queue again.
The first cell of a table trains the table's oracles, with the same fate oracle by oracle; the others wait for it.
"""

import heapq
import itertools
import math
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from benchmarks import document
from benchmarks.document import Section, Table
from benchmarks.timing import number

HOUR, GIGABYTE = 3600.0, 1e9


class Cluster(NamedTuple):
    """Machines.

    Attributes:
        workers: cells that run at a time.
        kills: of one worker, a second of its work.
        requeue: seconds from a kill until the cell may start again.
        bandwidth: bytes a second of the file system that all share; infinite: reading takes no time.
    """

    workers: int
    kills: float = 0.0
    requeue: float = 0.0
    bandwidth: float = math.inf


class Work(NamedTuple):
    """A grid.

    Attributes:
        tables: comparisons.
        cells: of each, beside the one that trains its oracles.
        requests: of a cell.
        request: seconds of one.
        start: seconds until a cell serves its first request, reading not counted.
        oracles: of a table.
        oracle: seconds of one.
        oracle_bytes: of one on disk.
        shared: whether oracles are trained once a table; else every cell trains them all.
        stages: whether all oracles are waited for, as an array of jobs waits for another; else each table's own.
    """

    tables: int
    cells: int
    requests: int = 1
    request: float = 1.0
    start: float = 0.0
    oracles: int = 0
    oracle: float = 0.0
    oracle_bytes: float = 0.0
    shared: bool = True
    stages: bool = False


class Outcome(NamedTuple):
    """What became of a grid.

    Attributes:
        seconds: until the last cell ended.
        useful: seconds of workers in requests and oracles that were saved, each counted once.
        starting: seconds of workers in starts, those that were killed included.
        lost: seconds of workers in requests and oracles that were killed.
        kills: how many.
        read: bytes of oracles that were read.
    """

    seconds: float
    useful: float
    starting: float
    lost: float
    kills: int
    read: float

    def share(self, workers: int) -> float:
        """Of the workers' time that was useful."""
        return self.useful / (workers * self.seconds)


@dataclass
class _Job:
    """A cell, in the queue or on a worker."""

    table: int
    trains: bool  # the oracles of its table, for the others
    pieces: list[float]  # seconds of what is not saved yet
    reads: float  # bytes, at each start
    worked: float = 0.0  # seconds after its start until it is killed


def simulate(work: Work, cluster: Cluster, seed: int = 0) -> Outcome:
    """Run a grid to its end.

    Args:
        work: the grid.
        cluster: the machines.
        seed: of the kills.

    Returns:
        What became of it; the same for the same arguments.
    """
    rng = np.random.default_rng(seed)
    training, requests = [work.oracle] * work.oracles, [work.request] * work.requests
    waits = work.shared and work.oracles > 0
    held = work.oracles * work.oracle_bytes if waits else 0.0
    # All workers read at once at worst: each has its share of the bandwidth.
    reading = held * cluster.workers / cluster.bandwidth
    of_table = {
        table: [_Job(table, False, [*([] if waits else training), *requests], held) for _ in range(work.cells)]
        for table in range(work.tables)
    }
    ready = deque(
        [_Job(table, True, list(training), 0.0) for table in of_table]
        if waits
        else itertools.chain.from_iterable(of_table.values())
    )
    untrained, left = len(of_table) if waits else 0, work.tables * work.cells
    events: list[tuple[float, int, str, _Job]] = []
    order = itertools.count()  # of events at one time: as they were made
    now = useful = starting = lost = read = 0.0
    kills, free = 0, cluster.workers
    while untrained or left:
        while free and ready:
            free -= 1
            job = ready.popleft()
            start = work.start + (reading if job.reads else 0.0)
            end, killed = start + sum(job.pieces), rng.exponential(1 / cluster.kills) if cluster.kills else math.inf
            starting += min(start, killed)
            read += job.reads * (min(1.0, killed / start) if start else 1.0)
            job.worked = killed - start
            heapq.heappush(events, (now + min(end, killed), next(order), "ended" if end <= killed else "killed", job))
        now, _, what, job = heapq.heappop(events)
        if what == "queued":
            ready.append(job)
            continue
        free += 1
        if what == "killed":
            kills += 1
            while job.pieces and job.worked >= job.pieces[0]:
                job.worked -= job.pieces[0]
                useful += job.pieces.pop(0)
            lost += max(0.0, job.worked)
            heapq.heappush(events, (now + cluster.requeue, next(order), "queued", job))
            continue
        useful += sum(job.pieces)
        if not job.trains:
            left -= 1
            continue
        untrained -= 1
        if not work.stages:
            ready.extend(of_table[job.table])
        elif not untrained:
            ready.extend(itertools.chain.from_iterable(of_table.values()))
    return Outcome(now, useful, starting, lost, kills, read)


LARGE = Work(
    tables=100,
    cells=100,
    requests=7,
    request=60.0,
    start=60.0,
    oracles=7 * 32,
    oracle=45.0,
    oracle_bytes=47e6,
)
"""10,000 cells of ResNet-18 on 32 × 32 pictures: seven requests, 32 oracles each; 45 MB of weights and 2.4 of outputs
an oracle make 1.05 terabytes. Seconds are round figures for one card, and no measurement."""
CARDS = 256


def run(smoke: bool) -> Section:
    """The large grid under several plans and rates of kills."""
    work = LARGE._replace(tables=4, cells=10, oracles=14) if smoke else LARGE
    workers = 16 if smoke else CARDS
    plain = Cluster(workers, requeue=300.0)
    plans = {
        "each table's oracles first": (work, plain),
        "all oracles first, then all others (two arrays)": (work._replace(stages=True), plain),
        "no shared cache: each cell trains its own": (work._replace(shared=False), plain),
        "oracles first, a file system of 10 GB/s": (work, plain._replace(bandwidth=10 * GIGABYTE)),
        "oracles first, a file system of 1 GB/s": (work, plain._replace(bandwidth=GIGABYTE)),
        "oracles first, a machine lives 24 hours": (work, plain._replace(kills=1 / (24 * HOUR))),
        "oracles first, a machine lives 1 hour": (work, plain._replace(kills=1 / HOUR)),
        "oracles first, a machine lives 10 minutes": (work, plain._replace(kills=6 / HOUR)),
        "the same, nothing saved before a cell's end": (
            work._replace(requests=1, request=work.requests * work.request),
            plain._replace(kills=6 / HOUR),
        ),
    }
    rows = []
    for name, (own, cluster) in plans.items():
        found = simulate(own, cluster)
        hours = [found.seconds, found.useful, found.starting, found.lost]
        rows.append(
            (
                name,
                *(number(each / HOUR) for each in hours),
                str(found.kills),
                number(found.read / 1e12),
                f"{100 * found.share(workers):.0f} %",
            )
        )
    header = (
        "plan", "hours", "useful, card-hours", "starting", "lost", "kills", "terabytes read", "share useful",
    )  # fmt: skip
    terabytes = work.tables * work.oracles * work.oracle_bytes / 1e12
    note = (
        f"{work.tables * work.cells:,} cells in {work.tables} tables on {workers} cards; a start takes "
        f"{work.start:.0f} seconds, a request {work.request:.0f}, an oracle {work.oracle:.0f}, of which a table has "
        f"{work.oracles}; {terabytes:.2g} TB of oracles. A cell that is killed waits {plain.requeue:.0f} seconds. "
        "Simulated, not measured; the durations are assumptions, and the file system is taken to be read by all at "
        "once."
    )
    return Section([Table("A large grid in a queue", header, rows, note)])


if __name__ == "__main__":
    document.main("queue", __doc__, run)
