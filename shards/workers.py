"""The processes that read videos, replaced when one crashes or takes too long; an audit of many videos by them."""

from __future__ import annotations

import contextlib
import io
import math
import os
import stat
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
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

# Results wait here for a slow one before them: one video may take as long as a dozen others. A record is about 5 MB,
# so this bounds memory at 80 MB a worker.
RESULTS_PER_WORKER = 16


def in_workers(
    work: Callable[[Source], T | Rejection], sources: Sequence[Source], *, workers: int, time_limit_seconds: float
) -> Generator[T | Rejection, None, None]:
    """What `work`, a function that can be pickled, makes of each source, in the order of the sources.

    Close the generator, and the processes are gone. Raises RuntimeError when no processes can be kept running.
    """
    waiting: deque[tuple[Source, Future[T | Rejection]]] = deque()
    count = min(workers, max(1, len(sources)))
    with Processes(work, count=count, time_limit_seconds=time_limit_seconds) as processes:
        for source in sources:
            waiting.append((source, processes.submit(source)))
            if len(waiting) >= RESULTS_PER_WORKER * workers:
                yield _result(*waiting.popleft(), time_limit_seconds)
        while waiting:
            yield _result(*waiting.popleft(), time_limit_seconds)


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
            "them? What was packed is kept: run the same command again, with fewer workers, and it goes on where it was"
        ) from error


def attempt(work: Callable[[io.BufferedReader], T], source: Source) -> T | Rejection:
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
    if url := as_url(source.path):
        return _fetched(url, source)
    if source.offset is not None:
        window = Window(Descriptor(source.path), offset=source.offset, size=source.size)
        return io.BufferedReader(window)
    # Without O_NONBLOCK, opening a pipe that took the place of a listed file would wait for a writer for ever.
    number = os.open(source.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise OSError("not a regular file")
    return open(number, "rb")


def _fetched(url: Url, source: Source) -> io.BufferedReader:
    """An object, or a member of one, in a file without a name, which is gone when it is closed."""
    with tempfile.TemporaryFile() as copy:
        try:
            copy.writelines(Store(url.parent).pieces(url.name, source.size, offset=source.offset or 0))
            copy.seek(0)
        except OSError as error:
            here = "" if error.filename else f" in {tempfile.gettempdir()} (TMPDIR), where a file at a URL is read"
            raise OSError(error.errno, f"{error.strerror}{here}") from None
        return open(os.dup(copy.fileno()), "rb")


@dataclass(frozen=True)
class SyncAudit:
    """files: what was found, by the inputs' names and in their order. rejected: what could not be read, and why."""

    files: dict[str, Sync]
    rejected: list[Rejection]


def audit_sync(
    inputs: Sequence[str | os.PathLike[str]],
    *,
    seconds: float = math.inf,
    workers: int | None = None,
    time_limit_seconds: float = 120.0,
    progress: Report | None = None,
) -> SyncAudit:
    """Sync of the first `seconds` of every input; `inputs` are as in `list_sources`.

    workers: processes, by default as many as there are cores; one that crashes, or takes longer than
    `time_limit_seconds` for a file, costs that file. Raises ValueError for what the user can put right.
    """
    if not seconds > 0:
        raise ValueError(f"seconds must be more than 0, not {seconds}")
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, not {workers}")
    if not time_limit_seconds > 0:
        raise ValueError(f"the time limit per video must be more than 0 seconds, not {time_limit_seconds}")
    sources = list_sources(inputs)
    if not sources:
        raise ValueError(f"there are no files in {', '.join(map(str, inputs))}: hidden ones (.name) do not count")
    work = partial(_sync_of, seconds=seconds)
    cores = len(os.sched_getaffinity(0))
    results = in_workers(work, sources, workers=workers or cores, time_limit_seconds=time_limit_seconds)
    audit = SyncAudit({}, [])
    with contextlib.closing(results):
        for done, (source, result) in enumerate(zip(sources, results, strict=True), start=1):
            if isinstance(result, Rejection):
                audit.rejected.append(result)
            else:
                audit.files[source.name] = result
            if progress is not None:
                progress(done, len(sources), source.name)
    return audit


def _sync_of(source: Source, *, seconds: float) -> Sync | Rejection:
    return attempt(partial(read_sync, seconds=seconds), source)
