"""The processes that make records: as many as there are cores, replaced when one crashes or takes too long."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import BrokenExecutor

from pebble import ProcessExpired, ProcessFuture, ProcessPool

from shards.format import PackSettings, Reason
from shards.journal import Rejection
from shards.parent import follow_parent
from shards.record import Record, make_record
from shards.sources import Source

# Results wait here for a slow one before them: one video may take as long as a dozen others. A result is about 5 MB,
# so this bounds memory at 80 MB a worker.
RESULTS_PER_WORKER = 16


def make_records(
    sources: Sequence[Source], settings: PackSettings, *, workers: int, time_limit_seconds: float
) -> Generator[Record | Rejection, None, None]:
    """What becomes of each source, in the order of the sources.

    Close the generator, and the processes are gone. Raises RuntimeError when no processes can be kept running.
    """
    # Spawned, not forked: the caller may have threads, and a fork would copy their locks as they happen to be.
    pool = ProcessPool(
        max_workers=min(workers, max(1, len(sources))),
        initializer=follow_parent,
        context=multiprocessing.get_context("spawn"),
    )
    waiting: deque[tuple[Source, ProcessFuture]] = deque()
    try:
        for source in sources:
            waiting.append((source, pool.schedule(make_record, (source, settings), timeout=time_limit_seconds)))
            if len(waiting) >= RESULTS_PER_WORKER * workers:
                yield _result(*waiting.popleft(), time_limit_seconds)
        while waiting:
            yield _result(*waiting.popleft(), time_limit_seconds)
    finally:
        pool.stop()
        pool.join()


def _result(source: Source, future: ProcessFuture, time_limit_seconds: float) -> Record | Rejection:
    try:
        result: Record | Rejection = future.result()
    except TimeoutError:
        return Rejection(source, Reason.TIMED_OUT, f"no result within {time_limit_seconds:g} s")
    except ProcessExpired as error:
        how = f"signal {-error.exitcode}" if error.exitcode < 0 else f"exit status {error.exitcode}"
        return Rejection(source, Reason.DECODER_CRASHED, f"its process ended with {how}")
    except BrokenExecutor as error:
        raise RuntimeError(
            "the packing processes cannot be kept running (out of memory, or killed from outside?). What was packed "
            "is kept: run the same command again, with fewer workers, and it goes on where it was"
        ) from error
    return result
