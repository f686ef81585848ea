"""Ranks that are asked to stop agree on where, without waiting for each other before."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from torch.distributed import TCPStore

from avc.distributed.stopping import StopPoints

RANKS, POINTS, EACH = 4, 600, 5  # points in all, and between two collectives


@pytest.mark.parametrize("seed", range(20))
def test_ranks_that_drift_between_their_collectives_stop_at_one_point_whichever_is_asked(seed: int) -> None:
    rng = random.Random(seed)
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    together = threading.Barrier(RANKS)
    asked, after = rng.randrange(RANKS), rng.uniform(0, 0.3)
    began = time.monotonic()

    def train(rank: int) -> int | None:
        """The point at which this rank stops; None where it comes to its end."""
        own = random.Random(seed * RANKS + rank)
        wanted = lambda: rank == asked and time.monotonic() - began > after  # noqa: E731
        points = StopPoints(store, rank=rank, world_size=RANKS, stop=wanted)
        over = threading.Event()

        def look() -> None:
            while not over.wait(own.uniform(0, 0.02)):
                points.look()

        looking = threading.Thread(target=look)
        looking.start()
        try:
            for point in range(POINTS):
                if points.stops_here():
                    return point
                time.sleep(own.uniform(0, 0.002))
                if point % EACH == EACH - 1:
                    together.wait(timeout=100)  # a collective: stopped at other points, the ranks would meet no more
            return None
        finally:
            together.wait(timeout=100)  # the end, at which all are
            over.set()
            looking.join()

    with ThreadPoolExecutor(RANKS) as threads:
        [*places] = threads.map(train, range(RANKS))
    assert len(set(places)) == 1
    assert places[0] is not None and places[0] > 0
