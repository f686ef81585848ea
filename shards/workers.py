"""Reads videos in worker processes that are replaced when they crash or time out; audits the sync of many videos."""

from __future__ import annotations

import contextlib
import errno
import io
import math
import os
import stat
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from functools import partial
from typing import TypeVar

from shards import Report
from shards.file_slice import Descriptor, Window
from shards.format import Reason
from shards.journal import Rejection
from shards.media import read_sync
from shards.media.clip import Rejected
from shards.processes import GUARD, Ended, NeverBegan, Processes
from shards.sources import Source, list_sources
from shards.store import Store, Url, as_url
from shards.sync import Sync

T = TypeVar("T")

# Size of the queue of results that wait for a slow one: one video may take as long as a dozen others. A record is about
# 5 MB, so memory is bounded to 80 MB a worker.
RESULTS_PER_WORKER = 16


def worker_count(workers: int | None, time_limit_seconds: float) -> int:
    """The number of processes, by default that of cores. Raises ValueError for an invalid number or time limit."""
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, not {workers}")
    if not time_limit_seconds > 0:
        raise ValueError(f"the time limit per video must be more than 0 seconds, not {time_limit_seconds}")
    return workers or len(os.sched_getaffinity(0))


def run_in_workers(
    function: Callable[[Source], T | Rejection], sources: Sequence[Source], *, workers: int, time_limit_seconds: float
) -> Generator[T | Rejection, None, None]:
    """Results of `function`, which must be picklable, for each source, in the order of the sources.

    Closing the generator ends the processes. Raises RuntimeError when processes end as they start.
    """
    pending: deque[tuple[Source, Future[T | Rejection]]] = deque()
    count = min(workers, max(1, len(sources)))
    with Processes(function, count=count, time_limit_seconds=time_limit_seconds) as processes:
        for source in sources:
            pending.append((source, processes.submit(source)))
            if len(pending) >= RESULTS_PER_WORKER * workers:
                yield _result(*pending.popleft(), time_limit_seconds)
        while pending:
            yield _result(*pending.popleft(), time_limit_seconds)


def _result(source: Source, future: Future[T | Rejection], time_limit_seconds: float) -> T | Rejection:
    try:
        return future.result()
    except TimeoutError:
        return Rejection(source, Reason.TIMED_OUT, f"no result within {time_limit_seconds:g} s")
    except Ended as error:
        return Rejection(source, Reason.DECODER_CRASHED, str(error))
    except NeverBegan as error:
        raise RuntimeError(
            f"the worker processes end as they start: {error}. Is there a guard? {GUARD}. Or is there no memory for "
            "them? What was packed is kept: run the same command again, with fewer workers, to resume"
        ) from error


def attempt(function: Callable[[io.BufferedReader], T], source: Source) -> T | Rejection:
    """Result of `function` for a source's open file; any error becomes a rejection of this file."""
    try:
        with open_source(source) as file:
            return function(file)
    except Rejected as error:
        return Rejection(source, error.reason, error.detail)
    except OSError as error:
        return Rejection(source, Reason.UNREADABLE, error.strerror or str(error))
    except MemoryError:
        return Rejection(source, Reason.TOO_LARGE, "decoding it took more memory than there is")
    except Exception as error:
        return Rejection(source, Reason.UNDECODABLE, f"{type(error).__name__}: {error}")


def open_source(source: Source) -> io.BufferedReader:
    if source.problem:
        raise OSError(source.problem)
    if url := as_url(source.path):
        return _fetch_to_file(url, source)
    if source.offset is not None:
        window = Window(Descriptor(source.path), offset=source.offset, size=source.size)
        return io.BufferedReader(window)
    # Without O_NONBLOCK, opening a pipe that replaced a listed file would block.
    number = os.open(source.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise OSError("not a regular file")
    return open(number, "rb")


def _fetch_to_file(url: Url, source: Source) -> io.BufferedReader:
    """Download an object, or a member of one, to an unnamed file, which is deleted when it is closed."""
    with tempfile.TemporaryFile() as copy:
        try:
            listed = (source.size if source.offset is None else None), source.mtime_ns
            store = Store(url.parent, reached=True)
            copy.writelines(store.pieces(url.name, source.size, offset=source.offset or 0, listed=listed))
            copy.seek(0)
        except ValueError as error:
            raise OSError(errno.ESTALE, str(error)) from None
        except OSError as error:
            note = "" if error.filename else f" in {tempfile.gettempdir()} (TMPDIR), where a file at a URL is read"
            raise OSError(error.errno, f"{error.strerror}{note}") from None
        return open(os.dup(copy.fileno()), "rb")


def audit_sync(
    inputs: Sequence[str | os.PathLike[str]],
    *,
    seconds: float = math.inf,
    workers: int | None = None,
    time_limit_seconds: float = 120.0,
    progress: Report | None = None,
) -> tuple[dict[str, Sync], list[Rejection]]:
    """Sync of the first `seconds` of every input by name, in their order, and the rejected inputs.

    inputs: as in `list_sources`.

    workers: number of processes, by default that of cores. A file that crashes its process or takes longer than
    `time_limit_seconds` is rejected. Raises ValueError for invalid arguments and missing inputs.
    """
    if not seconds > 0:
        raise ValueError(f"seconds must be more than 0, not {seconds}")
    workers = worker_count(workers, time_limit_seconds)
    sources = list_sources(inputs)
    if not sources:
        raise ValueError(f"there are no files in {', '.join(map(str, inputs))}: hidden ones (.name) do not count")
    function = partial(attempt, partial(read_sync, seconds=seconds))
    results = run_in_workers(function, sources, workers=workers, time_limit_seconds=time_limit_seconds)
    files: dict[str, Sync] = {}
    rejected: list[Rejection] = []
    with contextlib.closing(results):
        for done, (source, result) in enumerate(zip(sources, results, strict=True), start=1):
            if isinstance(result, Rejection):
                rejected.append(result)
            else:
                files[source.name] = result
            if progress is not None:
                progress(done, len(sources), source.name)
    return files, rejected
