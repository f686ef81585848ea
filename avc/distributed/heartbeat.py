"""Signs of life between the ranks, so that no collective hangs for ever and the rank that is missing is named.

A collective cannot tell a dead peer from a slow one, nor which of the ranks it is: a peer that was killed closes its
connections to some, and one that is stopped, or behind a cut link, closes none; NCCL fails in neither case, it waits.
So each rank runs two threads.

    beat    twice a second: "I am alive, in step 17, reading" into the store that the ranks met at; does the next rank
            still beat? Is there a verdict? Has any rank been asked to stop?
    clock   ends this process once there is a verdict, or once the training waits longer than the limit

A rank whose next one is silent for long (`training.heartbeat_timeout_seconds`) says so: that is the verdict. Whoever
fails in a collective, or waits too long in one, compares all beats at two moments: a rank whose beat stands still is
gone or stopped; where all go on, one that is elsewhere than in the collective keeps the others. The first verdict in
the store is everybody's. Where the store itself does not answer, the process that keeps it is gone.

The process is ended by `os._exit`: what is left to clean up, the process group first of all, may wait for the peer that
is missing. The processes that read its data end with it (avc.data.prefetch).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

from torch.distributed.distributed_c10d import Store

from avc.distributed.agent import leave
from avc.distributed.stopping import StopPoints

BEAT_SECONDS = 0.5
COMPARED_AFTER_SECONDS = 2.0  # four beats: a rank on a busy machine may miss some
ANSWER_SECONDS = 5.0  # for the finding: a beat, the comparison, another beat, and some
READ_SECONDS = 1.5  # that rank 0, whose store it is, stays for the others to read the verdict
LEAVE_SECONDS = 60.0  # that rank 0 stays at the end for the slowest of the others
_WAITING, _VERDICT = "waiting for the others", "verdict"


class PeerLost(RuntimeError):
    """Another rank is gone, hangs, or has left with an error; says which, and in which step."""


class Heartbeat:
    """This rank's part in it. limit_seconds: the longest that a collective may take, in the first step and afterwards.

    silence_seconds: without a beat, after which the next rank or the store is taken for gone.
    stop: whether this rank has been asked to stop. Until its first step is done, which may take a while and has nothing
    to save, that is a reason to look whether another rank is gone: torchrun then asks the others to stop.
    """

    def __init__(
        self,
        store: Store,
        *,
        rank: int,
        world_size: int,
        limit_seconds: tuple[float, float],
        silence_seconds: float,
        stop: Callable[[], bool] | None = None,
    ) -> None:
        self._store, self._rank, self._world_size = store, rank, world_size
        self._first_limit, self._limit = limit_seconds
        self._silence_seconds = silence_seconds
        self._step, self._doing = 0, "starting"
        self._first_step: int | None = None
        self._starting, self._stop = True, stop
        self._since: float | None = None
        self._asked, self._found, self._closing = threading.Event(), threading.Event(), threading.Event()
        self._verdict, self._beats_made = "", 0
        self._points = StopPoints(store, rank=rank, world_size=world_size, stop=stop)
        self._store.set(self._key(rank), self._beat_text(0))
        self._store.wait([self._key(peer) for peer in range(world_size)])
        self._beating = threading.Thread(target=self._beat, daemon=True)
        self._beating.start()
        threading.Thread(target=self._watch_clock, daemon=True).start()

    def at(self, step: int, doing: str) -> None:
        """Note where the training is; other ranks can read it with the next beat."""
        self._step, self._doing = step, doing
        self._first_step = step if self._first_step is None else self._first_step
        self._starting = step == self._first_step

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """The block needs the other ranks. Raises PeerLost where it fails and one of them is gone."""
        before, self._doing, self._since = self._doing, _WAITING, time.monotonic()
        try:
            yield
        except RuntimeError as error:
            if self._ask():
                raise PeerLost(self._verdict) from error
            raise
        finally:
            self._doing, self._since = before, None

    def stops_here(self) -> bool:
        """Whether all ranks stop at this point (`avc.distributed.stopping`); every rank must ask, as often."""
        with self.waiting():
            return self._points.stops_here()

    def close(self, error: BaseException | None) -> None:
        """Leave. With an error, the others are told; without, rank 0 stays until all have left."""
        self._closing.set()
        self._beating.join(timeout=ANSWER_SECONDS)
        if self._beating.is_alive():  # it waits for a store that does not answer
            return
        with suppress(RuntimeError):
            if error is not None:
                text = f"rank {self._rank} left in step {self._step}: {' '.join(str(error).split())}"
                self._store.compare_set(_VERDICT, "", text)
                time.sleep(READ_SECONDS if self._rank == 0 else 0)
            else:
                self._store.set(f"left/{self._rank}", "")
                if self._rank == 0:
                    others = [f"left/{peer}" for peer in range(1, self._world_size)]
                    self._store.wait(others, timedelta(seconds=LEAVE_SECONDS))

    def _key(self, rank: int) -> str:
        return f"beat/{rank}"

    def _beat_text(self, number: int) -> str:
        return f"{number} {self._step} {self._doing}"

    def _beats(self) -> list[str]:
        return [beat.decode() for beat in self._store.multi_get([self._key(peer) for peer in range(self._world_size)])]

    def _beat(self) -> None:
        earlier: tuple[float, list[str]] | None = None
        neighbor = (self._rank + 1) % self._world_size
        silence = _Silence(self._silence_seconds)
        try:
            while not self._closing.wait(BEAT_SECONDS):
                self._beats_made += 1
                self._store.set(self._key(self._rank), self._beat_text(self._beats_made))
                if self._store.check([_VERDICT]):
                    self._find(self._store.get(_VERDICT).decode())
                    return
                self._points.look()
                beat = self._store.get(self._key(neighbor)).decode()
                if silence.lasts(beat) and not self._store.check([f"left/{neighbor}"]):
                    text = self._missing([neighbor], beat, "gone or stopped")
                    self._find(self._store.compare_set(_VERDICT, "", text).decode())
                    return
                if self._asked.is_set() and earlier is None:
                    earlier = time.monotonic(), self._beats()
                elif earlier is not None and time.monotonic() - earlier[0] > COMPARED_AFTER_SECONDS:
                    text = self._judge(earlier[1], self._beats())
                    self._find(self._store.compare_set(_VERDICT, "", text).decode() if text else "")
                    if text:
                        return
                    earlier = None
                    self._asked.clear()
        except RuntimeError:  # torch's errors of a store; while this rank closes, rank 0 may have closed before
            if not self._closing.is_set():
                self._find(self._store_is_gone())

    def _judge(self, before: list[str], after: list[str]) -> str:
        """Who is missing, in words; empty where all are alive and where they should be."""
        silent = [rank for rank in range(self._world_size) if before[rank] == after[rank]]
        elsewhere = [rank for rank, beat in enumerate(after) if beat.split(" ", 2)[2] != _WAITING]
        if not silent and (self._since is None or not self._too_long()):
            return ""
        if not silent and not elsewhere:
            return f"all ranks are alive and wait for each other in step {self._step}: the network between them fails"
        named = silent or elsewhere
        what = "gone or stopped" if silent else "alive but not where the others wait"
        return self._missing(named, after[named[0]], what)

    def _missing(self, ranks: list[int], beat: str, what: str) -> str:
        """The verdict on ranks, of which the first has left this beat."""
        names = ("rank " if len(ranks) == 1 else "ranks ") + ", ".join(map(str, ranks))
        _, step, doing = beat.split(" ", 2)
        return f"{names} {what}, last seen in step {step}, {doing}; rank {self._rank} missed it in step {self._step}"

    def _find(self, verdict: str) -> None:
        self._verdict = verdict
        self._found.set()

    def _ask(self) -> str:
        """The verdict on why a collective fails; empty where nobody is missing."""
        self._asked.set()
        if not self._found.wait(ANSWER_SECONDS):
            self._find(self._store_is_gone())
        if not self._verdict:
            self._found.clear()
        return self._verdict

    def _too_long(self) -> bool:
        since = self._since
        limit = self._first_limit if self._starting else self._limit
        return since is not None and time.monotonic() - since > limit

    def _watch_clock(self) -> None:
        silence = _Silence(self._silence_seconds)
        while not self._closing.wait(BEAT_SECONDS):
            if silence.lasts(str(self._beats_made)) and not self._found.is_set():
                self._find(self._store_is_gone())  # the store does not answer the thread that beats
            if self._too_long() or (self._starting and self._stop is not None and self._stop()):
                self._ask()
            elif self._found.is_set() and self._verdict:
                self._closing.wait(2 * BEAT_SECONDS)  # the training may be about to fail by itself, in words of its own
            if self._verdict and not self._closing.is_set():
                time.sleep(READ_SECONDS if self._rank == 0 else 0)
                leave(self._verdict)

    def _store_is_gone(self) -> str:
        return (
            f"rank 0, which keeps the store of the ranks, is gone, stopped or cut off; rank {self._rank} missed it in "
            f"step {self._step}"
        )


class _Silence:
    """Counts looks, a beat apart, at a sign of life that does not change. Of looks: who was stopped itself has none."""

    def __init__(self, seconds: float) -> None:
        self._sign, self._looks, self._most = "", 0, seconds / BEAT_SECONDS

    def lasts(self, sign: str) -> bool:
        """Look at the sign; whether it has been the same for too long."""
        self._sign, self._looks = sign, self._looks + 1 if sign == self._sign else 0
        return self._looks >= self._most
