"""Where a training may stop: at points that come in the same order on all ranks, between two pieces of its work.

    asked       a rank that is asked to stop says so in the store of the heartbeat
    passed      each rank then says how many points it has passed, and waits at the next one until all have said so
    stopped     at the first point that no rank has passed, all of them

There is no collective in it, so a training that nobody asks to stop does not wait for it, and its ranks may drift.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from torch.distributed.distributed_c10d import Store

_ASKED = "asked to stop"


class Stopped(Exception):
    """All ranks have come to the point at which they stop; what was begun before it is left undone."""


class StopPoints:
    """The points of one rank. stop: whether it has been asked to stop."""

    def __init__(self, store: Store, *, rank: int, world_size: int, stop: Callable[[], bool] | None) -> None:
        self._store, self._rank, self._world_size, self._stop = store, rank, world_size, stop
        self._lock = threading.Lock()
        self._passed, self._said = 0, False
        self._last = 0
        self._agreed = threading.Event()

    def stops_here(self) -> bool:
        """Pass a point, or be told that this is the one to stop at; the thread that trains calls it."""
        with self._lock:
            if not self._said:
                self._passed += 1
                return False
        self._agreed.wait()
        self._passed += 1
        return self._passed == self._last

    def look(self) -> None:
        """See whether any rank has been asked, and what there is to say then; another thread calls it, now and then."""
        if self._agreed.is_set():
            return
        if self._stop is not None and self._stop():
            self._store.set(_ASKED, "")
        if not self._said and self._store.check([_ASKED]):
            with self._lock:
                self._said = True
            self._store.set(self._key(self._rank), str(self._passed))
        ranks = [self._key(rank) for rank in range(self._world_size)]
        if self._said and self._store.check(ranks):
            self._last = 1 + max(map(int, self._store.multi_get(ranks)))
            self._agreed.set()

    def _key(self, rank: int) -> str:
        return f"passed/{rank}"
