"""The processes that read videos: as many as wanted, replaced when one crashes or takes too long."""

from __future__ import annotations

import io
import os
import stat
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import BrokenExecutor
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext
from typing import Any, BinaryIO, TypeVar

from pebble import ProcessExpired, ProcessFuture, ProcessPool

from shards.file_slice import Descriptor, Window
from shards.format import Reason
from shards.journal import Rejection
from shards.media.clip import Rejected
from shards.parent import GUARD, follow_parent
from shards.sources import Source

T = TypeVar("T")

# Results wait here for a slow one before them: one video may take as long as a dozen others. A record is about 5 MB,
# so this bounds memory at 80 MB a worker.
RESULTS_PER_WORKER = 16


class Lock:
    """A lock between processes, taken as often as its holder likes: who has read the byte in the pipe holds it.

    Python's own have names in /dev/shm where processes are spawned, which stay when all processes are killed at once.
    """

    def __init__(self, context: SpawnContext) -> None:
        self._byte, self._back = context.Pipe(duplex=False)
        os.set_blocking(self._byte.fileno(), False)
        self._held = 0
        os.write(self._back.fileno(), b".")

    def __getstate__(self) -> tuple[Connection, Connection]:
        return self._byte, self._back

    def __setstate__(self, ends: tuple[Connection, Connection]) -> None:
        (self._byte, self._back), self._held = ends, 0

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Whether the lock is taken; waits for it for `timeout` seconds, or for ever where that is None."""
        until = time.monotonic() + (timeout or 0.0 if block else 0.0)
        while not self._held:
            try:
                self._held = len(os.read(self._byte.fileno(), 1))
                return True
            except BlockingIOError:
                forever = block and timeout is None
                if not self._byte.poll(None if forever else max(0.0, until - time.monotonic())):
                    return False
        self._held += 1
        return True

    def release(self) -> None:
        """Give it back, once for each time that it was taken."""
        self._held -= 1
        if not self._held:
            os.write(self._back.fileno(), b".")


class _Spawn(SpawnContext):
    """Spawned, not forked: the caller may have threads, and a fork would copy their locks as they happen to be."""

    def RLock(self) -> Any:  # noqa: N802 - as the pool asks for it
        return Lock(self)


def in_workers(
    work: Callable[[Source], T | Rejection], sources: Sequence[Source], *, workers: int, time_limit_seconds: float
) -> Generator[T | Rejection, None, None]:
    """What `work`, a function that can be pickled, makes of each source, in the order of the sources.

    Close the generator, and the processes are gone. Raises RuntimeError when no processes can be kept running.
    """
    pool = ProcessPool(
        max_workers=min(workers, max(1, len(sources))),
        initializer=follow_parent,
        context=_Spawn(),
    )
    waiting: deque[tuple[Source, ProcessFuture]] = deque()
    begun = False
    try:
        for source in sources:
            waiting.append((source, pool.schedule(work, (source,), timeout=time_limit_seconds)))
            if len(waiting) >= RESULTS_PER_WORKER * workers:
                yield _result(*waiting.popleft(), time_limit_seconds)
                begun = True
        while waiting:
            yield _result(*waiting.popleft(), time_limit_seconds)
            begun = True
    except BrokenExecutor as error:
        raise RuntimeError(
            "the worker processes cannot be kept running (out of memory, or killed from outside?). What was packed "
            "is kept: run the same command again, with fewer workers, and it goes on where it was"
            if begun
            else f"the worker processes end as they start. Is there a guard? {GUARD}. Or is there no memory for them?"
        ) from error
    finally:
        pool.stop()
        pool.join()


def _result(source: Source, future: ProcessFuture, time_limit_seconds: float) -> T | Rejection:
    try:
        result: T | Rejection = future.result()
    except TimeoutError:
        return Rejection(source, Reason.TIMED_OUT, f"no result within {time_limit_seconds:g} s")
    except ProcessExpired as error:
        how = f"signal {-error.exitcode}" if error.exitcode < 0 else f"exit status {error.exitcode}"
        return Rejection(source, Reason.DECODER_CRASHED, f"its process ended with {how}")
    return result


def attempt(work: Callable[[BinaryIO], T], source: Source) -> T | Rejection:
    """What `work` makes of a source's content; whatever a broken file provokes costs that file only."""
    try:
        with opened(source) as file:
            return work(file)
    except Rejected as error:
        return Rejection(source, error.reason, error.detail)
    except OSError as error:
        return Rejection(source, Reason.UNREADABLE, error.strerror or str(error))
    except MemoryError:
        return Rejection(source, Reason.TOO_LARGE, "decoding it took more memory than there is")
    except Exception as error:
        return Rejection(source, Reason.UNDECODABLE, f"{type(error).__name__}: {error}")


def opened(source: Source) -> io.BufferedReader:
    if source.problem:
        raise OSError(source.problem)
    if source.offset is not None:
        window = Window(Descriptor(source.path), offset=source.offset, size=source.size)
        return io.BufferedReader(window)
    # Without O_NONBLOCK, opening a pipe that took the place of a listed file would wait for a writer for ever.
    number = os.open(source.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise OSError("not a regular file")
    return open(number, "rb")
